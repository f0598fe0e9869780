"""A rank of a run fails in some way: all ends, says which it was, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.training.checkpoints.finding import read_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    *("data.source.fonts=[DejaVuSans,DejaVuSerif]", "data.source.categories=[Lu]"),
    *("data.source.held_out_fonts=[DejaVuSans-Bold]", "model.vision.patches.dim=16"),
    *("model.vision.patches.channels_out=[4,4]", "model.text.dim=16", "model.text.depth=1"),
    *("model.text.context_dim=16", "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=1"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "print_config=false"),
    *(
        "callbacks=[checkpoint,preemption]",
        "logger=none",
        "trainer.enable_progress_bar=false",
        "test=false",
    ),
]
FAULTS = """
import os
import signal
import time
from pathlib import Path

import lightning as L


class Fault(L.Callback):
    '''In the second epoch each rank says who it is, and rank 1 fails; or in its validation.'''

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, Path(folder)

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            return
        who = f"{os.getpid()} {os.environ['MASTER_PORT']}"
        (self.folder / f"{self.kind}-{trainer.global_rank}").write_text(who)
        if trainer.global_rank == 0:
            return
        if self.kind == "raise":
            raise RuntimeError("broken inside")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "hang":
            time.sleep(3600)

    def on_validation_batch_start(self, trainer, pl_module, *args):
        if self.kind == "validate" and trainer.current_epoch and trainer.global_rank:
            time.sleep(3600)
"""
SAID = {
    "raise": ["the run failed on rank 1", "RuntimeError: broken inside", "RankError: rank 1"],
    "kill": ["was ended by SIGKILL"],
    "hang": ["rank 1 did not end by itself and was killed"],
    "validate": ["rank 1 did not end by itself and was killed"],
}


@pytest.mark.slow
@pytest.mark.fault("F10")
@pytest.mark.fault("F11")
def test_whatever_a_rank_dies_of_all_end_and_it_is_named(tmp_path):
    """Four runs of two ranks, one after another; their port is taken by somebody else."""
    (tmp_path / "faults.py").write_text(FAULTS)
    fault = ["+callbacks.fault._target_=faults.Fault", f"+callbacks.fault.folder={tmp_path}"]
    sweep = ["-m", "allow_targets=[faults]", *fault, f"+callbacks.fault.kind={','.join(SAID)}"]
    ranks = ["trainer=ddp_cpu", "trainer.strategy.timeout=120"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(tmp_path)])
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *SMALL, *sweep, *ranks],
            cwd=tmp_path,
            env=environment | {"MASTER_PORT": str(taken), "PYTHONWARNINGS": ""},
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
    out = done.stdout + done.stderr
    assert done.returncode == 1, out[-5000:]
    assert out.count(f"MASTER_PORT={taken} cannot be used") == len(SAID)
    for number, kind in enumerate(SAID):
        assert all(said in out for said in SAID[kind]), kind
        found = [(tmp_path / f"{kind}-{rank}").read_text().split() for rank in range(2)]
        (port,) = {port for _, port in found}
        assert int(port) != taken
        for process, _ in found:
            with pytest.raises(ProcessLookupError):
                os.kill(int(process), signal.SIG_DFL)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)))
        (last,) = tmp_path.glob(f"logs/caption/multiruns/*/{number}/checkpoints/last.ckpt")
        assert read_checkpoint(last)["global_step"] == 2  # of the epoch before
