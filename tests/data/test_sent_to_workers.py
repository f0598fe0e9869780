"""What processes that read are sent: little, and the same batches however they are started."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.dataset import Splits
from mmattn.data.flickr import Photos
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = tuple(f"{i}.png" for i in range(6))
NORMALISED = ToNormalised([0.5] * 3, [0.5] * 3)
TRAIN = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), NORMALISED])


class Source:
    """Photos with captions or labels, and what no process could be sent."""

    def __init__(self, folder, labels):
        self.folder, self.labels, self.secret = folder, labels, lambda: None

    def splits(self):
        if self.labels:
            examples = [Example(n, {"a": "xy"[i % 2]}, (n,), n) for i, n in enumerate(NAMES)]
            found = LabelledSet(examples, FolderStore(self.folder))
            return LabelledSplits(found, found, {"": found}, {"a": HeadSpec("single")})
        photos = Photos(self.folder, NAMES, tuple((f"photo {name}",) for name in NAMES))
        return Splits(photos, photos, {"": photos})


@pytest.fixture(params=["captions", "labels"])
def make(request, tmp_path):
    """Make a data module of either kind, in training, with all that it may hold."""
    noise = np.random.default_rng(0)
    for name in NAMES:
        pixels = noise.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    labels = request.param == "labels"

    def build(**loader):
        data = (LabelDataModule if labels else CaptionDataModule)(
            *(
                Source(tmp_path, labels),
                (16, 16),
                TRAIN,
                v2.Compose([v2.Resize((16, 16)), NORMALISED]),
            ),
            TokenizerOptions(None, 300, 1),
            LoaderOptions(2, 2, tokens_per_batch=40, **loader),
            max_length=32,
            seed=5,
            image_cache=str(tmp_path / "cache"),
        )
        data.trainer = SimpleNamespace(
            default_root_dir=tmp_path, global_rank=0, world_size=1, secret=lambda: None
        )
        data.read()
        return data

    return build


def assert_same(one, two):
    assert one.keys == two.keys
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.tokens, two.tokens)


def test_what_is_sent_is_small_and_makes_the_same_batches(make):
    data = make(num_workers=1)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        used = loader._loader
        sent = pickle.dumps((used.dataset, used.collate_fn))
        assert len(sent) < 50_000
        dataset, collate = pickle.loads(sent)
        items = [(0, 4), (0, 1)]
        here = used.collate_fn(used.dataset.__getitems__(items))
        assert_same(collate(dataset.__getitems__(items)), here)


@pytest.fixture
def start_method():
    """Return what makes processes start in another way until the test ends."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield lambda name: multiprocessing.set_start_method(name, force=True)
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "start"), [("captions", "spawn"), ("labels", "forkserver")], indirect=["make"]
)
def test_batches_are_the_same_however_processes_are_started(make, start_method, start):
    here = list(make().train_dataloader())
    start_method(start)
    there = make(num_workers=1, persistent_workers=False).train_dataloader()
    for batch, wanted in zip(there, here, strict=True):
        assert_same(batch, wanted)


PARENT = """
import multiprocessing, sys, time
from mmattn.data.worker_signals import leave_signals_to_parent

def work(ready):
    leave_signals_to_parent(0)
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    process = context.Process(target=work, args=(ready,))
    process.start()
    assert ready.wait(60)
    process.terminate()
    process.join(20)
    print(process.exitcode)
    process.kill()
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="a signal's sender is not told")
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_process_ends_at_the_word_of_who_asked_for_it(tmp_path, start):
    """One that a server has started, too: that is its parent to the system, and says nothing."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(script), start]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (ran.stdout, ran.stderr) == ("0\n", "")
