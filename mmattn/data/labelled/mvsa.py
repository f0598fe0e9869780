"""MVSA: tweets with a picture, and the sentiments that annotators saw in text and picture.

Niu, Zhu, Pang, El Saddik, "Sentiment Analysis on Multi-View Social Data", MultiMedia Modeling 2016.
One label of text and picture is made of the two as in Xu and Mao, "MultiSentiNet: A Deep Semantic
Network for Multimodal Sentiment Analysis", CIKM 2017.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.division import check_shares, divide, held_out_note
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError, DataError

LABEL_FILE = "labelResultAll.txt"
CLASSES = ("negative", "neutral", "positive")
HEAD = "sentiment"
# Annotators -> columns of the header behind ID: MVSA-Single has one, MVSA-Multiple three.
ANNOTATORS = (1, 3)
HOW_TO_GET = (
    "MVSA-Single and MVSA-Multiple are linked from "
    "http://www.mcrlab.net/research/mvsa-sentiment-analysis-on-multi-view-social-data/; unpack one "
    "of them and give the folder with labelResultAll.txt and data/ as root."
)


@dataclass
class _Dropped:
    """What the label file holds and cannot be used: reason -> ids."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def notes(self) -> list[str]:
        """Return a note for every reason."""
        return [f"{reason}, left out: {some(ids)}" for reason, ids in self.ids.items()]


class MVSA:
    """The `LabelledSource` that reads MVSA-Single or MVSA-Multiple as the authors distribute it.

    Text and picture of a tweet are labelled apart; the tweet's label is theirs where they agree,
    and that of the other one where one is neutral. Tweets with a positive and a negative side are
    left out. Of three annotators, the label of two counts; where all differ, the tweet is left out.

    There is no official split: validation and test are held out, 8 : 1 : 1 of every class by
    default, by `seed`. Published figures are of other, random splits of this size.

    The texts are in several encodings: the first of `encodings` that fits a file is taken.

    Args:
        root: the folder with labelResultAll.txt and data/.
        val_fraction, test_fraction: the shares held out.
        seed: of what is held out.
        encodings: of the texts, in the order in which they are tried.
        leave_out_bad: leave out tweets whose picture is missing or damaged: in the release of
            MVSA-Multiple, some are.

    Raises:
        ConfigError: for shares that leave nothing for training.
    """

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        encodings: Sequence[str] = ("utf-8", "gb18030", "latin-1"),
        leave_out_bad: bool = False,
    ):
        self.shares = {"val": val_fraction, "test": test_fraction}
        check_shares({f"{split}_fraction": share for split, share in self.shares.items()})
        self.root, self.seed, self.encodings = absolute(root), seed, tuple(encodings)
        self.leave_out_bad = leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read labels and texts, and the header of every picture.

        Raises:
            DataError: for a malformed line, an unknown sentiment, and a tweet without its files.
        """
        check_layout(self.root, HOW_TO_GET, {"labels": LABEL_FILE}, {"texts and pictures": "data"})
        dropped = _Dropped()
        labels = _read_labels(self.root / LABEL_FILE, dropped)
        examples = self._examples(labels, dropped)
        notes = dropped.notes()
        if not examples:
            why = "".join(f"\n  {note}" for note in notes)
            raise DataError(f"{self.root / LABEL_FILE} has no tweet that can be used{why}")
        divided = divide(examples, self.shares, self.seed, HEAD)
        notes.append(held_out_note(divided, self.seed))
        heads = {HEAD: HeadSpec("single", CLASSES)}
        store = FolderStore(self.root)
        return assemble(divided, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _examples(self, labels: dict[str, tuple[int, str]], dropped: _Dropped) -> list[Example]:
        """Return the tweets that have a text."""
        problems = Problems(self.root / LABEL_FILE)
        found = []
        for name, (line, label) in labels.items():
            text = self._text(name, line, problems)
            if text is None:
                dropped.ids["Empty texts"].append(name)
                continue
            place = f"{LABEL_FILE}:{line}"
            found.append(Example(name, {HEAD: label}, (f"data/{name}.jpg",), text, place))
        problems.raise_if_any(f"Unpack the archive again, or delete these lines. {HOW_TO_GET}")
        return found

    def _text(self, name: str, line: int, problems: Problems) -> str | None:
        """Return a tweet's text, None if it is empty; add to `problems` one that is missing."""
        path = self.root / "data" / f"{name}.txt"
        try:
            data = path.read_bytes()
        except OSError as error:
            problems.add(line, f"data/{name}.txt cannot be read: {error.strerror}")
            return ""
        for encoding in self.encodings:
            try:
                return clean_caption(data.decode(encoding))
            except LookupError as error:
                raise ConfigError(f"encodings: {error}. Try utf-8, gb18030 or latin-1.") from error
            except UnicodeDecodeError:
                continue
        problems.add(line, f"data/{name}.txt is none of {', '.join(self.encodings)}")
        return ""


def _read_labels(path: Path, dropped: _Dropped) -> dict[str, tuple[int, str]]:
    """Return id -> (line, label) of the tweets that have one label."""
    lines = read_lines(path)
    header = lines[0].rstrip().split("\t")
    annotators = len(header) - 1
    problems = Problems(path)
    if annotators not in ANNOTATORS or header != ["ID", *["text,image"] * annotators]:
        problems.add(1, f"the header is {excerpt(lines[0])}, not ID and 1 or 3 times text,image")
        problems.raise_if_any(HOW_TO_GET)
    seen: dict[str, int] = {}
    labels: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, *pairs = (cell.strip() for cell in line.rstrip().split("\t"))
        fault = _fault(name, pairs, annotators, seen)
        if fault:
            problems.add(number, fault)
            continue
        seen[name] = number
        label, reason = _label([tuple(pair.split(",")) for pair in pairs])
        if label is None:
            dropped.ids[reason].append(name)
        else:
            labels[name] = (number, label)
    problems.raise_if_any("Each line must read ID, and text,image for each annotator, with tabs.")
    return labels


def _fault(name: str, pairs: list[str], annotators: int, seen: dict[str, int]) -> str | None:
    """Return what is wrong with a line of the label file, or None."""
    if not re.fullmatch(r"[0-9]+", name):
        return f"no id in front of the first tab: {excerpt(name)}"
    if name in seen:
        return f"the id {name} again, first on line {seen[name]}"
    if len(pairs) != annotators:
        return f"labels of {len(pairs)} annotators, and the header has {annotators}"
    for pair in pairs:
        names = pair.split(",")
        if len(names) != 2:
            return f"{excerpt(pair)} is not the sentiment of text and image, with a comma between"
        for sentiment in names:
            if sentiment not in CLASSES:
                known = nearest(sentiment, CLASSES) or f": {', '.join(CLASSES)}"
                return f"unknown sentiment {excerpt(sentiment)}{known}"
    return None


def _label(pairs: list[tuple[str, ...]]) -> tuple[str | None, str]:
    """Return the label of a tweet, or None and why it has none."""
    text, image = (_majority(votes) for votes in zip(*pairs, strict=True))
    if text is None or image is None:
        return None, "Tweets on whose text or image no two annotators agree"
    if {text, image} == {"positive", "negative"}:
        return None, "Tweets with a positive and a negative side"
    return (image if text == "neutral" else text), ""


def _majority(votes: Sequence[str]) -> str | None:
    """Return what more than half of the annotators say, None if there is no such sentiment."""
    (sentiment, count) = Counter(votes).most_common(1)[0]
    return sentiment if 2 * count > len(votes) else None
