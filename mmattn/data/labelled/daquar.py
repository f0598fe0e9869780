"""DAQUAR: questions about indoor photos, and answers of one or more things.

Malinowski and Fritz, "A Multi-World Approach to Question Answering about Real-World Scenes based on
Uncertain Input", NeurIPS 2014; the photos are those of NYU Depth v2.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.labelled.validation import with_validation
from mmattn.data.problems import Problems
from mmattn.errors import DataError

HEAD = "answer"
PAIR_FILE, ANSWER_FILE, FOLDER = "all_qa_pairs.txt", "answer_space.txt", "images"
LISTS: Mapping[str, str] = MappingProxyType(
    {"train": "train_images_list.txt", "test": "test_images_list.txt"}
)
SUFFIXES = (".jpg", ".png")
HOW_TO_GET = (
    "The Max Planck Institute for Informatics gives DAQUAR (full, all classes) as 'Visual Turing "
    "Challenge'; the data set 'Processed DAQUAR Dataset' on Kaggle has its files and the photos in "
    "this form: all_qa_pairs.txt, train_images_list.txt, test_images_list.txt and images/. Give "
    "the folder with them as root."
)

_NAME = re.compile(r"\bimage[0-9]+\b")
_IN_THE_IMAGE = re.compile(r"\s+in (?:(?:the|this) )?image[0-9]+(?=\s*\??\s*$)")


class DAQUAR:
    """The `LabelledSource` that reads DAQUAR (full) with its official split by images.

    An answer may be a list, as in "bed, pillow". The whole list is the class, its words in
    alphabetical order and each once: the authors compare answers as sets. They report accuracy
    (all words right, none too many) and WUPS, which gives part of a point to words with a near
    meaning. An answer that training never shows is no class and counts as wrong, which bounds the
    accuracy: of the 5,673 official test answers, training with validation lacks 518 (of the first
    words alone 125).

    `first_only` keeps the first word of each answer alone. Fine-tuned transformers such as BERT
    with ViT (accuracy 0.235, in "Visual Question Answering with Multimodal Transformers" by T.
    Sahu) are measured so, and on another split: 20 % of the pairs at random, whose photos training
    shows too.

    The questions name their photo ("… in the image17 ?"), which is taken away: a model could learn
    the answers of a photo by its name.

    Args:
        root: the folder with the text files and images/.
        first_only: the answer is its first word.
        val_fraction: the share of the training photos that is held out for validation.
        seed: of what is held out.
        leave_out_bad: leave out questions whose photo is missing or damaged.

    Raises:
        ConfigError: for a share out of its range.
    """

    def __init__(
        self,
        root: str | Path,
        first_only: bool = False,
        val_fraction: float = 0.1,
        seed: int = 0,
        leave_out_bad: bool = False,
    ):
        check_shares({"val_fraction": val_fraction})
        self.root, self.first_only = absolute(root), first_only
        self.val_fraction, self.seed = val_fraction, seed
        self.leave_out_bad = leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read lists, questions and answers, and the header of every photo.

        Raises:
            DataError: for lines that are no pair of a question and an answer, a word that
                answer_space.txt lacks (where there is such a file), a photo in two lists, and one
                that cannot be used.
        """
        files = {"questions and answers": PAIR_FILE}
        files |= {f"names of the {split} photos": file for split, file in LISTS.items()}
        check_layout(self.root, HOW_TO_GET, files, {"photos": FOLDER})
        notes: list[str] = []
        split_of = self._read_lists(notes)
        parts = self._by_split(self._read_pairs(), split_of, notes)
        parts = with_validation(parts, self.val_fraction, self.seed, notes)
        heads = {HEAD: HeadSpec("single", open=True)}
        store = FolderStore(self.root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _read_lists(self, notes: list[str]) -> dict[str, str]:
        """Return photo -> split."""
        home: dict[str, tuple[str, int]] = {}
        for split, file in LISTS.items():
            problems, repeated = Problems(self.root / file), []
            for line, text in enumerate(read_lines(self.root / file), start=1):
                name = text.strip()
                fault = _list_fault(name, split, home)
                if fault:
                    problems.add(line, fault)
                elif name in home:
                    repeated.append(name)
                elif name:
                    home[name] = (split, line)
            problems.raise_if_any("Each line is the name of a photo, which belongs to one split.")
            if repeated:
                notes.append(f"{file}: repeated lines, left out: {some(repeated)}")
        return {name: split for name, (split, _) in home.items()}

    def _read_pairs(self) -> list[Example]:
        """Return the questions, each with its answer and its photo, in the order of the file."""
        path = self.root / PAIR_FILE
        lines = read_lines(path)
        while lines and not lines[-1].strip():
            lines.pop()
        problems, seen = Problems(path), Counter()
        words, files = self._known_words(), self._photo_files()
        examples = []
        for start in range(0, len(lines), 2):
            question, answer = (*lines[start : start + 2], "")[:2]
            at, fault = _pair_fault(question, answer, words)
            if fault:
                problems.add(start + at, fault)
                continue
            photo = _NAME.findall(question)[-1]
            examples.append(
                Example(
                    f"{photo}#{seen[photo]}",
                    {HEAD: self._label(answer)},
                    (f"{FOLDER}/{files.get(photo, photo + SUFFIXES[0])}",),
                    clean_caption(_without_name(question)),
                    f"{PAIR_FILE}:{start + 1}",
                )
            )
            seen[photo] += 1
        problems.raise_if_any(
            "A question, as in 'what is on the bed in the image17 ?', and its answer, as in "
            "'blanket, pillow', are two lines; one too few or too many shifts all that follow."
        )
        return examples

    def _label(self, answer: str) -> str:
        words = _words(answer)
        return words[0] if self.first_only else ", ".join(sorted(set(words)))

    def _known_words(self) -> Collection[str] | None:
        """Return the words of all answers, None where there is no such file."""
        path = self.root / ANSWER_FILE
        return {line.strip() for line in read_lines(path)} if path.is_file() else None

    def _photo_files(self) -> dict[str, str]:
        """Return photo -> the name of its file, of which the archives have two kinds."""
        try:
            files = sorted((self.root / FOLDER).iterdir(), reverse=True)  # .jpg counts more
        except OSError as error:
            raise DataError(f"{self.root / FOLDER} cannot be read: {error}") from error
        return {path.stem: path.name for path in files if path.suffix in SUFFIXES}

    def _by_split(
        self, examples: list[Example], split_of: Mapping[str, str], notes: list[str]
    ) -> dict[str, list[Example]]:
        """Return split -> examples; `notes` tells of what has no split, and of unused photos."""
        parts: dict[str, list[Example]] = {split: [] for split in LISTS}
        asked: dict[str, None] = {}
        for example in examples:
            photo = example.key.partition("#")[0]
            asked[photo] = None
            if photo in split_of:
                parts[split_of[photo]].append(example)
        kinds = {
            "Photos with questions in no split list": [p for p in asked if p not in split_of],
            "Listed photos without a question": [p for p in split_of if p not in asked],
        }
        notes += [f"{kind}, left out: {some(found)}" for kind, found in kinds.items() if found]
        return parts


def _list_fault(name: str, split: str, home: Mapping[str, tuple[str, int]]) -> str | None:
    """Return what is wrong with a line of a split list, or None."""
    if name and not _NAME.fullmatch(name):
        return f"{excerpt(name)} is no name of a photo such as 'image17'"
    other, line = home.get(name, (split, 0))
    return f"{name} is also in {LISTS[other]}:{line}" if other != split else None


def _pair_fault(
    question: str, answer: str, known: Collection[str] | None
) -> tuple[int, str | None]:
    """Return (line of the pair, 1 or 2, and what is wrong with it), None where nothing is."""
    names = set(_NAME.findall(question))
    if not names:
        return 1, f"the question names no photo: {excerpt(question)}"
    if len(names) > 1:
        return 1, f"the question names {' and '.join(sorted(names))}"
    if clean_caption(_without_name(question)) is None:
        return 1, f"the question names a photo and asks nothing: {excerpt(question)}"
    if not answer.strip():
        return 2, f"the question has no answer: {excerpt(question)}"
    if _NAME.search(answer):
        return 2, f"a question where an answer was expected: {excerpt(answer)}"
    for word in _words(answer):
        if not word:
            return 2, f"a comma without a word beside it: {excerpt(answer)}"
        if known is not None and word not in known:
            return 2, f"{excerpt(word)} is not in {ANSWER_FILE}{nearest(word, known)}"
    return 1, None


def _words(answer: str) -> list[str]:
    return [" ".join(word.split()) for word in answer.split(",")]


def _without_name(question: str) -> str:
    """Return a question without the name of its photo: "in the image17" goes, or its number."""
    return _NAME.sub("image", _IN_THE_IMAGE.sub("", question))
