"""Checkpoints on disks that fill up, refuse, flip bits, and under processes that are killed."""

import errno
import json
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections import OrderedDict
from functools import partial

import pytest
import torch

from mmattn.errors import CheckpointError, DiskError
from mmattn.training.checkpoints import durable
from mmattn.training.checkpoints import writing as checkpoint_writing
from mmattn.training.checkpoints.content import read_checkpoint
from mmattn.training.checkpoints.files import checkpoints_in, clean_folder
from mmattn.training.checkpoints.finding import best_checkpoint, find_checkpoint
from mmattn.training.checkpoints.io import CheckpointFiles, files_of, wait_for
from mmattn.training.checkpoints.manifest import hash_of, manifest_path, verify


def content(step, value=None):
    """What a run of one weight would save after so many steps."""
    weights = OrderedDict(weight=torch.full((16,), float(step if value is None else value)))
    return {"state_dict": weights, "global_step": step, "epoch": 0, "callbacks": {}}


def step_of(path):
    return read_checkpoint(path)["global_step"]


def auto(folder):
    """What ckpt_path=auto goes on from."""
    return find_checkpoint("auto", folder.parent, folder / "no others")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture(params=[False, True], ids=["at once", "in the background"])
def files(request):
    files = CheckpointFiles(asynchronous=request.param)
    yield files
    files.teardown()


@pytest.fixture
def saved(folder):
    """Three steps, of which the first is the best; last.ckpt is a link to the third."""
    files = CheckpointFiles(asynchronous=False)
    best = {"Checkpoints": {"best_model_path": str(folder / "step_1.ckpt")}}
    for step in (1, 2, 3):
        files.save_checkpoint({**content(step), "callbacks": best}, folder / f"step_{step}.ckpt")
        files.link_checkpoint(folder / f"step_{step}.ckpt", folder / "last.ckpt")
    files.wait()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_and_says_what_it_is(files, folder):
    own = {"schema": 1, "tokenizer": "{}", "classes": {"answer": {"names": ["a"]}}}
    files.save_checkpoint({**content(7), "epoch": 2, "mmattn": own}, folder / "x.ckpt")
    found = files.load_checkpoint(folder / "x.ckpt")  # waits for what is being written
    assert torch.equal(found["state_dict"]["weight"], torch.full((16,), 7.0))
    manifest = json.loads((folder / "x.ckpt.json").read_text())
    assert manifest["size"] == (folder / "x.ckpt").stat().st_size
    wanted = {"step": 7, "epoch": 2, "schema": 1, "tokenizer": hash_of("{}"), "before": None}
    assert {name: manifest[name] for name in wanted} == wanted
    assert manifest["classes"] == hash_of({"answer": {"names": ["a"]}})
    assert names(folder) == ["x.ckpt", "x.ckpt.json"]


def test_checkpoints_are_as_readable_as_other_files(files, folder):
    folder.mkdir()
    (folder / "other").touch()
    files.save_checkpoint(content(1), folder / "x.ckpt")
    files.wait()
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_a_link_and_a_removal_keep_manifests_in_step(files, folder):
    for step in (1, 2):
        files.save_checkpoint(content(step), folder / f"{step}.ckpt")
        files.link_checkpoint(folder / f"{step}.ckpt", folder / "last.ckpt")
    files.remove_checkpoint(folder / "1.ckpt")
    files.wait()
    assert names(folder) == ["2.ckpt", "2.ckpt.json", "last.ckpt"]
    assert (folder / "last.ckpt").readlink().name == "2.ckpt"
    assert verify(folder / "last.ckpt").step == 2


def test_whoever_reads_a_trainers_checkpoints_waits_for_them(make_trainer, folder):
    trainer = make_trainer()
    wait_for(trainer)  # Lightning's own way has nothing to wait for
    files_of(trainer, asynchronous=True, max_failures=3).save_checkpoint(
        content(1), folder / "1.ckpt"
    )
    wait_for(trainer)
    assert step_of(folder / "1.ckpt") == 1


