"""Questions about real and rendered pictures, from the experiments as users run them, cut short."""

import json
from collections import Counter

import pytest

from mmattn.data.labelled.daquar import DAQUAR
from mmattn.data.labelled.easy_vqa import EasyVQA

SHORT = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "print_config=false"]


def prior(splits):
    """How often the most frequent answer of the training set is right in the test set."""
    train = Counter(e.labels["answer"] for e in splits.train.examples)
    ((answer, _),) = train.most_common(1)
    (test,) = splits.test.values()
    asked = [e.labels["answer"] for e in test.examples]
    return sum(label == answer for label in asked) / len(asked)


def accuracy(train, folder, *overrides):
    train(folder, *SHORT, *overrides)
    (path,) = folder.glob("logs/*/runs/*/results.json")
    return json.loads(path.read_text())["test/accuracy"]


@pytest.mark.slow
def test_daquar_is_answered_better_than_by_the_most_frequent_answer(train, tmp_path, data_root):
    found = accuracy(
        *(train, tmp_path, "experiment=daquar_frozen", f"paths.data_dir={data_root}"),
        *("trainer.max_epochs=6", "trainer.check_val_every_n_epoch=6"),
    )
    assert found > prior(DAQUAR(str(data_root / "daquar")).splits()) + 0.05


@pytest.mark.slow
def test_easy_vqa_is_answered_better_than_by_the_most_frequent_answer(train, tmp_path, data_root):
    found = accuracy(
        *(train, tmp_path, "experiment=easy_vqa", f"paths.data_dir={data_root}"),
        *("trainer.max_epochs=10", "trainer.check_val_every_n_epoch=10"),
    )
    assert found > prior(EasyVQA(str(data_root / "easy-vqa")).splits()) + 0.2
