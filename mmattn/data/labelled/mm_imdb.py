"""MM-IMDb: films with a plot and a poster, and their genres.

Arevalo, Solorio, Montes-y-Gómez, González, "Gated Multimodal Units for Information Fusion", ICLR
2017 workshop.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.captions import clean_caption
from mmattn.data.findings import listing, nearest, some
from mmattn.data.images import inside
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import fields_fault, is_any, read_json, type_name
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.errors import DataError

HEAD = "genres"
# The 23 most frequent ones, the most frequent first: the authors' code drops the rest (News, Adult,
# Talk-Show, Reality-TV).
GENRES = (
    "Drama",
    "Comedy",
    "Romance",
    "Thriller",
    "Crime",
    "Action",
    "Adventure",
    "Horror",
    "Documentary",
    "Mystery",
    "Sci-Fi",
    "Fantasy",
    "Family",
    "Biography",
    "War",
    "History",
    "Music",
    "Animation",
    "Musical",
    "Western",
    "Sport",
    "Short",
    "Film-Noir",
)
SPLIT_FILE, FOLDER = "split.json", "dataset"
SPLITS: Mapping[str, str] = MappingProxyType({"train": "train", "dev": "val", "test": "test"})
HOW_TO_GET = (
    "The authors link mmimdb.tar.gz from http://lisi1.unal.edu.co/mmimdb/: it holds split.json and "
    "dataset/, a JSON and a JPEG file for each film. Give the folder with both as root."
)


class MMIMDb:
    """The `LabelledSource` that reads MM-IMDb as its authors distribute it.

    As in their code, the text is the longest of a film's plots, and the label those of its genres
    that are among the 23; films without a plot or without such a genre are left out.

    Args:
        root: the folder with split.json and dataset/.
        leave_out_bad: leave out films whose poster is missing or damaged, as the authors' code
            does with missing ones.
    """

    def __init__(self, root: str | Path, leave_out_bad: bool = False):
        self.root, self.leave_out_bad = absolute(root), leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read the lists, every film, and the header of every poster.

        Raises:
            DataError: for a file that is not as described, a film in two splits, and a poster that
                cannot be used.
        """
        check_layout(self.root, HOW_TO_GET, {"lists": SPLIT_FILE}, {"films": FOLDER})
        notes: list[str] = []
        lists = self._read_lists(notes)
        dropped: dict[str, list[str]] = {}
        parts = self._read_films(lists, dropped)
        notes += [f"{reason}: {some(names)}" for reason, names in dropped.items()]
        heads = {HEAD: HeadSpec("multi", GENRES)}
        store = FolderStore(self.root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _read_lists(self, notes: list[str]) -> dict[str, list[str]]:
        """Return split -> ids, each once."""
        path = self.root / SPLIT_FILE
        lists = read_json(path)
        fault = fields_fault(lists, dict.fromkeys(SPLITS, (list,)))
        strange = [] if fault else [name for name in lists if name not in SPLITS]
        if strange:
            fault = f"unknown list {strange[0]!r}{nearest(strange[0], SPLITS)}"
        if fault:
            raise DataError(f"{path}: {fault}. It must hold the lists train, dev and test.")
        self._check_lists(path, lists)
        for name, ids in lists.items():
            repeated = [film for film, count in Counter(ids).items() if count > 1]
            if repeated:
                notes.append(f"{SPLIT_FILE}, {name}: repeated ids, left out: {some(repeated)}")
        return {SPLITS[name]: list(dict.fromkeys(ids)) for name, ids in lists.items()}

    def _check_lists(self, path: Path, lists: Mapping[str, list[Any]]) -> None:
        """Raise `DataError` for ids that are no text, and for films in two lists."""
        faults = [
            f"{name}[{i}] is {type_name(film)}, where a text such as '0063350' was expected"
            for name, ids in lists.items()
            for i, film in enumerate(ids)
            if not (isinstance(film, str) and film)
        ]
        if not faults:
            home: dict[str, str] = {}
            for name, ids in lists.items():
                for film in dict.fromkeys(ids):
                    if home.setdefault(film, name) != name:
                        faults.append(f"{film} is in {home[film]} and in {name}")
        if faults:
            raise DataError(
                f"{path} has {len(faults):,} problems:\n{listing(faults)}\n"
                "A film belongs to one list, by the digits of its id."
            )

    def _read_films(
        self, lists: Mapping[str, list[str]], dropped: dict[str, list[str]]
    ) -> dict[str, list[Example]]:
        """Return split -> examples; raise one `DataError` naming the films that cannot be read."""
        faults: list[str] = []
        parts: dict[str, list[Example]] = {split: [] for split in lists}
        for split, ids in lists.items():
            for film in ids:
                try:
                    example = self._film(film, dropped)
                except DataError as error:
                    faults.append(str(error))
                    continue
                if example is not None:
                    parts[split].append(example)
        if faults:
            total = len(list(chain(*lists.values())))
            raise DataError(
                f"{len(faults):,} of {total:,} films cannot be read:\n{listing(faults)}\n"
                f"Unpack the archive again. {HOW_TO_GET}"
            )
        return parts

    def _film(self, film: str, dropped: dict[str, list[str]]) -> Example | None:
        """Return a film as an example; None where the authors leave it out, noted in `dropped`."""
        name = f"{FOLDER}/{film}.json"
        value = read_json(inside(self.root, name))
        fault = _fault(value)
        if fault:
            raise DataError(f"{self.root / name}: {fault}")
        text = _longest(value.get("plot", []), name)
        genres = tuple(genre for genre in GENRES if genre in value.get("genres", []))
        others = [genre for genre in value.get("genres", []) if genre not in GENRES]
        for genre in dict.fromkeys(others):
            dropped.setdefault(f"Films of the genre {genre}, which is not used", []).append(film)
        if text is None or not genres:
            why = "plot" if text is None else "genre that is used"
            dropped.setdefault(f"Films without a {why}, left out", []).append(film)
            return None
        return Example(film, {HEAD: genres}, (f"{FOLDER}/{film}.jpeg",), text, name)


def _fault(value: Any) -> str | None:
    """Return what is wrong with a film's file, or None; plots and genres may lack."""
    there = [name for name in ("plot", "genres") if isinstance(value, dict) and name in value]
    fault = fields_fault(value, dict.fromkeys(there, (list,)))
    if fault:
        return fault
    for name in there:
        for item in value[name]:
            if not is_any(item, (str,)):
                return f"{name!r} holds {type_name(item)}, where a text was expected"
    return None


def _longest(plots: list[str], name: str) -> str | None:
    """Return the first of the longest plots, None if there is none or it is empty."""
    try:
        return clean_caption(max(plots, key=len)) if plots else None
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
