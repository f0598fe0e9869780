"""What a user installs: the package, its configuration files and its licence, and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def build(target: str, source: Path, folder: Path) -> Path:
    """Build one distribution of the project in `source`; return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def package_files() -> dict[str, Path]:
    """Where each of the checkout's files belongs in the wheel."""
    kinds = {".py", ".html", ".css", ".js"}  # the last three are the viewer's
    files = [p for p in ROOT.glob("mmattn/**/*") if p.suffix in kinds]
    code = {f"mmattn/{p.relative_to(ROOT / 'mmattn')}": p for p in files}
    conf = {f"mmattn/{p.relative_to(ROOT)}": p for p in ROOT.glob("conf/**/*.yaml")}
    assert code
    assert conf
    return {name.replace("\\", "/"): path for name, path in (code | conf).items()}


def test_the_wheel_holds_every_module_and_configuration_file(wheel: Path):
    held = contents(wheel)
    expected = package_files()
    assert sorted(expected.keys() - held.keys()) == []
    assert [name for name, path in expected.items() if held[name] != path.read_bytes()] == []


def test_the_wheel_holds_nothing_but_the_package_and_its_metadata(wheel: Path):
    info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    named = {
        "mmattn/py.typed",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")),
        f"{info}/licenses/LICENSE",
    }
    assert sorted(set(contents(wheel)) - package_files().keys()) == sorted(named)


def test_the_wheel_is_small(wheel: Path):
    assert wheel.stat().st_size < 2_000_000


def test_the_wheel_carries_the_licence_of_the_checkout(wheel: Path):
    (licence,) = (text for name, text in contents(wheel).items() if name.endswith("/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    rebuilt = build("wheel", source, tmp_path / "wheel")
    assert contents(rebuilt) == contents(wheel)


@pytest.mark.slow
def test_the_installed_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = (
        "import sys; from importlib.metadata import distribution\n"
        "sys.path.insert(0, sys.argv.pop(1))\n"
        "(script,) = distribution('mmattn').entry_points.select(name='mmattn')\n"
        "main = script.load()\n"
        "assert sys.modules['mmattn'].__file__.startswith(sys.path[0])\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, "-I", "-c", program, str(site), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mmattn" in done.stdout
