"""An attention report as files: JSON for programs, Markdown for a README, HTML for a browser."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from mmattn.files import write_whole
from mmattn.reports.results import Report
from mmattn.reports.tables import COLUMNS, Cell, Table, tables
from mmattn.reports.verdict import verdict
from mmattn.training.results import write_results

NAME = "attention_report"
TITLE = "Are the attention maps better than the controls?"
CONTROLS = (
    "Intervals hold 95 % of 2,000 draws of the images. Controls: a uniform map; a Gaussian in the "
    "middle (a quarter of each side wide); the same method on the model with random weights (three "
    "draws); a shuffled caption: a caption's maps, handed out to its words in random order. The "
    "same place of another image's caption is no control but a question of its own: what is left "
    "of the map where only the place in the sentence is known."
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1e22; background: #f6f7f9;
       max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1rem; margin-top: 2.5rem }
.headline { font-weight: 600 }
div { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; background: #fff }
th, td { border: 1px solid #d5d8de; padding: .25rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1.5rem }
"""


def write_report(report: Report, folder: str | Path) -> list[Path]:
    """Write `attention_report.json`, `.md` and `.html` to a folder; return the files."""
    folder = Path(folder)
    paths = [folder / f"{NAME}.{suffix}" for suffix in ("json", "md", "html")]
    write_results(paths[0], report.figures())
    write_whole(paths[1], markdown(report).encode())
    write_whole(paths[2], page(report).encode())
    return paths


def markdown(report: Report) -> str:
    """Return the report as Markdown: the verdict, then the tables."""
    parts = [*verdict(report), *(markdown_table(table) for table in tables(report)), CONTROLS]
    return "\n\n".join(parts) + "\n"


def page(report: Report) -> str:
    """Return the report as one HTML page: nothing is fetched, no script runs, text is escaped."""
    first, *others = (escape(sentence) for sentence in verdict(report))
    meanings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>" for name, meaning in COLUMNS.values()
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(TITLE)}</title><style>{STYLE}</style></head><body>
<h1>{escape(TITLE)}</h1>
<p class="headline">{first}</p>
{"".join(f"<p>{sentence}</p>" for sentence in others)}
<p>{escape(CONTROLS)}</p>
{"".join(_html_table(table) for table in tables(report))}
<h2>What the figures mean</h2><dl>{meanings}</dl>
</body></html>
"""


def markdown_table(table: Table) -> str:
    """Return a table as Markdown under its title."""
    rows = [table.header, ["---"] * len(table.header), *([c.text for c in r] for r in table.rows)]
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"**{table.title}**\n\n" + "\n".join(lines)


def _html_table(table: Table) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{''.join(_html_cells(row))}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><div><table><tr>{header}</tr>{rows}</table></div>"


def _html_cells(row: Iterable[Cell]) -> Iterable[str]:
    for cell in row:
        heat = (
            "" if cell.heat is None else f' style="background: rgb(240 120 40 / {cell.heat:.2f})"'
        )
        yield f"<td{heat}>{escape(cell.text)}</td>"
