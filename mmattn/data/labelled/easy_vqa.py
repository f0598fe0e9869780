"""easy-VQA: simple questions about pictures of one coloured shape.

Zhou and Wang, https://github.com/vzhou842/easy-VQA, 2019.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import is_any, read_json, type_name
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.labelled.validation import with_validation
from mmattn.data.problems import Problems
from mmattn.errors import DataError

HEAD = "answer"
SPLITS = ("train", "test")
ANSWER_FILE, QUESTION_FILE = "answers.txt", "questions.json"
HOW_TO_GET = (
    "easy-VQA is in the repository https://github.com/vzhou842/easy-VQA (MIT licence) and in the "
    "package easy-vqa: give the folder data, with answers.txt, train/ and test/, as root. "
    "gen_data/generate_data.py of the repository makes larger ones."
)


class EasyVQA:
    """The `LabelledSource` that reads easy-VQA as its authors distribute it.

    The answers in answers.txt are the classes, in the order of that file. The set has no split for
    validation, which is held out of the training pictures.

    Args:
        root: the folder with answers.txt, train/ and test/.
        val_fraction: the share of the training pictures that is held out for validation.
        seed: of what is held out.
        leave_out_bad: leave out questions whose picture is missing or damaged.

    Raises:
        ConfigError: for a share out of its range.
    """

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.05,
        seed: int = 0,
        leave_out_bad: bool = False,
    ):
        check_shares({"val_fraction": val_fraction})
        self.root, self.val_fraction, self.seed = absolute(root), val_fraction, seed
        self.leave_out_bad = leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read answers and questions, and the header of every picture.

        Raises:
            DataError: for an entry that is no question, an answer that answers.txt lacks, and a
                picture that cannot be used.
        """
        files = {f"{split} questions": f"{split}/{QUESTION_FILE}" for split in SPLITS}
        folders = {f"{split} pictures": f"{split}/images" for split in SPLITS}
        check_layout(self.root, HOW_TO_GET, {"answers": ANSWER_FILE} | files, folders)
        notes: list[str] = []
        answers = self._read_answers(notes)
        parts = {split: self._read(split, answers, notes) for split in SPLITS}
        parts = with_validation(parts, self.val_fraction, self.seed, notes)
        heads = {HEAD: HeadSpec("single", answers)}
        store = FolderStore(self.root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _read_answers(self, notes: list[str]) -> tuple[str, ...]:
        """Return the classes."""
        lines = [line.strip() for line in read_lines(self.root / ANSWER_FILE)]
        counts = Counter(line for line in lines if line)
        repeated = [answer for answer, count in counts.items() if count > 1]
        if repeated:
            notes.append(f"{ANSWER_FILE}: repeated lines, left out: {some(repeated)}")
        if len(counts) < 2:
            raise DataError(
                f"{self.root / ANSWER_FILE} has {len(counts)} answers, one a line, and two or more "
                "are needed. Copy the file again."
            )
        return tuple(counts)

    def _read(self, split: str, answers: tuple[str, ...], notes: list[str]) -> list[Example]:
        """Return the questions of a split."""
        file = f"{split}/{QUESTION_FILE}"
        rows = read_json(self.root / file)
        if not isinstance(rows, list):
            raise DataError(
                f"{self.root / file}: {type_name(rows)}, where a list of [question, answer, number "
                "of the picture] was expected. Copy the file again."
            )
        problems, seen, wordless = Problems(self.root / file), Counter(), []
        examples = []
        for i, row in enumerate(rows):
            fault = _fault(row, answers)
            if fault:
                problems.add(f"[{i}]", fault)
                continue
            text = clean_caption(row[0])
            if text is None:
                wordless.append(f"[{i}]")
                continue
            key, image = f"{split}/{row[2]}#{seen[row[2]]}", f"{split}/images/{row[2]}.png"
            seen[row[2]] += 1
            examples.append(Example(key, {HEAD: row[1]}, (image,), text, f"{file}:[{i}]"))
        problems.raise_if_any("Each entry must read [question, answer, number of the picture].")
        if wordless:
            notes.append(f"{file}: empty questions, left out: {some(wordless)}")
        return examples


def _fault(row: Any, answers: tuple[str, ...]) -> str | None:
    """Return what is wrong with an entry of a question file, or None."""
    if not isinstance(row, list):
        return f"{type_name(row)}, where a list was expected"
    if len(row) != 3:
        return f"{len(row)} values, where 3 were expected"
    kinds = {"question": (str,), "answer": (str,), "picture": (int,)}
    for (what, types), value in zip(kinds.items(), row, strict=True):
        if not is_any(value, types):
            return f"the {what} is {type_name(value)}"
    if row[2] < 0:
        return f"the number of the picture is {row[2]}"
    if row[1] not in answers:
        return f"the answer {excerpt(row[1])} is not in {ANSWER_FILE}{nearest(row[1], answers)}"
    try:
        clean_caption(row[0])
    except DataError as error:
        return str(error)
    return None
