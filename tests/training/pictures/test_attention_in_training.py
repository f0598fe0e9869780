"""When maps are drawn, with which weights, where on the image, and what is refused before."""

import logging
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError
from mmattn.maps.archive import load_attention
from mmattn.maps.geometry import Placement
from mmattn.maps.record_pictures import head_grid, strip_caption, word_strip
from mmattn.maps.words import Word
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.pictures import attention_logger
from mmattn.training.pictures.attention_logger import AttentionLogger, file_names
from mmattn.training.pictures.attention_records import attention_records
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger
from mmattn.training.pictures.probes import Probe, Probes


class Raw(L.Callback):
    """Keeps the weights as they were trained, before averages replace them."""

    def on_train_end(self, trainer, pl_module):
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


class Broken(L.Callback):
    """What a loss that is not a number leaves behind."""

    def on_validation_epoch_start(self, trainer, pl_module):
        with torch.no_grad():
            for weights in pl_module.model.text.parameters():
                weights.fill_(torch.nan)


@pytest.fixture
def drawn(monkeypatch):
    """The steps at which something was drawn."""
    steps = []

    def spied(*args, **options):
        if options.get("step") is not None:  # else it is only tried
            steps.append(options["step"])
        return attention_records(*args, **options)

    monkeypatch.setattr(attention_logger, "attention_records", spied)
    return steps


def test_maps_are_those_of_averaged_weights(make_data, make_task, make_trainer, tmp_path):
    data, raw = make_data(), Raw()
    task = make_task(data)
    maps = AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=1), viewer=False)
    make_trainer(maps, raw, AveragedWeights(decay=0.8), max_epochs=2).fit(task, datamodule=data)
    (path,) = (tmp_path / "maps" / "step-000012").glob("*.npz")
    written = load_attention(path)
    probe = maps.probes.choose(data.splits)[0]

    def fresh():
        (record,) = attention_records(task, data, probe, maps.methods)
        return record

    averaged = fresh()  # Lightning leaves the average in the model
    assert written.caption == averaged.caption
    assert written.cross.weights == pytest.approx(averaged.cross.weights, abs=1e-6)
    task.load_state_dict(raw.weights)
    trained = fresh()
    same_shape = trained.cross.weights.shape == written.cross.weights.shape
    assert not same_shape or abs(trained.cross.weights - written.cross.weights).max() > 1e-4


def test_a_step_is_drawn_once(make_data, make_task, make_trainer, tmp_path, drawn):
    """Gradients of two batches make a step, and a validation follows the last."""
    data = make_data()
    maps = AttentionLogger(str(tmp_path), probes=Probes(size=1), every_n_steps=1, viewer=False)
    make_trainer(maps, accumulate_grad_batches=2).fit(make_task(data), datamodule=data)
    assert drawn == [1, 2, 3]


@pytest.mark.parametrize("never", [0, None])
def test_never_is_never(make_data, make_task, make_trainer, tmp_path, drawn, never):
    data = make_data()
    maps = AttentionLogger(
        str(tmp_path / "maps"),
        probes=Probes(size=1),
        every_n_validations=never,
        every_n_steps=never,
        test_images=0,
    )
    trainer, task = make_trainer(maps), make_task(data)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    assert drawn == []
    assert not (tmp_path / "maps").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_gets_pictures_with_captions_at_the_trainers_step(
    make_data, make_task, make_trainer, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger, logged = WandbLogger(save_dir=str(tmp_path), offline=True, project="test"), []
    log = logger.experiment.log

    def spied(values, *args, **options):
        logged.append(values)
        log(values, *args, **options)

    monkeypatch.setattr(logger.experiment, "log", spied)
    data = make_data()
    callbacks = [
        AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=2)),
        HeadStatisticsLogger(str(tmp_path / "maps"), probes=Probes(size=2)),
    ]
    make_trainer(*callbacks, logger=logger, max_epochs=2).fit(make_task(data), datamodule=data)
    logger.experiment.finish()
    strips = {
        values["trainer/global_step"]: [image._caption for image in values["attention"]]
        for values in logged
        if "attention" in values
    }
    assert sorted(strips) == [6, 12]
    for step, captions in strips.items():
        paths = (tmp_path / "maps" / f"step-{step:06d}").glob("*.npz")
        written = [strip_caption(load_attention(path)) for path in paths]
        assert sorted(captions) == sorted(written)
        assert all(callbacks[0].methods[0].title in caption for caption in captions)
    keys = [
        {key for values in logged if values["trainer/global_step"] == s for key in values}
        for s in (6, 12)
    ]
    wanted = {f"attention/heads/{name}/text.*.cross" for name in ("entropy", "sink", "information")}
    for found in keys:
        assert wanted | {"attention/heads", "attention/viewer"} <= found