def test_without_links_the_newest_is_a_copy(files, folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    for step in (1, 2):
        files.save_checkpoint(content(step), folder / f"{step}.ckpt")
        files.link_checkpoint(folder / f"{step}.ckpt", folder / "last.ckpt")
    files.wait()
    assert not (folder / "last.ckpt").is_symlink()
    assert verify(folder / "last.ckpt").step == step_of(folder / "last.ckpt") == 2


def test_a_name_may_be_written_again_and_may_have_been_a_link(files, folder):
    files.save_checkpoint(content(1), folder / "1.ckpt")
    files.link_checkpoint(folder / "1.ckpt", folder / "last.ckpt")
    for step in (2, 3):
        files.save_checkpoint(content(step), folder / "last.ckpt")
    files.wait()
    assert verify(folder / "last.ckpt").step == 3
    assert verify(folder / "1.ckpt").step == step_of(folder / "1.ckpt") == 1


# F4 and F5: damage.


@pytest.mark.fault("F4")
@pytest.mark.parametrize("which", ["last", "best"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1], ids=str)
def test_a_truncated_checkpoint_is_left_for_the_one_before(saved, caplog, which, keep):
    path = saved / {"last": "last.ckpt", "best": "step_1.ckpt"}[which]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 if keep == 0.5 else keep])
    with pytest.raises(CheckpointError, match=rf"{path}: truncated or altered: it has"):
        read_checkpoint(path)
    assert step_of(auto(saved)) == {"last": 2, "best": 3}[which]
    if which == "last":
        assert f"refused: {saved}/step_3.ckpt: truncated" in caplog.text
        assert f"taking the one before instead: {saved}/step_2.ckpt" in caplog.text
        assert best_checkpoint(saved).name == "step_1.ckpt"  # as the second said as well


@pytest.mark.fault("F4")
def test_if_none_is_whole_nothing_starts_from_scratch(saved):
    for path in checkpoints_in(saved):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"none of the checkpoints is whole: .*step_3\.ckpt"):
        auto(saved)


@pytest.mark.fault("F4")
def test_older_checkpoints_have_no_manifest_and_are_read_through(saved, caplog):
    caplog.set_level(logging.INFO)
    for path in saved.glob("*.json"):
        path.unlink()
    ages = {"step_1.ckpt": 30, "step_2.ckpt": 20, "step_3.ckpt": 10}
    for name, age in ages.items():
        os.utime(saved / name, (1e9 - age, 1e9 - age))
    assert step_of(auto(saved)) == 3
    assert "step_3.ckpt has no manifest" in caplog.text
    whole = bytearray((saved / "step_3.ckpt").read_bytes())
    whole[whole.index(torch.full((16,), 3.0).numpy().tobytes())] ^= 1  # a weight
    (saved / "step_3.ckpt").write_bytes(whole)
    os.utime(saved / "step_3.ckpt", (1e9 - 10, 1e9 - 10))
    assert step_of(auto(saved)) == 2
    assert "has another CRC-32 than was written" in caplog.text


@pytest.mark.fault("F5")
def test_every_one_of_500_flipped_bits_is_noticed(saved):
    path, draw = saved / "step_3.ckpt", random.Random(0)
    whole = path.read_bytes()
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged: it has another SHA-256"):
            verify(path)
    assert step_of(auto(saved)) == 2
    path.write_bytes(whole)
    assert step_of(auto(saved)) == 3


