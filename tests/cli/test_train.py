"""The command as a user types it, in this process: what it says about mistakes, and how it ends."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from mmattn.cli import train
from mmattn.cli.main import main as mmattn

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.source.fonts=[DejaVuSans,DejaVuSerif]", "data.source.categories=[Lu]"]


class Touch:
    """Unpickling it runs code that leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Run the command with these arguments in an empty folder; return its code and its output."""
    monkeypatch.chdir(tmp_path)
    for name in ("MMATTN_RUN_TIME", "HYDRA_FULL_ERROR", "MMATTN_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # so that what `main` sets is undone
    root, lightning = logging.getLogger(), logging.getLogger("lightning")
    before = list(root.handlers), root.level, list(lightning.handlers), torch.get_rng_state()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        monkeypatch.delenv("MMATTN_RUN_TIME", raising=False)
        with warnings.catch_warnings():
            try:
                train.main()
                code = 0
            except SystemExit as stopped:
                code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers, root.level, lightning.handlers = before[:3]
    torch.set_rng_state(before[3])


def refused(result):
    """Return the one line that the command says, after checking that it is one and the end."""
    code, _, err = result
    lines = err.splitlines()
    assert code == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        # found by Hydra, before torch is imported
        (["trainer.max_epoch=1"], "did you mean trainer.max_epochs?"),
        (["data=glyps"], "did you mean glyphs?"),
        (["seed=abc"], "could not be converted to Integer"),
        (["paths.log_dir=/proc/x"], "cannot make the run directory"),
        # found before anything is built
        (["trainer.max_epochs=abc"], "trainer.max_epochs='abc': Trainer wants int or null"),
        (["+model.text.block.dropot=0.1"], "BlockOptions takes no dropot; did you mean dropout?"),
        (["model.vision._target_=os.system"], "model.vision._target_='os.system' is not on the"),
        (["+hydra.callbacks.x._target_=os.system"], "hydra.callbacks.x._target_='os.system'"),
        (["ckpt_path=absent.ckpt"], "ckpt_path=absent.ckpt: no such file"),
        (["train=false"], "train=false test=true needs ckpt_path="),
        # found by a constructor, or in the data
        (["data=flickr8k", "data.root=/absent"], "root='/absent' is not a folder"),
        (["data.max_length=4"], "the longest has"),
        (["data.image_size=[30,30]"], "30x30 does not divide into patches of 4x4"),
        (["model.vision.block.heads=5"], "model.vision: dim=96 does not divide by heads=5"),
        (["trainer.precision=bf17"], "trainer: Precision 'bf17' is invalid"),
        # found when the trainer puts the parts together
        (["optimizer.lr=-1.0"], "optimizer: Invalid learning rate: -1"),
        (["map.layers=[7]"], "callbacks.attention: layer 7 does not exist"),
        (["callbacks.checkpoint.monitor=val/x", "debug=limit"], "could not find the monitored key"),
    ],
)
@pytest.mark.fault("F27")
def test_a_mistake_is_one_line(command, arguments, said):
    small = [] if "data=flickr8k" in arguments else SMALL
    tiny = ["print_config=false", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"]
    assert said in refused(command(*small, *tiny, *arguments))


def test_flags_may_stand_between_overrides(command):
    code, out, _ = command("seed=3", "--cfg", "job", "tags=[a]")
    assert code == 0
    assert "seed: 3" in out
    assert "- a\n" in out


@pytest.mark.fault("F22")
def test_a_list_of_allowed_packages_in_a_file_is_refused(command, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "sneaky.yaml").write_text("# @package _global_\nallow_targets: [os]\n")
    where = ["--config-dir", str(tmp_path / "mine"), "experiment=sneaky"]
    assert "command line only" in refused(command(*where))
    asked = command(*where, "allow_targets=[mypkg]", "model.vision._target_=os.system")
    assert "is not on the list" in refused(asked)


@pytest.mark.fault("F22")
@pytest.mark.parametrize("where", ["--config-dir={folder}", "hydra.searchpath=[file://{folder}]"])
def test_a_file_from_anywhere_builds_only_what_is_on_the_list(command, tmp_path, where):
    folder = tmp_path / "theirs"
    (folder / "experiment").mkdir(parents=True)
    marker = tmp_path / "ran"
    (folder / "experiment" / "evil.yaml").write_text(
        f"# @package _global_\ndata:\n  source:\n    _target_: os.mkdir\n    _args_: [{marker}]\n"
    )
    said = refused(command(where.format(folder=folder), "experiment=evil"))
    assert said.startswith("data.source._target_='os.mkdir' is not on the list")
    assert not marker.exists()


@pytest.mark.parametrize("purpose", ["train=true", "train=false"])
@pytest.mark.fault("F21")
def test_a_checkpoint_that_holds_code_is_one_line_and_runs_nothing(command, tmp_path, purpose):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Touch(tmp_path / "ran")}, path)
    line = refused(command(*SMALL, purpose, f"ckpt_path={path}"))
    assert line.startswith(f"{path}: not a readable checkpoint")
    assert "mkdir" in line
    assert not (tmp_path / "ran").exists()


def test_a_traceback_is_there_for_who_asks(command, monkeypatch):
    monkeypatch.setenv("MMATTN_TRACEBACK", "1")
    code, out, err = command("train=false")
    assert code == 1
    assert "Traceback" in out + err
    assert "needs ckpt_path" in out + err


def test_a_failure_of_the_program_is_no_mistake_and_is_in_the_log(command, monkeypatch, tmp_path):
    def fail(*_):
        raise ValueError("broken inside")

    monkeypatch.setattr(train, "job", fail)
    code, out, err = command()
    (log,) = tmp_path.glob("logs/caption/runs/*/train.log")
    assert code == 1
    for text in (out + err, log.read_text()):
        assert "Traceback" in text
        assert "broken inside" in text


@pytest.mark.fault("F8")
def test_slurm_is_asked_to_requeue_when_the_folder_is_free_again(command, monkeypatch, tmp_path):
    locks = []

    def lock():
        (path,) = tmp_path.glob("logs/caption/runs/*/.lock")
        locks.append(path.read_text())

    def job(config, folder):
        lock()
        train.REQUEST.requeues = True
        raise train.Stopped(10)

    monkeypatch.setattr(train, "job", job)
    monkeypatch.setattr("mmattn.training.stopping.requeue.requeue", lock)
    code, *_ = command()
    assert code == 138
    held, free = locks
    assert f'"pid": {os.getpid()}' in held
    assert free == ""


def test_a_sweep_goes_on_after_a_point_that_is_wrong(command, monkeypatch):
    seen = []

    def job(config, folder):
        seen.append((config.seed, folder.name))
        if config.seed == 1:
            raise train.UserError("seed 1 is wrong")
        return 0.5

    monkeypatch.setattr(train, "job", job)
    code, out, err = command("-m", "seed=1,2")
    assert (code, seen) == (2, [(1, "0"), (2, "1")])
    assert "seed 1 is wrong" in out
    assert err.splitlines()[-1] == "error: seed 1 is wrong"


def test_another_rank_says_which_it_is(command, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    _, _, err = command("train=false")
    assert err.startswith("error on rank 1: ")


@pytest.mark.fault("F27")
def test_a_typo_and_the_help_do_not_wait_for_torch():
    program = (
        "import sys\n"
        "from mmattn.cli.main import main\n"
        "for arguments in (['--help'], ['train', 'seeed=1'], ['train', 'data=glyps']):\n"
        "    sys.argv = ['mmattn', *arguments]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stopped:\n        assert stopped.code == 2\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "mmattn train" in done.stdout


@pytest.mark.parametrize(
    ("typed", "said"), [("trian", "did you mean train?"), ("zzz", "see mmattn")]
)
@pytest.mark.fault("F27")
def test_a_command_that_is_none(typed, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmattn", typed])
    with pytest.raises(SystemExit) as stopped:
        mmattn()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr("mmattn.cli.main.version", lambda name: f"1.2.3 of {name}")
    monkeypatch.setattr(sys, "argv", ["mmattn", "--version"])
    mmattn()
    assert capsys.readouterr().out == "mmattn 1.2.3 of mmattn\n"
