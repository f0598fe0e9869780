import logging
from collections import Counter

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmattn.training.loggers.media import Media, same_size


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
    assert "Broken could not log pictures (ConnectionError: no route to host)" in warned
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


@pytest.fixture
def board(tmp_path):
    """A TensorBoard logger, and how many pictures it got: step -> key -> number."""
    logger = TensorBoardLogger(tmp_path, name="", version="")

    def pictures():
        logger.experiment.flush()
        events = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
        found = {}
        for tag in events.Tags()["images"]:
            for event in events.Images(tag):
                keys = found.setdefault(event.step, Counter())
                keys[tag.rpartition("/")[0]] += 1
        return found

    return logger, pictures


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "mmattn.training.loggers.media"]


def test_no_more_is_logged_at_a_step_than_wandb_bears_over_all_calls(board, caplog):
    (logger, pictures), media = board, Media()
    small = [noise(2, 2, seed=i) for i in range(60)]
    with caplog.at_level(logging.WARNING):
        media.images([logger], 7, "a", small[:30], ["x"] * 30)
        media.images([logger], 7, "b", small[:30], ["x"] * 30)
        media.images([logger], 7, "c", small[:1], ["x"])
        media.images([logger], 8, "a", small, ["x"] * 60)
    assert pictures() == {7: {"a": 30, "b": 20}, 8: {"a": 50}}
    assert said(caplog) == [
        "step 7: 20 of 30 pictures are logged (at most 50 and 25 MB a step); all are on disk"
    ]


def test_pictures_that_are_too_large_are_only_on_disk(board, caplog):
    (logger, pictures), media = board, Media(0.1)  # 2.5 MB
    large = [noise(600, 600, seed=i) for i in range(3)]  # 1.1 MB each, also as PNG
    with caplog.at_level(logging.WARNING):
        media.images([logger], 7, "a", large, ["x"] * 3)
        media.images([logger], 7, "b", large[:1], ["x"])
        media.images([logger], 7, "c", [noise(2, 2)], ["x"])
    assert pictures() == {7: {"a": 2, "c": 1}}
    assert len(said(caplog)) == 1


def test_what_compresses_counts_as_little_as_it_takes(board):
    (logger, pictures), media = board, Media(0.1)
    media.images([logger], 7, "a", [np.zeros((1000, 1000, 3), np.uint8)] * 3, ["x"] * 3)
    assert pictures() == {7: {"a": 3}}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_first_picture_over_the_limit_is_no_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=str(tmp_path), offline=True, project="test")
    media = Media(0.1)
    with caplog.at_level(logging.WARNING):
        media.images([logger], 7, "a", [noise(1000, 1000)], ["x"])  # 3 MB of 2.5
        media.images([logger], 7, "none", [], [])
        media.images([logger], 7, "b", [noise(2, 2, seed=i) for i in range(6)], ["x"] * 6)
    logger.experiment.finish()
    assert len(list(tmp_path.glob("wandb/offline-*/files/media/images/*.png"))) == 5
    assert said(caplog) == [
        "step 7: 0 of 1 pictures are logged (at most 5 and 2 MB a step); all are on disk"
    ]


def test_loggers_that_show_no_pictures_are_not_told_of_limits(tmp_path, caplog):
    csv = CSVLogger(tmp_path, name="", version="")
    with caplog.at_level(logging.WARNING):
        Media().images([csv], 7, "a", [noise(2, 2)] * 60, ["x"] * 60)
    assert said(caplog) == []


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
