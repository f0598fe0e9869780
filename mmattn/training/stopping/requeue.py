"""Back into SLURM's queue: `scontrol requeue` for the job that this run is."""

import logging
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from mmattn.training.stopping.stop_request import StopRequest

log = logging.getLogger(__name__)
JOB = re.compile(r"\d+(_\d+)?")
PATIENCE = 60  # seconds for scontrol to answer


@contextmanager
def requeued_at_end(request: StopRequest) -> Iterator[None]:
    """Put the job back into the queue when this block has ended, where a run in it wants that.

    SLURM then ends the job at once: loggers must have sent what they have, and locks be free.
    """
    try:
        yield
    finally:
        if request.requeues:
            request.requeues = False
            requeue()


def slurm_job() -> str | None:
    """Return the id of the SLURM job that this process belongs to; None outside of one.

    Of an array it is that of the task, as `scontrol` wants it: 12_3.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = os.environ.get("SLURM_JOB_ID")
    if array is not None:
        name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return name if name is not None and JOB.fullmatch(name) else None


def requeue() -> bool:
    """Ask SLURM to start this job anew; return whether it agreed. What went wrong is logged."""
    job = slurm_job()
    if job is None:
        log.warning("not requeued: this is no SLURM job (SLURM_JOB_ID is not set)")
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("job %s is not requeued: %s", job, error)
        return False
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        log.error("job %s is not requeued: scontrol says %s", job, said or done.returncode)
        return False
    log.warning("job %s is requeued", job)
    return True