@pytest.mark.fault("F5")
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "size": "x"}']
)
def test_a_damaged_manifest_vouches_for_nothing(saved, text):
    (saved / "step_3.ckpt.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"step_3\.ckpt\.json"):
        read_checkpoint(saved / "step_3.ckpt")
    assert step_of(auto(saved)) == 2


def test_the_newest_is_the_one_written_last_also_in_a_copy(saved, tmp_path):
    for path in saved.glob("step_*.ckpt"):
        os.utime(path, (1e9, 1e9))  # as after a copy
    assert [path.name for path in checkpoints_in(saved)] == [f"step_{n}.ckpt" for n in (3, 2, 1)]


# F6 and F7: a disk that refuses.


@pytest.fixture
def refusing(monkeypatch):
    """Make the disk refuse one thing with an error, while `on` is set."""

    class Refusal:
        on = False

        def of(self, function, number):
            def call(*args):
                if self.on:
                    raise OSError(number, os.strerror(number))
                return function(*args)

            return call

    return Refusal()


def full_disk(monkeypatch, refusing):
    """Let every second write of torch.save be one too much."""
    write = checkpoint_writing.HashedStream.write
    count = iter(range(10**9))

    def call(self, data):
        if refusing.on and next(count) % 2:
            self._stream = open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123
        return write(self, data)

    monkeypatch.setattr(checkpoint_writing.HashedStream, "write", call)


def no_space_left(monkeypatch, refusing):
    usage = checkpoint_writing.shutil.disk_usage

    def call(path):
        return usage(path)._replace(free=3) if refusing.on else usage(path)

    monkeypatch.setattr(checkpoint_writing.shutil, "disk_usage", call)


def no_rename(monkeypatch, refusing):
    monkeypatch.setattr(durable.os, "replace", refusing.of(os.replace, errno.EACCES))


def read_only(monkeypatch, refusing):
    monkeypatch.setattr(durable, "to_disk", refusing.of(durable.to_disk, errno.EROFS))
    monkeypatch.setattr(checkpoint_writing, "to_disk", durable.to_disk)


REFUSALS = {
    full_disk: "No space left on device",
    no_space_left: "no space: 3 bytes are free, it needs 64",
    no_rename: "Permission denied",
    read_only: "Read-only file system",
}


@pytest.mark.fault("F6")
@pytest.mark.fault("F7")
@pytest.mark.parametrize("refuse", REFUSALS, ids=lambda refuse: refuse.__name__)
def test_a_disk_that_refuses_is_loud_and_costs_nothing_but_this_checkpoint(
    files, saved, refusing, monkeypatch, caplog, refuse
):
    refuse(monkeypatch, refusing)
    before, refusing.on = names(saved), True
    for step in (3, 4):  # a name that is there, and a new one
        files.save_checkpoint(content(step, value=99), saved / f"step_{step}.ckpt")
        files.link_checkpoint(saved / f"step_{step}.ckpt", saved / "last.ckpt")
        files.remove_checkpoint(saved / "step_1.ckpt")  # which is no longer wanted, if 4 is there
    files.wait()
    assert files.last_failed
    assert names(saved) == before
    assert step_of(auto(saved)) == 3
    assert torch.equal(read_checkpoint(auto(saved))["state_dict"]["weight"], torch.full((16,), 3.0))
    said = f"step_4.ckpt was NOT WRITTEN ({REFUSALS[refuse]}). Training goes on"
    assert said in caplog.text
    assert "number 2" in caplog.text
    files.save_checkpoint(content(5), saved / "step_5.ckpt")
    with pytest.raises(DiskError, match=r"step_5.* neither could the 2 before it.*auto") as raised:
        files.wait()
    assert raised.value.exit_code == 74
    refusing.on = False
    files.save_checkpoint(content(6), saved / "step_6.ckpt")
    files.remove_checkpoint(saved / "step_1.ckpt")
    files.wait()
    assert not files.last_failed
    assert step_of(auto(saved)) == 6
    assert "step_1.ckpt" not in names(saved)


def can_mount():
    """Whether this process may have a small disk of its own."""
    if os.name != "posix" or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        return not subprocess.run(["umount", place], capture_output=True, check=False).returncode


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.fault("F6")
@pytest.mark.parametrize("disk", ["small_disk"] * can_mount())  # where a test may mount one
@pytest.mark.parametrize("told", [True, False], ids=["by the system", "only by writing"])
def test_a_disk_that_is_really_full(disk, request, monkeypatch, files, caplog, told):
    folder = request.getfixturevalue(disk)
    monkeypatch.setattr(tempfile, "tempdir", "/proc")  # another file system, and no use
    if not told:
        monkeypatch.setattr(checkpoint_writing, "check_space", lambda *_: None)
    for step, size in ((1, 20_000), (2, 40_000)):  # 80 kB, then 160 kB that do not fit beside it
        kept = content(step) | {"state_dict": {"weight": torch.zeros(size)}}
        files.save_checkpoint(kept, folder / f"{step}.ckpt")
    files.wait()
    assert names(folder) == ["1.ckpt", "1.ckpt.json"]
    assert verify(folder / "1.ckpt").step == 1
    assert "2.ckpt was NOT WRITTEN" in caplog.text
    files.save_checkpoint(content(3), folder / "3.ckpt")
    files.wait()
    assert step_of(find_checkpoint(str(folder / "3.ckpt"), folder, folder)) == 3


@pytest.mark.fault("F6")
def test_a_disk_that_has_no_room_for_the_next_one_is_warned_of(files, folder, monkeypatch, caplog):
    usage = checkpoint_writing.shutil.disk_usage
    monkeypatch.setattr(
        checkpoint_writing.shutil, "disk_usage", lambda path: usage(path)._replace(free=100)
    )
    files.save_checkpoint(content(1), folder / "1.ckpt")
    files.wait()
    assert "only 100 bytes are free, and a checkpoint needs 64; make room" in caplog.text
    assert verify(folder / "1.ckpt").step == 1


@pytest.mark.fault("F7")
def test_a_folder_that_has_vanished_is_made_again(files, saved):
    for path in saved.iterdir():
        path.unlink()
    saved.rmdir()
    files.save_checkpoint(content(4), saved / "4.ckpt")
    files.wait()
    assert step_of(auto(saved)) == 4


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-30], lambda data: b""], ids=["cut", "empty"]
)
def test_what_the_disk_lost_on_the_way_is_noticed_at_once(
    files, saved, monkeypatch, caplog, damage
):
    """A disk that says yes and keeps less: the file is read back before it gets its name."""

    def lose(stream):
        stream.flush()
        kept = damage(b"x" * stream.tell())
        stream.truncate(len(kept))

    monkeypatch.setattr(checkpoint_writing, "to_disk", lose)
    files.save_checkpoint(content(4), saved / "step_4.ckpt")
    files.wait()
    assert "step_4.ckpt was NOT WRITTEN (it has" in caplog.text
    assert step_of(auto(saved)) == 3


