import sys
from contextlib import contextmanager, suppress

import pytest

from mmattn.training.stopping import requeue
from mmattn.training.stopping.stop_request import StopRequest

pytestmark = pytest.mark.fault("F8")


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Put a scontrol on PATH that notes what it is asked; `code` is how it ends."""

    def make(code=0):
        path = tmp_path / "scontrol"
        path.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"print('Job is over', file=sys.stderr)\nsys.exit({code})\n"
        )
        path.chmod(0o755)
        return tmp_path / "asked"

    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return make


def test_the_job_is_requeued(scontrol, monkeypatch):
    asked = scontrol()
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    assert requeue.requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "120")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue.requeue()
    assert asked.read_text() == "requeue 123\nrequeue 120_3\n"


@pytest.mark.parametrize("job", [None, "", "12; rm x", "-h", "12_"])
def test_nothing_is_asked_for_what_is_no_job(scontrol, monkeypatch, job, caplog):
    asked = scontrol()
    if job is not None:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    assert not requeue.requeue()
    assert not asked.exists()
    assert "this is no SLURM job" in caplog.text


def test_the_job_is_requeued_when_all_has_ended_and_only_where_that_is_wanted(monkeypatch):
    did, request = [], StopRequest()
    monkeypatch.setattr(requeue, "requeue", lambda: did.append("scontrol"))
    with requeue.requeued_at_end(request):
        pass
    assert did == []
    request.requeues = True
    for _ in range(2):  # it is wanted once
        with suppress(SystemExit), requeue.requeued_at_end(request), ended_at_last(did):
            raise SystemExit(138)
    assert did == ["loggers ended", "scontrol", "loggers ended"]


@contextmanager
def ended_at_last(did):
    try:
        yield
    finally:
        did.append("loggers ended")


def test_what_slurm_answers_is_in_the_log(scontrol, monkeypatch, caplog):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    assert not requeue.requeue()
    assert "job 123 is not requeued: [Errno 2]" in caplog.text
    scontrol(code=1)
    assert not requeue.requeue()
    assert "job 123 is not requeued: scontrol says Job is over" in caplog.text
