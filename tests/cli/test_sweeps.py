"""Sweeps that run elsewhere: in processes of joblib, and by W&B's agents."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from mmattn.cli.suggest import explain

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("callbacks=none", "test=false", "print_config=false", "trainer.accelerator=cpu"),
    *("trainer.enable_progress_bar=false", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.log_every_n_steps=1"),
]


def sweep_file():
    """The W&B sweep file that the README shows."""
    (text,) = re.findall(r"```yaml\n(# sweep\.yaml.+?)```", (ROOT / "README.md").read_text(), re.S)
    return yaml.safe_load(text)


def values(parameter):
    """Some of what W&B may choose: the ends of its list, or of its range."""
    if "value" in parameter:
        return [parameter["value"]]
    chosen = parameter.get("values") or [parameter["min"], parameter["max"]]
    return [chosen[0], chosen[-1]]


def command_of(sweep, which, program):
    """The command of one point, put together by W&B's own functions as its agent does."""
    point = {name: {"value": values(p)[-which]} for name, p in sweep["parameters"].items()}
    parts = create_sweep_command_args({"args": point})
    parts |= {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": [str(program)]}
    command = []
    for word in create_sweep_command(list(sweep["command"])):
        name = word.removeprefix("${").removesuffix("}")
        command += parts[name] if word.startswith("${") else [word]
    return command


@pytest.mark.parametrize("which", [0, 1])
def test_every_point_of_a_wandb_sweep_composes(composed, which):
    sweep = sweep_file()
    assert (ROOT / sweep["program"]).is_file()
    overrides = command_of(sweep, which, sweep["program"])[3:]
    assert len(overrides) == len(sweep["parameters"])
    config = composed(*overrides)
    assert config.logger.wandb.project == "mmattn"
    assert config.optimized_metric == sweep["metric"]["name"]
    for name, parameter in sweep["parameters"].items():
        key = name.lstrip("+")
        if key != "logger":
            found = config
            for part in key.split("."):
                found = found[part]
            assert found == pytest.approx(values(parameter)[-which])


def variables(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""} | more


@pytest.mark.slow
def test_a_point_of_a_wandb_sweep_runs(tmp_path, small_run):
    command = command_of(sweep_file(), 1, ROOT / "train.py")
    done = subprocess.run(
        # Offline, as an agent without a network would leave it; W&B's agent names the run.
        [*command, *TINY, *small_run],
        cwd=tmp_path,
        env=variables(WANDB_MODE="offline", WANDB_RUN_ID="chosen", WANDB_SWEEP_ID="sweep"),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("logs/caption/runs/*/wandb/offline-run-*-chosen")
    assert f"upload           wandb sync {folder}" in done.stdout
    assert (folder.parents[1] / "metrics.csv").is_file()


@pytest.mark.slow
def test_joblib_runs_points_side_by_side_each_in_its_folder(train, tmp_path, small_run):
    done = train(
        tmp_path,
        *(*TINY, *small_run, "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        "seed=1,2",
    )
    points = sorted(tmp_path.glob("logs/caption/multiruns/*/[0-9]*"))
    assert [point.name for point in points] == ["0", "1"]
    for point, seed in zip(points, (1, 2), strict=True):
        assert f"seed={seed}" in (point / ".hydra" / "overrides.yaml").read_text()
        assert json.loads((point / "results.json").read_text())["model/parameters"] > 0
        assert (point / "train.log").is_file()
    assert "| seed |" in done.stdout
    assert (points[0].parent / "table.md").is_file()


@pytest.mark.fault("F22")
def test_what_a_point_of_a_sweep_names_is_checked_before_joblib_starts_any(train, tmp_path):
    """Hydra reads the settings of all points first: our check of its own parts sees them there."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(
            "# @package _global_\nhydra:\n  job_logging:\n    formatters:\n      x:\n"
            f"        (): os.mkdir\n        path: {tmp_path}/ran-{name}\n"
        )
    done = train(
        tmp_path,
        *("--config-dir", str(tmp_path / "mine"), "-m", "hydra/launcher=joblib"),
        *("hydra.launcher.n_jobs=2", "experiment=one,two"),
        code=2,
    )
    assert "may name only classes of Hydra and logging" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("ran-*"))


def test_without_the_extra_its_name_is_said(tmp_path):
    text = "Could not find 'hydra/launcher/joblib'\n\nAvailable options in 'hydra/launcher':\n"
    said = explain(ValueError(f"{text}\tbasic\n"), tmp_path)
    assert said == "hydra/launcher=joblib: no such option: pip install 'mmattn[sweep]'"