# Writing in the background.


@pytest.fixture
def gate(monkeypatch):
    """Hold up every write until `open` is set; `reached` counts the writes that wait."""

    class Gate:
        def __init__(self):
            self.open, self.reached, self.most, self.now = threading.Event(), 0, 0, 0

    gate, write = Gate(), checkpoint_writing.write_content

    def held(*args):
        gate.reached += 1
        gate.now += 1
        gate.most = max(gate.most, gate.now)
        assert gate.open.wait(60)
        gate.now -= 1
        return write(*args)

    monkeypatch.setattr(checkpoint_writing, "write_content", held)
    return gate


def test_what_is_written_is_of_the_moment_of_the_save(folder, gate):
    files = CheckpointFiles(asynchronous=True)
    weight = torch.zeros(5)
    state = {"a": weight, "tied": weight, "nested": [{"b": weight[1:3]}, (weight.view(5, 1),)]}
    checkpoint = {"state_dict": state, "global_step": 1, "epoch": 0}
    files.save_checkpoint(checkpoint, folder / "1.ckpt")
    weight += 1  # training goes on
    state["new"] = weight
    state["nested"].append("late")
    gate.open.set()
    files.wait()
    found = read_checkpoint(folder / "1.ckpt")["state_dict"]
    assert set(found) == {"a", "tied", "nested"}
    assert len(found["nested"]) == 2
    tensors = [found["a"], found["tied"], found["nested"][0]["b"], found["nested"][1][0]]
    assert all(tensor.eq(0).all() for tensor in tensors)
    assert found["a"].data_ptr() == found["tied"].data_ptr()