def test_maps_lie_where_the_network_looked(make_data, make_task):
    """Of 24 pixels the middle 16: from a sixth of the original to five sixths."""
    transform = v2.Compose(
        [v2.Resize(24, antialias=True), v2.CenterCrop(16), ToNormalised([0.5] * 3, [0.5] * 3)]
    )
    data = make_data(transform=transform)
    methods = AttentionLogger("unused").methods
    probe = Probe("", data.splits.val, (0, 1))
    for record in attention_records(make_task(data), data, probe, methods):
        assert record.placement.size == (16, 16)
        assert record.placement.box == pytest.approx((16 / 6, 16 / 6, 80 / 6, 80 / 6))
        T = len(record.tokens)
        word = Word("x" * T, 0, T, tuple(range(T)))  # an untrained model may write none
        spans = tuple((i, i + 1) for i in range(T))
        placed = replace(record, caption=word.text, offsets=spans, words=(word,))
        whole = replace(placed, placement=Placement.resize((16, 16)))
        for draw in (word_strip, head_grid):
            assert not np.array_equal(draw(placed), draw(whole))


def test_all_own_images_are_tried_before_training(make_data, make_task, make_trainer, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (16, 16), "red").save(own / f"{name}.png")
    (own / "c.png").write_bytes(b"no picture")
    data = make_data()
    maps = AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=3, folder=str(own)))
    trainer = make_trainer(maps)
    with pytest.raises(DataError, match=r"c\.png is not an image"):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 0


def test_sites_that_do_not_exist_are_refused_before_training(make_data, make_task, make_trainer):
    data = make_data()
    heads = HeadStatisticsLogger("unused", sites=["text.*.crss"])
    trainer = make_trainer(heads)
    with pytest.raises(ConfigError, match=r"callbacks\.heads: .*text\.\*\.crss"):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 0


def test_weights_that_are_no_numbers_are_drawn_as_such(
    make_data, make_task, make_trainer, tmp_path, caplog
):
    data = make_data()
    maps = AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=2))
    heads = HeadStatisticsLogger(str(tmp_path / "heads"), probes=Probes(size=2))
    csv = CSVLogger(tmp_path / "csv", name="", version="")
    trainer = make_trainer(maps, heads, Broken(), logger=csv)
    with caplog.at_level(logging.WARNING):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 6
    folder = tmp_path / "maps" / "step-000006"
    paths = sorted(folder.glob("*.npz"))
    assert len(paths) == 2
    for path in paths:
        assert not np.isfinite(load_attention(path).cross.weights).any()
        assert path.with_suffix(".png").is_file()
    assert [r.getMessage() for r in caplog.records if r.name.startswith("mmattn")] == []
    assert (folder / "viewer.html").is_file()
    written = {path.name for path in (tmp_path / "heads").iterdir()}
    assert {"heads.csv", "entropy-text-cross.png", "entropy-vision-self.png"} <= written


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a/b.jpg", "a-b.jpg", "a b"], ["a-b", "a-b-1", "a-b-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["x" * 100, "x" * 90], ["x" * 80, "x" * 80 + "-1"]),
        (["../../etc/passwd"], ["..-..-etc-passwd"]),
    ],
)
def test_names_of_files_are_plain_and_each_another(keys, names):
    assert file_names(keys) == names
