"""What a captioner says of one picture, and what it attended to while it said so."""

import base64
import html
import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.errors import ConfigError
from mmattn.files import write_whole
from mmattn.maps.archive import save_attention
from mmattn.maps.png import encoded, save_png
from mmattn.maps.record import AttentionRecord
from mmattn.maps.words import merge
from mmattn.pipeline.json_line import json_line

PAGE_MB = 1.5  # what a page may take for each of its captions


@dataclass(frozen=True, repr=False)
class Caption:
    """One caption of one picture.

    Attributes:
        name: of the picture, its path where it has one.
        text: the caption.
        words: those of `text`, as white space parts them.
        tokens: what each token says, the end token left out; `ids` are their numbers.
        log_probs: the model's log-probability of each token, and at last that of the end token,
            where the caption did not end because it may not be longer.
        score: what captions of one picture are ranked by: the sum of `log_probs` over
            length^length_penalty for beams, their mean otherwise; with by="consensus" the mean
            CIDEr-D with the other candidates, with by="clip" 2.5 times the cosine, with neighbours
            the CIDEr-D with their captions added to it.
        attention: the weights by which the caption was written, None where they were not asked for.
        others: further captions of the same picture, best first, where several were asked for.
    """

    name: str
    text: str
    words: tuple[str, ...]
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    attention: AttentionRecord | None = None
    others: tuple["Caption", ...] = ()

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Caption({self.text!r}, score={self.score:.3f}, name={self.name!r})"

    @property
    def maps(self) -> np.ndarray:
        """The map of each word over the image's patches, float64 [W, h, w].

        Mean over heads of the last layer that was recorded, and over a word's tokens. Raises
        ConfigError where no attention was recorded.
        """
        record = self._recorded()
        return merge(record.methods[0].maps, record.words)

    def picture(self) -> np.ndarray:
        """Return the picture and one overlay for each word, uint8 [height, width, 3].

        Raises ConfigError where no attention was recorded.
        """
        from mmattn.maps.record_pictures import word_strip  # with matplotlib, which takes a second

        return word_strip(self._recorded())

    def save(self, path: str | Path) -> Path:
        """Write the caption to a file, whole or not at all; the suffix says what.

        .html is a page to explore the maps in, those of the `others` too, .png the overlay of every
        word, .npz the numbers, .json the caption without its maps.

        Raises:
            ConfigError: for another suffix, where no attention was recorded for one of the first
                three, and where it is more than a page holds.
        """
        path = Path(path)
        writers = {".html": self._save_page, ".npz": self._save_numbers}
        writers |= {".png": self._save_picture, ".json": self._save_text}
        if path.suffix.lower() not in writers:
            raise ConfigError(f"{path}: a caption is saved as one of {', '.join(sorted(writers))}")
        writers[path.suffix.lower()](path)
        return path

    def show(self) -> None:
        """Show the caption: in a notebook as its cell's output, elsewhere as a page in a browser.

        Without recorded attention the caption is printed; without a browser, where the page is.
        """
        if self.attention is None:
            print(self.text)
        elif in_notebook():
            from IPython.display import display  # pyright: ignore[reportMissingImports]

            display(self)
        else:
            folder = Path(tempfile.mkdtemp(prefix="mmattn-"))  # stays: a browser reads it later
            page = self.save(folder / "caption.html").resolve()
            if not webbrowser.open(page.as_uri()):
                print(f"{self.text}\nits attention: open {page} in a browser")

    def to_dict(self) -> dict[str, Any]:
        """Return the caption as JSON holds it, without attention."""
        own = {
            "caption": self.text,
            "score": self.score,
            "words": list(self.words),
            "tokens": list(self.tokens),
            "ids": list(self.ids),
            "log_probs": list(self.log_probs),
        }
        others = [{k: v for k, v in one.to_dict().items() if k != "image"} for one in self.others]
        return {"image": self.name, **own} | ({"others": others} if others else {})

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        text = f"<figcaption>{html.escape(self.text)}</figcaption>"
        if self.attention is None:
            return f"<figure>{text}</figure>"
        data = base64.b64encode(encoded(self.picture())).decode()
        picture = f'<img alt="{html.escape(self.text)}" src="data:image/png;base64,{data}">'
        return f"<figure>{picture}{text}</figure>"

    def _save_page(self, path: Path) -> None:
        """Write the page of this caption and its others."""
        from mmattn.maps.viewer import save_viewer

        records = [one._recorded() for one in (self, *self.others)]
        try:
            save_viewer(path, records, budget_mb=PAGE_MB * len(records))
        except ValueError as error:
            raise ConfigError(
                f"{path}: {error}; or keep fewer layers: attention=AttentionChoice(layers=-1)"
            ) from None

    def _save_picture(self, path: Path) -> None:
        save_png(path, self.picture())

    def _save_numbers(self, path: Path) -> None:
        save_attention(path, self._recorded())

    def _save_text(self, path: Path) -> None:
        write_whole(path, json_line(self.to_dict()))

    def _recorded(self) -> AttentionRecord:
        if self.attention is None:
            raise ConfigError(
                "no attention was recorded with this caption: caption with attention=True"
            )
        return self.attention


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, of whatever maker."""
    try:
        from IPython import get_ipython  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
