"""Both callbacks that write pictures, on a folder that cannot be written: it is a file."""

import logging
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from mmattn.errors import DataError
from mmattn.training.best_effort import BestEffort
from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger
from mmattn.training.pictures.probes import Probes


@pytest.fixture
def blocked(tmp_path):
    path = tmp_path / "a file"
    path.write_text("in the way")
    return str(path)


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "mmattn.training.best_effort"]


def test_maps_that_cannot_be_written_do_not_stop_training(
    make_data, make_task, make_trainer, blocked, caplog
):
    data = make_data()
    maps = AttentionLogger(blocked, probes=Probes(size=2), test_images=1)
    trainer = make_trainer(maps, max_epochs=2)
    task = make_task(data)
    with caplog.at_level(logging.WARNING):
        trainer.fit(task, datamodule=data)
        trainer.test(task, datamodule=data, verbose=False)
    assert trainer.global_step == 12
    (said,) = warnings_of(caplog)
    assert said.startswith(f"{Path(blocked, 'step-000006')} is not written (NotADirectoryError: ")
    assert Path(blocked).read_text() == "in the way"
    assert [record.key.split("/")[0] for record in maps.examples] == ["a", "b"]


def test_statistics_that_cannot_be_written_do_not_stop_training(
    make_data, make_task, make_trainer, blocked, tmp_path, caplog
):
    data = make_data()
    heads = HeadStatisticsLogger(blocked, probes=Probes(size=2))
    logger = CSVLogger(tmp_path / "csv", name="", version="")
    trainer = make_trainer(heads, logger=logger, max_epochs=2)
    with caplog.at_level(logging.WARNING):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 12
    (said,) = warnings_of(caplog)
    assert said.startswith(f"{Path(blocked, 'heads.csv')} is not written (")
    assert "attention/entropy/text.0.cross" in (tmp_path / "csv" / "metrics.csv").read_text()


def test_a_photo_that_is_taken_away_does_not_stop_training(
    make_data, make_task, make_trainer, tmp_path, caplog
):
    own = tmp_path / "own"
    own.mkdir()
    Image.new("RGB", (16, 16), "red").save(own / "photo.png")
    data = make_data()
    maps = AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=1, folder=str(own)))
    maps.on_train_start = lambda *_: (own / "photo.png").unlink()
    with caplog.at_level(logging.WARNING):
        make_trainer(maps).fit(make_task(data), datamodule=data)
    (said,) = warnings_of(caplog)
    assert "photo.png cannot be read" in said
    assert len(list((tmp_path / "maps" / "step-000006").glob("*.npz"))) == 1  # those of the set


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), DataError("gone")])
def test_the_first_of_many_is_warned_of(error, caplog):
    effort, done = BestEffort(), []
    with caplog.at_level(logging.WARNING):
        for path in (Path("first"), Path("second")):
            with effort.at(path):
                done.append(path)
                raise error
    assert done == [Path("first"), Path("second")]
    (said,) = warnings_of(caplog)
    assert said.startswith("first is not written (")
    assert str(error) in said


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError, KeyboardInterrupt])
def test_any_other_error_is_raised(error):
    with pytest.raises(error), BestEffort().at(Path("x")):
        raise error
