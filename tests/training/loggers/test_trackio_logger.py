import json
import os
import sqlite3
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only
from PIL import Image

from mmattn.errors import ConfigError
from mmattn.training.loggers.trackio_logger import TrackioLogger

# Trackio reads where its folder is when it is imported, so it gets a process of its own.
LOGS = """
import numpy as np
from mmattn.training.loggers.media import Media
from mmattn.training.loggers.trackio_logger import TrackioLogger

logger, media = TrackioLogger("project", "run"), Media()
logger.log_hyperparams({"model": {"depth": 3}})
picture = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
media.images([logger], 7, "attention", [picture], ["a caption"])
media.figures([logger], 7, {"attention/entropy": 0.25})
media.page([logger], 7, "attention/viewer", "<p>not shown by Trackio</p>")
logger.finalize("success")
"""


@pytest.mark.slow
def test_a_trackio_project_holds_figures_and_pictures(tmp_path):
    pytest.importorskip("trackio", reason="needs the extra trackio")
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", LOGS], env=environment, check=True, timeout=120)
    (picture,) = tmp_path.rglob("*.png")
    assert np.asarray(Image.open(picture).convert("RGB")).ravel().tolist() == list(range(36))
    with sqlite3.connect(tmp_path / "project.db") as database:
        rows = database.execute("select step, metrics from metrics order by id").fetchall()
    assert {step for step, _ in rows} == {7}
    logged = {key: value for _, row in rows for key, value in json.loads(row).items()}
    assert logged["attention/entropy"] == 0.25
    assert logged["attention/0"]["caption"] == "a caption"


def test_only_the_first_rank_opens_a_run(monkeypatch):
    begun = []
    module = SimpleNamespace(init=lambda **options: begun.append(options) or "run")
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    TrackioLogger("project").experiment.log({"x": 1.0}, step=1)
    assert begun == []
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    assert TrackioLogger("project").experiment == "run"
    assert len(begun) == 1


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ConfigError, match=r"pip install 'mmattn\[trackio\]'"):
        TrackioLogger("project")
