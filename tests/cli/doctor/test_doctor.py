"""What is told of a machine, with everything about the machine made up."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from mmattn.cli.doctor import command, devices, disks, packages, surroundings
from mmattn.cli.doctor.finding import Finding, found_by

ROOT = Path(__file__).resolve().parents[3]
KEY = "f" * 40


@pytest.fixture
def have(monkeypatch):
    """Let these packages be installed, and no others."""

    def install(requirements=(), **versions):
        versions = {name.replace("_", "-"): value for name, value in versions.items()}

        def version(name):
            if name not in versions:
                raise PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(packages, "version", version)
        monkeypatch.setattr(packages, "requires", lambda name: list(requirements))

    return install


def levels(findings):
    return [(finding.level, finding.name) for finding in findings]


def test_packages_within_their_bounds_are_ok(have):
    wanted = ["torch>=2.8,<3", 'trackio>=0.40,<1; extra == "trackio"', "absent; python_version<'3'"]
    have(wanted, torch="2.9.1+cpu", trackio="0.43.0")
    versions, bounds = packages.packages()
    assert versions.text.startswith(f"Python {sys.version.split()[0]}, mmattn missing, torch 2.9.1")
    assert (bounds.level, bounds.name) == ("ok", "packages")


@pytest.mark.parametrize(
    ("wanted", "versions", "level", "text"),
    [
        ("torch>=2.8,<3", {"torch": "2.7.0"}, "problem", "2.7.0 is installed, and mmattn wants"),
        ("torch>=2.8,<3", {"torch": "3.0"}, "problem", "<3,>=2.8"),
        ("torch>=2.8,<3", {}, "problem", "is not installed"),
        ('onnx>=1.18; extra == "onnx"', {"onnx": "1.0"}, "note", "for an optional part"),
    ],
)
def test_a_package_out_of_bounds_is_named_with_the_remedy(have, wanted, versions, level, text):
    have([wanted], **versions)
    found = packages.conflict(Requirement(wanted))
    assert found.level == level
    assert text in found.text
    assert found.remedy.startswith(f"pip install '{wanted[:4]}")
    assert (level, found.name) in levels(packages.packages())


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_a_malicious_release_is_a_problem(have, version):
    have(["lightning>=2.0"], lightning=version)
    (found,) = [f for f in packages.packages() if f.level == "problem"]
    assert version in found.text
    assert "replace every key" in found.remedy


def test_without_metadata_there_is_nothing_to_compare_with(have, monkeypatch):
    have(torch="2.9.1")

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "requires", missing)
    assert levels(packages.packages()) == [("ok", "versions"), ("note", "packages")]


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4.0), ("150000 100000", 1.5), ("", 4.0), (None, 4.0)]
)
def test_a_containers_quota_counts(monkeypatch, tmp_path, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(devices, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert devices.usable_cores() == cores
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    (found,) = devices.cores()
    assert found.level == ("note" if cores < 4 else "ok")
    assert found.remedy.endswith("OMP_NUM_THREADS=1") is (cores < 4)


def test_bfloat16_is_tried():
    assert devices.bfloat16("cpu") == "works"
    assert "use trainer.precision=32-true" in devices.bfloat16("cuda:99")


def test_a_gpu_is_told_with_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: ((1 + 6 * i) * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "A card")
    monkeypatch.setattr(devices, "bfloat16", lambda device: "works")
    busy, free = devices.devices()
    assert (busy.level, free.level) == ("note", "ok")
    assert free.text == "A card (cuda:1), 7.0 of 8.0 GiB free, bfloat16 works"


def test_a_folder_is_written_to_and_nothing_is_left(tmp_path):
    written, space = disks.log_folder(tmp_path / "logs" / "deep")
    assert written.level in ("ok", "note")
    assert f"logs/deep (to be made in {tmp_path})" in written.text
    assert "fsync" in written.text
    assert space.name == "free space"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("F7")
def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (found,) = disks.log_folder(tmp_path)
    assert (found.level, found.remedy) == (
        "problem",
        "make it writable, or choose another with paths.log_dir=… (here: --log-dir)",
    )
    assert "no space left on device" in found.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "level"), [(2**40, "ok"), (2**31, "note"), (2**20, "problem")])
def test_little_room_is_told(monkeypatch, free, level):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert disks.free_space(Path()).level == level


@pytest.mark.fault("F6")
def test_another_file_system_for_temporary_files_is_harmless(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc")
    (found,) = disks.temporary(tmp_path)
    assert found.level == "ok"
    assert "on another file system than the runs, which is harmless" in found.text
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert "on the file system of the runs" in next(disks.temporary(tmp_path)).text


@pytest.mark.fault("F29")
@pytest.mark.parametrize(
    ("free", "workers", "level"),
    [(2**33, 8, "ok"), (2**26, 0, "note"), (2**26, 4, "problem"), (None, 0, "ok")],
)
def test_shared_memory_is_compared_with_the_workers(monkeypatch, tmp_path, free, workers, level):
    monkeypatch.setattr(disks, "SHARED", tmp_path if free else tmp_path / "absent")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    (found,) = disks.shared_memory(workers)
    assert found.level == level
    assert ("num_workers=0" in found.remedy) is (level != "ok")


@pytest.mark.fault("F29")
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_no_shared_memory_at_all_is_a_problem_for_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(disks, "SHARED", tmp_path / "absent")
    assert levels(disks.shared_memory(2)) == [("problem", "shared memory")]


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("variables", "level", "text"),
    [
        ({}, "ok", "no key: logger=wandb records offline"),
        ({"WANDB_API_KEY": KEY}, "ok", "a key is in WANDB_API_KEY: logger=wandb is online"),
        ({"WANDB_API_KEY": f"{KEY}\n"}, "problem", "has blanks around it"),
        ({"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, "ok", "WANDB_MODE=offline decides"),
        ({"WANDB_MODE": "disabled"}, "note", "switched off"),
    ],
)
def test_wandbs_login_is_told_without_the_key(monkeypatch, tmp_path, variables, level, text):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (found,) = surroundings.wandb()
    assert found.level == level
    assert text in found.text
    assert KEY not in str(found)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}")
    (found,) = surroundings.wandb()
    assert "a key is in the netrc file" in found.text
    assert KEY not in str(found)


def test_optional_parts_are_no_problem(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(surroundings, "is_there", lambda module: module == "trackio")
    extras, programs = surroundings.optional_parts()
    assert (extras.level, programs.level) == ("ok", "ok")
    assert extras.text.startswith("extras: trackio; not there: tensorboard (logger=tensorboard)")
    assert "slurm (hydra/launcher=slurm), coco (the reference METEOR" in extras.text
    without = "METEOR is left out without Java and the extra `coco`; no Chromium"
    assert programs.text.startswith(without)
    monkeypatch.setattr("shutil.which", lambda name: name)
    _, programs = surroundings.optional_parts()
    assert programs.text == "METEOR is left out without the extra `coco`; Chromium is there"
    monkeypatch.setattr(surroundings, "is_there", lambda module: True)
    _, programs = surroundings.optional_parts()
    assert programs.text == "METEOR can be measured; Chromium is there"
    assert not surroundings.__dict__["find_spec"]("json.absent")


def test_a_module_below_one_that_is_missing_is_missing():
    assert surroundings.is_there("json.decoder")
    assert not surroundings.is_there("absent_package.part")


def test_fonts_are_there_and_missed(monkeypatch, tmp_path):
    assert next(surroundings.fonts()).level == "ok"
    monkeypatch.setattr("mmattn.data.glyphs.fonts.font_folder", lambda: tmp_path)
    assert next(surroundings.fonts()).level == "problem"


@pytest.mark.fault("F29")
def test_an_encoding_that_is_not_utf8_is_noted(monkeypatch):
    monkeypatch.setattr("locale.getencoding", lambda: "ANSI_X3.4-1968")
    (found,) = surroundings.language()
    assert found.level == "note"
    assert "files: ANSI_X3.4-1968" in found.text


@pytest.mark.fault("F29")
def test_no_home_is_a_problem(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert levels(surroundings.home()) == [("problem", "home")]


def test_a_check_that_cannot_look_is_a_problem_and_keeps_what_it_found():
    def broken():
        yield Finding("ok", "device", "a card")
        raise RuntimeError("driver\ntoo old")

    found = found_by("device", broken)
    assert levels(found) == [("ok", "device"), ("problem", "device")]
    assert found[1].text == "cannot be looked at (RuntimeError: driver too old)"


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("problem", 1)])
def test_the_exit_code_tells_of_problems(monkeypatch, capsys, level, code):
    found = [Finding("ok", "device", "a card"), Finding(level, "disk", "full", "free some")]
    monkeypatch.setattr(command, "examine", lambda log_dir, workers: found)
    for options in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["mmattn doctor", *options])
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code
        out = capsys.readouterr().out
        if options:
            told = json.loads(out)
            assert told["problems"] == code
            assert told["findings"][1]["remedy"] == "free some"
        else:
            assert out.splitlines()[0] == "ok       device  a card"
            assert out.splitlines()[1] == f"{level:<8} disk    full -> free some"
            assert out.splitlines()[2].startswith(f"{code} problem")


@pytest.mark.slow
@pytest.mark.fault("F29")
def test_it_runs_with_an_empty_environment(tmp_path):
    """As a scheduler may start it: no HOME, no locale, a folder with a strange name."""
    folder = tmp_path / "größe und 図"
    folder.mkdir()
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "mmattn", "doctor", "--json"],
        cwd=folder,
        env=variables,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == b""
    told = json.loads(done.stdout)
    names = {finding["name"] for finding in told["findings"]}
    assert {"versions", "cores", "log folder", "shared memory", "W&B", "fonts", "home"} <= names
    assert not [f for f in told["findings"] if "cannot be looked at" in f["text"]]
    assert list(folder.iterdir()) == []
