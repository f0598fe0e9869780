import logging
import shutil
import sys

import numpy as np
import pytest

from mmattn.metrics import coco_package
from mmattn.metrics import meteor as module
from mmattn.metrics.meteor import find_jar, meteor, meteor_additive, meteor_lacks, meteor_of

REFERENCES = [["A dog's bone.", "the bone | of a dog"], ["Two cats sleep."]]
PREDICTIONS = ["a bone ||| of the dog", ""]

# Speaks METEOR's protocol: each question gets an answer, and one line more after EVAL.
PROGRAM = """#!{python}
import sys
for line in sys.stdin:
    kind, *fields = line.rstrip("\\n").split(" ||| ")
    {behaviour}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a program with the given behaviour in the place of Java and METEOR."""

    def write(behaviour):
        program = tmp_path / "java"
        program.write_text(PROGRAM.format(python=sys.executable, behaviour=behaviour.strip()))
        program.chmod(0o755)
        monkeypatch.setattr(module, "find_jar", lambda: tmp_path / "meteor-1.5.jar")
        monkeypatch.setattr(shutil, "which", lambda _: str(program))

    return write


def test_the_program_is_asked_for_tokens_and_its_last_line_is_the_score(install):
    install('print("9 9" if kind == "SCORE" else "0.1\\n0.2\\n0.3", flush=True)')
    assert meteor(REFERENCES, PREDICTIONS) == 0.3


def test_the_questions_hold_tokens_between_separators(install, tmp_path):
    answer = 'print("9 9" if kind == "SCORE" else "1\\n1", flush=True)'
    # The question is on disk before it is answered: after the last answer the program is ended.
    install(f'open("{tmp_path}/log", "a").write(line); {answer}')
    assert meteor(REFERENCES[:1], PREDICTIONS[:1]) == 1
    asked = [line for line in (tmp_path / "log").read_text().splitlines() if line]
    assert asked == [
        "SCORE ||| a dog 's bone ||| the bone | of a dog ||| a bone | | | of the dog",
        "EVAL ||| 9 9",
    ]


def test_a_program_that_fails_is_an_error_with_its_last_words(install):
    install('sys.exit("no paraphrase table")')
    with pytest.raises(RuntimeError, match="code 1: no paraphrase table"):
        meteor(REFERENCES, PREDICTIONS)


def test_a_program_that_hangs_is_ended(install):
    install("import time; time.sleep(60)")
    with pytest.raises(RuntimeError, match="ended early, with code -9"):
        meteor(REFERENCES, PREDICTIONS, timeout_seconds=0.5)


def test_a_program_that_talks_on_the_error_stream_does_not_block(install):
    install('print("warning " * 50_000, file=sys.stderr); print("1\\n1\\n1", flush=True)')
    assert meteor(REFERENCES[:1], PREDICTIONS[:1]) == 1


@pytest.mark.parametrize(
    ("jar", "java", "missing"),
    [
        (
            None,
            "java",
            "the package pycocoevalcap is not installed (the extra `coco`: pip install "
            "'mmattn[coco]')",
        ),
        ("x.jar", None, "java is not installed, or not on PATH"),
    ],
)
def test_what_is_missing_is_logged_once(monkeypatch, caplog, jar, java, missing):
    monkeypatch.setattr(module, "find_jar", lambda: jar)
    monkeypatch.setattr(shutil, "which", lambda _: java)
    with caplog.at_level(logging.WARNING):
        assert meteor(REFERENCES, PREDICTIONS) is None
    (record,) = caplog.records
    assert record.message == f"no METEOR: {missing}"
    assert meteor_lacks() == missing
    with pytest.raises(RuntimeError, match="no METEOR"):
        meteor_additive([[["a"]]], [["a"]])


def test_a_package_that_is_not_installed_has_no_jar(monkeypatch):
    monkeypatch.setattr(coco_package, "PACKAGE", "no_such_package_of_metrics")
    assert find_jar() is None


def test_a_caption_without_a_match_scores_zero():
    empty, strange = np.zeros(23), np.r_[7.0, 5, 3, 2, np.zeros(19)]
    assert meteor_of(np.stack([empty, strange])).tolist() == [0, 0]


@pytest.fixture
def program():
    """Skips without METEOR."""
    if find_jar() is None or shutil.which("java") is None:
        pytest.skip("needs METEOR: the extra `coco` and Java")


@pytest.mark.usefixtures("program")
def test_the_reference_implementation():
    references = [["A dog runs on the grass."], ["Two cats sleep on a red sofa.", "Cats sleeping."]]
    score = meteor(references, ["a dog is running on grass", "two kittens asleep on a couch"])
    # What the wrapper inside the package gives for the same tokens.
    assert score == pytest.approx(0.2557580356793463)


@pytest.mark.usefixtures("program")
def test_the_formula_over_statistics_is_the_programs_own_score():
    """Of single captions and of the corpus, with one that matches whole and one that is empty."""
    chance = np.random.default_rng(0)
    words = ["a", "dog", "dogs", "the", "cat", "kitten", "sleeps", "sleeping", "couch", "sofa"]

    def caption(least):
        return chance.choice(words, chance.integers(least, 10)).tolist()

    references = [[caption(1) for _ in range(3)] for _ in range(30)]
    predictions = [caption(0) for _ in range(28)] + [references[28][1], []]
    measured = meteor_additive(references, predictions)
    texts = [[" ".join(tokens) for tokens in image] for image in references]
    said = [" ".join(tokens) for tokens in predictions]
    assert measured.score == pytest.approx(meteor(texts, said), abs=1e-12)
    assert measured.per_image[28] == meteor(texts[28:29], said[28:29]) == 1
    assert measured.per_image[29] == 0
    assert measured.per_image[3] == pytest.approx(meteor(texts[3:4], said[3:4]), abs=1e-12)
