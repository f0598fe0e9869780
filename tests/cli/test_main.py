"""The console script's own words: help, version, and commands that there are not."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError

import pytest

from mmattn.cli import main as script


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the script; returns the exit code and what it printed."""

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmattn", *arguments])
        try:
            script.main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return called


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("help",)])
def test_help_names_every_command(call, arguments):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert all(f"mmattn {command}" in out for command in script.COMMANDS)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("name", ["-V", "--version"])
def test_version_is_that_of_the_package(call, monkeypatch, name):
    monkeypatch.setattr(script, "version", lambda package: {"mmattn": "1.2.3"}[package])
    assert call(name) == (0, "mmattn 1.2.3\n", "")


def test_a_checkout_that_is_not_installed_has_no_version(call, monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(script, "version", missing)
    code, out, err = call("--version")
    assert (code, out) == (2, "")
    assert err == "error: mmattn is not installed, so it has no version: pip install -e .\n"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("veiw", "; did you mean view?"),
        ("trian", "; did you mean train?"),
        ("report", "; did you mean attention-report?"),
        ("--verison", "; did you mean --version?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest(call, typed, hint):
    line = f"error: no command {typed!r}{hint} (see mmattn --help)\n"
    assert call(typed, "view") == (2, "", line)


def test_every_command_has_a_main():
    assert all(callable(import_module(home).main) for home in script.COMMANDS.values())


def test_a_command_gets_the_arguments_after_its_name(call):
    code, out, _ = call("view", "--help")
    assert code == 0
    assert out.startswith("usage: mmattn view")
    code, out, err = call("view")
    assert (code, out) == (2, "")
    assert "required: run" in err


def test_its_own_words_do_not_wait_for_torch():
    code = (
        "import sys; from mmattn.cli.main import main; sys.argv = ['mmattn', 'veiw']\n"
        "try: main()\nfinally: print({'torch', 'hydra', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "set()\n")
    assert done.stderr == "error: no command 'veiw'; did you mean view? (see mmattn --help)\n"