def test_there_is_never_more_than_one_write_and_never_more_than_one_copy(folder, gate):
    files = CheckpointFiles(asynchronous=True)

    def train():
        for step in (1, 2, 3):
            files.save_checkpoint(content(step), folder / f"{step}.ckpt")
        files.teardown()

    thread = threading.Thread(target=train)
    thread.start()
    while not gate.reached:
        time.sleep(0.001)
    assert gate.reached == 1  # the second save waits for the first
    assert not list(folder.glob("*.ckpt"))
    gate.open.set()
    thread.join()
    assert (gate.reached, gate.most) == (3, 1)
    assert [verify(path).step for path in checkpoints_in(folder)] == [3, 2, 1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_goes_wrong_otherwise_is_raised_by_the_next_call(folder, monkeypatch, asynchronous):
    def broken(*_):
        raise RuntimeError("broken inside")

    files = CheckpointFiles(asynchronous=asynchronous)
    monkeypatch.setattr(checkpoint_writing, "write_content", broken)
    files.save_checkpoint(content(1), folder / "1.ckpt")
    with pytest.raises(RuntimeError, match="broken inside"):
        files.load_checkpoint(folder / "1.ckpt")
    assert names(folder) == []
    files.teardown()  # it is raised once


# Killed while it saves.

STAGES = {  # what a process does last -> what is found then
    "write_content": 1,
    "write_manifest": 1,
    "put_in_place": 1,
    "names_to_disk": 2,
}


def save_and_hang(stage, folder, name, asynchronous, reached):
    """Save step 2, and hang just before a stage (after the renaming, for the last)."""
    modules = (durable,) if stage == "names_to_disk" else (checkpoint_writing,)

    def hang(*_):
        reached.set()
        time.sleep(600)

    files = CheckpointFiles(asynchronous=asynchronous)
    for module in modules:
        function = getattr(module, stage)
        of_checkpoint = partial(hang_at, hang, function) if stage == "names_to_disk" else hang
        setattr(module, stage, of_checkpoint)
    files.save_checkpoint(content(2), folder / name)
    files.wait()


def hang_at(hang, function, place):
    """Hang once the second checkpoint has its name; not when its manifest has."""
    if any(
        path.suffix == ".ckpt" and torch.load(path)["global_step"] == 2 for path in place.iterdir()
    ):
        hang()
    function(place)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["1.ckpt", pytest.param("2.ckpt", marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(
    folder, stage, name, asynchronous
):
    files = CheckpointFiles(asynchronous=False)
    files.save_checkpoint(content(1), folder / "1.ckpt")
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    process = context.Process(
        target=save_and_hang, args=(stage, folder, name, asynchronous, reached)
    )
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        process.start()
    assert reached.wait(120)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    assert bool(left) == (stage != "names_to_disk")
    assert step_of(auto(folder)) == STAGES[stage]
    clean_folder(folder)  # as the next start does
    assert {path.suffix for path in folder.iterdir()} == {".ckpt", ".json"}
    assert step_of(auto(folder)) == STAGES[stage]
    manifests = {manifest_path(path) for path in folder.glob("*.ckpt")}
    assert manifests == set(folder.glob("*.json"))
    # and killed again at the same place, by the run that went on
    files.save_checkpoint(content(3), folder / name)
    files.wait()
    assert step_of(auto(folder)) == 3
