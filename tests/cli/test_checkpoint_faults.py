"""The command as a user types it, when checkpoints are damaged or cannot be written."""

import pytest

from mmattn.cli import train as command
from mmattn.errors import DiskError
from mmattn.training.checkpoints.files import checkpoints_in
from mmattn.training.checkpoints.manifest import verify


@pytest.fixture
def tiny(small_run):
    """A run of eight steps that keeps a checkpoint of every second one."""
    tiny = ["test=false", "callbacks=checkpoint", "logger=none", "print_config=false"]
    tiny += ["trainer.accelerator=cpu", "trainer.limit_train_batches=4", "trainer.max_epochs=2"]
    tiny += ["trainer.check_val_every_n_epoch=2", "trainer.limit_val_batches=1"]
    return [*small_run, *tiny, "callbacks.checkpoint.every_n_train_steps=2"]


@pytest.mark.slow
@pytest.mark.fault("F4")
def test_auto_goes_on_from_the_newest_whole_checkpoint_or_not_at_all(train, tiny, tmp_path):
    again = [*tiny, f"hydra.run.dir={tmp_path}/run", "ckpt_path=auto"]
    train(tmp_path, *again)  # from the beginning: there is none yet
    folder = tmp_path / "run" / "checkpoints"
    newest, before = checkpoints_in(folder)
    assert (verify(newest).step, verify(before).step) == (8, 6)
    assert (folder / "last.ckpt").resolve() == newest
    newest.write_bytes(newest.read_bytes()[:-1])
    done = train(tmp_path, *again)
    assert f"refused: {newest}: truncated or altered" in done.stdout
    assert f"taking the one before instead: {before}" in done.stdout
    assert f"going on from {before}" in done.stdout
    assert [verify(path).step for path in checkpoints_in(folder)] == [8, 6]
    for path in folder.glob("*.ckpt"):
        path.write_bytes(b"")
    done = train(tmp_path, *again, code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "none of the checkpoints is whole" in line
    assert "ckpt_path=null" in line


@pytest.mark.slow
@pytest.mark.fault("F6")
@pytest.mark.fault("F7")
def test_a_folder_that_cannot_be_written_ends_the_run_with_a_code_of_its_own(train, tiny, tmp_path):
    place = "callbacks.checkpoint.dirpath=/proc/checkpoints"
    done = train(tmp_path, *tiny, place, "callbacks.checkpoint.max_failures=2", code=74)
    assert "step_00000002.ckpt was NOT WRITTEN" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "step_00000004.ckpt could not be written" in line
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("logs/caption/runs/*/model"))


def test_the_code_of_a_disk_that_refuses(capsys):
    with pytest.raises(SystemExit) as ended:
        command.end(DiskError("no room"))
    assert ended.value.code == 74
    assert capsys.readouterr().err == "error: no room\n"
