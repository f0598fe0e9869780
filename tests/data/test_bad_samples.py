"""Images that cannot be read, in a data set that is trained on: every policy, on every kind of set.

What counts as unreadable is in test_images.py.
"""

import csv
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.bad_samples import BadSamples
from mmattn.data.dataset import Splits
from mmattn.data.flickr import Photos
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError

pytestmark = pytest.mark.fault("F13")

LENGTH, BATCH, DAMAGED = 24, 4, (3, 10, 11)
NAMES = tuple(f"{i:02}.jpg" for i in range(LENGTH))
PLAIN = ToNormalised([0.0] * 3, [1.0] * 3)
TEXTS = tuple(f"number {i}" for i in range(LENGTH))
SHORT = {2: 4, 3: 4, 7: 2, 10: 3, 11: 4, 12: 3, 18: 2, 23: 4}  # words of some texts
UNEQUAL = tuple("a " * SHORT.get(i, 20) for i in range(LENGTH))  # the others are long
BUDGET = 24  # tokens: one long text, or some short ones


class Captioned:
    def __init__(self, folder, texts):
        self.photos = Photos(folder, NAMES, tuple((text,) for text in texts))

    def splits(self):
        return Splits(self.photos, self.photos, {"": self.photos})


class Labelled:
    def __init__(self, folder, texts):
        each = enumerate(zip(NAMES, texts, strict=True))
        examples = [Example(n, {"a": "xy"[i % 2]}, (n,), text) for i, (n, text) in each]
        self.set = LabelledSet(examples, FolderStore(folder))

    def splits(self):
        return LabelledSplits(self.set, self.set, {"": self.set}, {"a": HeadSpec("single")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 photos of one grey each; three are cut short, which their headers do not show."""
    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((16, 16, 3), 10 * i, dtype=np.uint8)).save(folder / name)
        if i in DAMAGED:
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: len(data) // 2])
    return folder


@pytest.fixture(params=["captions", "labels"])
def make(request, folder):
    """Make a data module of one of the kinds; captions are also what a joint model learns from."""

    def build(texts=TEXTS, **loader):
        options = LoaderOptions(**{"batch_size": BATCH, "eval_batch_size": BATCH} | loader)
        transform = v2.Compose([v2.RandomCrop(16, padding=2), PLAIN])
        captions = request.param == "captions"
        kind = CaptionDataModule if captions else LabelDataModule
        source = (Captioned if captions else Labelled)(folder, texts)
        tokenizer = TokenizerOptions(None, 300, 1)
        parts = (source, (16, 16), transform, PLAIN, tokenizer, options)
        return kind(*parts, max_length=32, seed=5)

    return build


def with_run_folder(data, folder):
    data.trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False
    )
    return data


def reported(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def epoch(data):
    return list(data.train_dataloader())


def same(one, two):
    return all(
        a.keys == b.keys and torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_replaced_images_keep_the_batches_size_and_are_the_same_with_any_workers(
    make, workers, tmp_path
):
    data = with_run_folder(make(max_bad_fraction=0.5, num_workers=workers), tmp_path)
    batches = epoch(data)
    assert [len(batch.keys) for batch in batches] == [BATCH] * (LENGTH // BATCH)
    assert all(batch.images.shape == (BATCH, 3, 16, 16) for batch in batches)
    assert not {NAMES[i] for i in DAMAGED} & {key for batch in batches for key in batch.keys}
    assert same(batches, epoch(make(max_bad_fraction=0.5)))
    rows = reported(tmp_path / "bad_images.csv")
    assert rows[0] == ["image", "reason"]
    assert sorted(name for name, _ in rows[1:]) == [NAMES[i] for i in DAMAGED]
    assert all("cannot be decoded" in reason and name in reason for name, reason in rows[1:])


def test_skipped_images_make_their_batches_smaller_and_nothing_else(make):
    skipped, replaced = (
        epoch(make(on_bad_sample=policy, max_bad_fraction=0.5)) for policy in ("skip", "replace")
    )
    assert sum(len(batch.keys) for batch in skipped) == LENGTH - len(DAMAGED)
    assert len({key for batch in skipped for key in batch.keys}) == LENGTH - len(DAMAGED)
    for small, full in zip(skipped, replaced, strict=True):
        kept = [full.keys.index(key) for key in small.keys]
        assert kept == sorted(kept)
        assert torch.equal(small.images, full.images[kept])


def test_a_batch_of_nothing_else_is_not_empty(make):
    batches = epoch(make(on_bad_sample="skip", max_bad_fraction=0.5, batch_size=1))
    assert [len(batch.keys) for batch in batches] == [1] * LENGTH
    found = {key for batch in batches for key in batch.keys}
    assert not found & {NAMES[i] for i in DAMAGED}


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_run_goes_on_with_the_very_batches_it_would_have_had(make, policy):
    options = {"on_bad_sample": policy, "max_bad_fraction": 0.5}
    whole = epoch(make(**options))
    started = make(**options)
    batches = iter(started.train_dataloader())
    for _ in range(3):
        next(batches)
    resumed = make(**options)
    resumed.load_state_dict(started.state_dict())
    assert same(epoch(resumed), whole[3:])


@pytest.mark.fault("F2")
@pytest.mark.parametrize("workers", [0, 2])
def test_what_stands_in_keeps_a_batch_within_its_budget_of_tokens(make, workers):
    """Texts are short where images are damaged, so that most others would not fit."""
    assert set(DAMAGED) < SHORT.keys()
    options = {"max_bad_fraction": 0.5, "tokens_per_batch": BUDGET, "batch_size": 8}
    train = make(UNEQUAL, **options).train_dataloader()
    whole = [batch for _ in range(3) for batch in train]
    assert all(batch.tokens.numel() <= BUDGET for batch in whole)
    assert not {NAMES[i] for i in DAMAGED} & {key for batch in whole for key in batch.keys}
    assert sum(len(batch.keys) for batch in whole) == 3 * LENGTH
    resumed = make(UNEQUAL, **options, num_workers=workers)
    resumed.load_state_dict(train.state_dict() | {"epoch": 1, "delivered": 2})
    assert same(epoch(resumed), whole[len(train) + 2 : 2 * len(train)])


@pytest.mark.parametrize("size", [1, 8])
def test_a_sample_with_the_shortest_text_of_all_is_left_out(make, size):
    """Nothing may stand in for it; where it was alone in its batch, anything may."""
    texts = ["a a a"] * LENGTH
    texts[DAMAGED[0]] = "a"
    options = {"max_bad_fraction": 0.5, "tokens_per_batch": BUDGET, "batch_size": size}
    batches = epoch(make(texts, **options))
    found = [key for batch in batches for key in batch.keys]
    assert len(found) == (LENGTH if size == 1 else LENGTH - 1)
    assert NAMES[DAMAGED[0]] not in found
    assert all(batch.tokens.numel() <= BUDGET for batch in batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_raise_stops_at_the_first_with_one_message(make, workers):
    data = make(on_bad_sample="raise", num_workers=workers)
    with pytest.raises(DataError, match=r"^\S+(03|10|11)\.jpg cannot be decoded") as caught:
        epoch(data)
    assert "\n" not in str(caught.value)


def test_too_many_stop_the_run_and_name_the_report(make, tmp_path):
    data = with_run_folder(make(max_bad_fraction=0.05), tmp_path)
    with pytest.raises(DataError, match=r"2 of 24 .*max_bad_fraction=0\.05.*bad_images\.csv"):
        epoch(data)


def test_a_few_of_many_are_survived_unasked(make):
    """The default allows one in a hundred, which three in twenty-four exceed."""
    with pytest.raises(DataError, match=r"1 of 24 .*max_bad_fraction=0\.01"):
        epoch(make())
    kept = BadSamples(200, LoaderOptions(1, 1).max_bad_fraction)
    kept.add(7, "7.jpg", DataError("damaged"))
    kept.add(8, "8.jpg", DataError("damaged"))
    with pytest.raises(DataError, match="3 of 200"):
        kept.add(9, "9.jpg", DataError("damaged"))


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_figures_are_never_of_a_part_of_a_set(make, policy):
    data = make(on_bad_sample=policy, max_bad_fraction=0.5)
    with pytest.raises(DataError, match=r"03\.jpg"):
        list(data.val_dataloader())


def test_an_image_is_reported_once_by_all_runs_in_a_folder(tmp_path):
    report = tmp_path / "bad_images.csv"
    for _ in range(2):  # two ranks, or a run and its continuation
        kept = BadSamples(9, 0.9, report=report)
        for _ in range(2):
            kept.add(1, 'a "b", c\n.jpg', DataError("cut, short"))
        kept.add(2, "half\ud800.jpg", DataError("empty"))
        assert kept.count == 2
    assert reported(report) == [
        ["image", "reason"],
        ['a "b", c\n.jpg', "cut, short"],
        ["half\\ud800.jpg", "empty"],
    ]


def test_the_share_is_that_of_all_ranks_together_and_of_one_run(tmp_path):
    report, damaged = tmp_path / "bad_images.csv", DataError("cut")

    def meet(rank, *indices):
        for i in indices:
            rank.add(i, NAMES[i], damaged)

    for _ in range(2):  # a run, and one that goes on in the same folder: it counts anew
        first, second = (BadSamples(LENGTH, 0.1, report=report) for _ in range(2))
        meet(first, 3, 10)
        meet(second, 10, 3)  # the same two, in another epoch
        assert first.count == second.count == 2
    with pytest.raises(DataError, match=r"3 of 24 .*max_bad_fraction=0\.1"):
        meet(first, 11)
    assert second.count == 2  # one of what is reported is new, and two are its own
    report.unlink()
    first, second = (BadSamples(LENGTH, 0.1, report=report) for _ in range(2))
    meet(first, 3)
    meet(second, 10)
    with pytest.raises(DataError, match=r"3 of 24 .*max_bad_fraction=0\.1"):
        meet(first, 11)
    assert second.count == 3


class Toy(L.LightningModule):
    """Learns one number from the images' brightness."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("policy", ["replace", "skip"])
def test_the_end_of_training_says_how_many_there_were(make, tmp_path, caplog, policy):
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        limit_val_batches=0,
        use_distributed_sampler=False,
        **dict.fromkeys(quiet, False),
    )
    trainer.fit(Toy(), datamodule=make(max_bad_fraction=0.5, on_bad_sample=policy))
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"][-1]
    assert said == (
        f"3 training images could not be read in this run, see {tmp_path / 'bad_images.csv'}"
    )


def test_a_report_that_cannot_be_written_does_not_stop_a_run(tmp_path, caplog):
    kept = BadSamples(9, 0.9, report=tmp_path / "no such folder" / "bad_images.csv")
    kept.add(1, "a.jpg", DataError("empty"))
    assert "cannot add to" in caplog.text
    assert kept.count == 1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"on_bad_sample": "ignore"}, "'ignore'; choose raise, skip, replace"),
        ({"max_bad_fraction": 1.0}, r"max_bad_fraction=1\.0 must lie in \[0, 1\)"),
        ({"max_bad_fraction": -0.1}, "max_bad_fraction"),
        ({"timeout": -1}, "timeout=-1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"prefetch_factor": 0}, "prefetch_factor=0"),
        ({"batch_size": 0, "tokens_per_batch": 90}, "batch_size=0 must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size=0 must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(option, said):
    with pytest.raises(ConfigError, match=f"data.loader.*{said}"):
        LoaderOptions(**{"batch_size": 4, "eval_batch_size": 4} | option)


def test_the_photos_are_damaged_as_this_file_says(folder):
    assert sum(path.stat().st_size < 400 for path in Path(folder).iterdir()) == len(DAMAGED)
