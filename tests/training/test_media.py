import logging

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from PIL import Image

from mmattn.training.media import Media, same_size


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


class Broken(Logger):
    """A service that is away."""

    name = version = "broken"

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("no route to host")

    def log_hyperparams(self, params):
        pass


def test_a_logger_that_fails_is_warned_of_once_and_the_others_go_on(tmp_path, caplog):
    broken, csv, media = Broken(), CSVLogger(tmp_path, name="", version=""), Media()
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            media.figures([broken, csv], step, {"attention/entropy": 0.5 * step})
    csv.save()
    (warned,) = caplog.messages
    assert "Broken could not log attention (ConnectionError: no route to host)" in warned
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows == ["attention/entropy,step", "0.5,1", "1.0,2"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_offline_holds_pictures_and_page(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger, media = WandbLogger(save_dir=str(tmp_path), offline=True, project="test"), Media()
    pictures = [noise(9, 12, seed=i) for i in range(3)]
    media.images([logger], 7, "attention", pictures, ["a", "b", "c"])
    media.page([logger], 7, "attention/viewer", "<!doctype html><title>maps</title>")
    logger.experiment.finish()
    found = [np.asarray(Image.open(p)) for p in tmp_path.glob("wandb/offline-*/files/**/*.png")]
    assert len(found) == 3
    assert all(any(np.array_equal(a, b) for b in found) for a in pictures)
    (page,) = tmp_path.glob("wandb/offline-*/files/media/html/**/*.html")
    assert page.read_text() == "<!doctype html><title>maps</title>"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_no_more_is_logged_than_wandb_bears(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger, media = WandbLogger(save_dir=str(tmp_path), offline=True, project="test"), Media()
    with caplog.at_level(logging.WARNING):
        media.images([logger], 7, "few", [noise(2, 2, seed=i) for i in range(60)], ["x"] * 60)
        large = [noise(2000, 2000, seed=i) for i in range(3)]  # 12 MB each
        media.images([logger], 7, "large", large, ["x"] * 3)
    logger.experiment.finish()
    media_folder = next(iter(tmp_path.glob("wandb/offline-*/files/media/images")))
    assert len(list(media_folder.glob("few_*.png"))) == 50
    assert len(list(media_folder.glob("large_*.png"))) == 2
    said = [r.getMessage() for r in caplog.records if r.name == "mmattn.training.media"]
    assert said == ["50 of 60 pictures are logged (at most 50 and 25 MB a step); all are on disk"]


def test_pictures_get_paper_of_their_own_colour_and_keep_their_pixels():
    wide = np.full((2, 5, 3), 7, np.uint8)
    wide[-1, -1] = [1, 2, 3]
    tall = np.full((4, 3, 3), 9, np.uint8)
    a, b = same_size([wide, tall])
    assert a.shape == b.shape == (4, 5, 3)
    assert a.dtype == b.dtype == np.uint8
    assert (a[:2] == wide).all()
    assert (a[2:] == [1, 2, 3]).all()
    assert (b[:, :3] == tall).all()
    assert (b[:, 3:] == 9).all()


def test_equal_sizes_stay_as_they_are():
    pictures = [noise(3, 3, seed=i) for i in range(2)]
    for before, after in zip(pictures, same_size(pictures), strict=True):
        assert (before == after).all()
