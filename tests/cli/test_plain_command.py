"""How commands end: one line for what the user can mend, silence where nobody reads."""

import errno
import os
import subprocess
import sys

import pytest

from mmattn.cli.plain_command import file_trouble, mistakes_in_one_line
from mmattn.errors import DataError


@pytest.fixture
def ended(capsys, monkeypatch):
    """Let something raise inside; returns the exit code and what was printed."""
    monkeypatch.delenv("MMATTN_TRACEBACK", raising=False)

    def run(error: BaseException) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end, mistakes_in_one_line():
            raise error
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run


def test_a_mistake_is_one_line_and_exit_code_2(ended):
    assert ended(DataError("a.npz: no")) == (2, "", "error: a.npz: no\n")


@pytest.mark.fault("F32")
def test_a_file_that_cannot_be_used_is_one_line_with_path_reason_and_remedy(ended):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert ended(full) == (
        2,
        "",
        "error: no space left on device; free some, or give a path on another disk\n",
    )
    refused = PermissionError(errno.EACCES, "Permission denied", "/some/page.html")
    assert ended(refused)[2] == (
        "error: /some/page.html: permission denied; change its permissions, or give another path\n"
    )


def test_real_file_errors_are_told_by_the_path_the_user_knows(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for wrong, said in [
        (lambda: (tmp_path / "none").read_text(), "none: no such file or directory; check"),
        (lambda: (tmp_path / "file" / "a").write_text(""), "file/a: not a directory; give"),
        (lambda: (tmp_path / "folder").read_text(), "folder: is a directory; give a file"),
        (lambda: (tmp_path / "file").replace(tmp_path / "folder"), "folder: is a directory"),
    ]:
        with pytest.raises(OSError, match=str(tmp_path)) as raised:
            wrong()
        assert file_trouble(raised.value).startswith(f"{tmp_path}/{said}")


def test_errors_of_the_program_keep_their_traceback():
    for error in (RuntimeError("no"), ValueError("no"), ConnectionResetError(104, "reset")):
        with pytest.raises(type(error)) as raised, mistakes_in_one_line():
            raise error
        assert raised.value is error


def test_the_traceback_is_there_for_those_who_ask(monkeypatch):
    monkeypatch.setenv("MMATTN_TRACEBACK", "1")
    for error in (DataError("no"), FileNotFoundError(2, "no", "a"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, mistakes_in_one_line():
            raise error
        assert raised.value is error


@pytest.mark.fault("F32")
def test_ctrl_c_is_one_line_and_130(ended):
    assert ended(KeyboardInterrupt()) == (130, "", "interrupted\n")


def test_an_exit_code_passes_through(ended):
    assert ended(SystemExit(7)) == (7, "", "")


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(0)"])
@pytest.mark.fault("F32")
def test_nothing_is_said_where_nobody_reads(ending):
    code = (
        "from mmattn.cli.plain_command import mistakes_in_one_line\n"
        f"with mistakes_in_one_line():\n    print('many ' * 9)\n    {ending}"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
