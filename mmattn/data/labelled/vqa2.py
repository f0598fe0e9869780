"""VQA v2.0: questions about photos of COCO, each answered by ten people.

Goyal, Khot, Summers-Stay, Batra, Parikh, "Making the V in VQA Matter: Elevating the Role of Image
Understanding in Visual Question Answering", CVPR 2017.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.captions import clean_caption
from mmattn.data.findings import some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import fields_fault, read_json
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.labelled.validation import with_validation
from mmattn.data.labelled.vqa_answers import answer_scores
from mmattn.data.problems import Problems
from mmattn.errors import DataError

HEAD = "answer"
# Split -> part of COCO, as it stands in the names of files and in their field data_subtype.
SUBTYPES: Mapping[str, str] = MappingProxyType({"train": "train2014", "test": "val2014"})
QUESTION_FILE = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWER_FILE = "v2_mscoco_{}_annotations.json"
QUESTION_FIELDS = {"question_id": (int,), "image_id": (int,), "question": (str,)}
ANSWER_FIELDS = {"question_id": (int,), "image_id": (int,), "answers": (list,)}
PEOPLE = 10
HOW_TO_GET = (
    "https://visualqa.org/download.html has the questions and annotations of VQA v2.0 'Balanced "
    "Real Images', training and validation, and links COCO's images train2014.zip and val2014.zip. "
    "Unpack all six and give the folder with the four JSON files, train2014/ and val2014/ as root; "
    "name the folder of images that lie elsewhere with image_root."
)


@dataclass(frozen=True, slots=True)
class _Question:
    """An entry of the question file; `text` is None where there is nothing but space."""

    entry: str
    image: int
    text: str | None


class VQAv2:
    """The `LabelledSource` that reads VQA v2.0 as visualqa.org distributes it.

    The label of a question is answer -> score, by the official rule (see `vqa_answers`). The
    answers that are best most often in training are the classes: 3,129 is the number that most
    published models have, though many count validation questions too. Questions that none of these
    answers are left out of training, and count 0 in validation and test.

    The official validation set is the test set, as published ablations have it, and validation is
    held out of the training images: the answers of test-dev and test-standard are not public.

    Args:
        root: the folder with the JSON files.
        image_root: the folder with train2014/ and val2014/; `root` if None.
        val_fraction: the share of the training images that is held out.
        seed: of what is held out.
        most_common: how many answers are classes; all if None.
        leave_out_bad: leave out questions whose image is missing or damaged.

    Raises:
        ConfigError: for a share out of its range.
    """

    def __init__(
        self,
        root: str | Path,
        image_root: str | Path | None = None,
        val_fraction: float = 0.05,
        seed: int = 0,
        most_common: int | None = 3129,
        leave_out_bad: bool = False,
    ):
        check_shares({"val_fraction": val_fraction})
        self.root = absolute(root)
        self.image_root = self.root if image_root is None else absolute(image_root)
        self.val_fraction, self.seed = val_fraction, seed
        self.most_common, self.leave_out_bad = most_common, leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read questions and answers, and the header of every image.

        Raises:
            DataError: for a file that is not as described, a question without answers and the
                reverse, and an image that cannot be used.
        """
        self._check_layout()
        notes: list[str] = []
        parts = {split: self._read(name, notes) for split, name in SUBTYPES.items()}
        parts = with_validation(parts, self.val_fraction, self.seed, notes)
        heads = {HEAD: HeadSpec("soft", open=True, most_common=self.most_common)}
        store = FolderStore(self.image_root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _check_layout(self) -> None:
        files = {}
        for split, subtype in SUBTYPES.items():
            files[f"questions of {split}"] = QUESTION_FILE.format(subtype)
            files[f"answers of {split}"] = ANSWER_FILE.format(subtype)
        check_layout(self.root, HOW_TO_GET, files)
        folders = {f"images of {split}": subtype for split, subtype in SUBTYPES.items()}
        check_layout(self.image_root, HOW_TO_GET, {}, folders, key="image_root")

    def _read(self, subtype: str, notes: list[str]) -> list[Example]:
        """Return the questions about a part of COCO with their answers."""
        file = QUESTION_FILE.format(subtype)
        questions = self._questions(file, subtype)
        answers = self._answers(ANSWER_FILE.format(subtype), subtype, questions)
        self._check_answered(file, questions, answers)
        wordless = [str(number) for number, question in questions.items() if not question.text]
        answerless = [str(number) for number, scores in answers.items() if not scores]
        for what, numbers in {"text": wordless, "word in any answer": answerless}.items():
            if numbers:
                notes.append(f"{file}: questions without a {what}, left out: {some(numbers)}")
        return [
            Example(
                str(number),
                {HEAD: answers[number]},
                (f"{subtype}/COCO_{subtype}_{question.image:012d}.jpg",),
                question.text,
                f"{file}:{question.entry}",
            )
            for number, question in questions.items()
            if question.text and answers[number]
        ]

    def _questions(self, file: str, subtype: str) -> dict[int, _Question]:
        """Return question id -> question."""
        problems = Problems(self.root / file)
        found: dict[int, _Question] = {}
        for entry, record in _entries(self.root / file, "questions", subtype):
            fault = fields_fault(record, QUESTION_FIELDS)
            if fault is None and not 0 <= record["image_id"] < 10**12:
                fault = f"the image_id {record['image_id']}, where 0 to 12 digits were expected"
            if fault is None and record["question_id"] in found:
                first = found[record["question_id"]].entry
                fault = f"the question_id {record['question_id']} again, first {first}"
            if fault is None:
                text, fault = _cleaned(record["question"])
                found[record["question_id"]] = _Question(entry, record["image_id"], text)
            if fault is not None:
                problems.add(entry, fault)
        problems.raise_if_any(f"Unpack the archive again. {HOW_TO_GET}")
        return found

    def _answers(
        self, file: str, subtype: str, questions: Mapping[int, _Question]
    ) -> dict[int, dict[str, float]]:
        """Return question id -> answer -> score."""
        problems = Problems(self.root / file)
        found: dict[int, dict[str, float]] = {}
        for entry, record in _entries(self.root / file, "annotations", subtype):
            fault = _answer_fault(record)
            if fault is None and record["question_id"] in found:
                fault = f"the question_id {record['question_id']} again"
            fault = fault or _mismatch(record, questions)
            if fault is None:
                answers = [answer["answer"] for answer in record["answers"]]
                found[record["question_id"]] = answer_scores(answers)
            else:
                problems.add(entry, fault)
        problems.raise_if_any(
            f"Questions and annotations must be of one release. Unpack both again. {HOW_TO_GET}"
        )
        return found

    def _check_answered(
        self, file: str, questions: Mapping[int, _Question], answers: Mapping[int, Any]
    ) -> None:
        """Raise `DataError` for questions without an annotation."""
        problems = Problems(self.root / file)
        for number, question in questions.items():
            if number not in answers:
                problems.add(question.entry, f"the question_id {number} has no annotation")
        problems.raise_if_any(
            "The annotations of test-dev and test-standard are not public; those of the other "
            f"questions belong to them. {HOW_TO_GET}"
        )


def _entries(path: Path, name: str, subtype: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, entry) of the list `name` in a JSON file that is about a part of COCO.

    Raises:
        DataError: for a file that has no such list, or is about another part.
    """
    document = read_json(path)
    fault = fields_fault(document, {"data_subtype": (str,), name: (list,)})
    if fault is None and document["data_subtype"] != subtype:
        fault = f"data_subtype is {document['data_subtype']!r}, where {subtype!r} was expected"
    if fault is not None:
        raise DataError(f"{path}: {fault}. Take the file of this name from {HOW_TO_GET}")
    for i, record in enumerate(document[name]):
        yield f"{name}[{i}]", record


def _cleaned(text: str) -> tuple[str | None, str | None]:
    """Return (text, None), or (None, what is wrong with it)."""
    try:
        return clean_caption(text), None
    except DataError as error:
        return None, str(error)


def _answer_fault(record: Any) -> str | None:
    """Return what is wrong with an annotation taken alone, or None."""
    fault = fields_fault(record, ANSWER_FIELDS)
    if fault is not None:
        return fault
    if len(record["answers"]) != PEOPLE:
        return f"{len(record['answers'])} answers, where {PEOPLE} were expected"
    for i, answer in enumerate(record["answers"]):
        fault = fields_fault(answer, {"answer": (str,)})
        if fault is not None:
            return f"answers[{i}]: {fault}"
    return None


def _mismatch(record: dict[str, Any], questions: Mapping[int, _Question]) -> str | None:
    """Return how an annotation does not belong to its question, or None."""
    number, image = record["question_id"], record["image_id"]
    if number not in questions:
        return f"there is no question with the question_id {number}"
    if questions[number].image != image:
        return (
            f"the image_id {image} of question {number}, which is about {questions[number].image}"
        )
    return None
