import json

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from mmattn.errors import ConfigError
from mmattn.maps.words import group_words
from mmattn.recorder import Recorder
from mmattn.training.attention_logging import AttentionLogging, caption_attention, probe, spread


@pytest.fixture
def fitted(make_data, make_task, make_trainer, tmp_path):
    """Fit for two epochs and test; return the callback, the trainer, the task and the data."""

    def fit(logger=False, **options):
        data = make_data()
        task = make_task(data, depth=2)
        callback = AttentionLogging(
            str(tmp_path / "maps"), **({"probe_size": 3, "test_images": 2} | options)
        )
        trainer = make_trainer(callback, logger=logger, max_epochs=2)
        trainer.fit(task, datamodule=data)
        trainer.test(task, datamodule=data, verbose=False)
        return callback, trainer, task, data

    return fit


def pictures(folder):
    return sorted(path.stem for path in folder.glob("*.png") if not path.stem.endswith("-heads"))


def test_every_validation_draws_the_same_images(fitted, tmp_path):
    fitted()
    steps = [tmp_path / "maps" / f"step-{step:06d}" for step in (6, 12)]
    first, second = (pictures(step) for step in steps)
    assert first == second
    assert len(first) == 3
    assert sorted(path.stem for path in steps[0].glob("*.npz")) == first
    for test in ("test-a", "test-b"):
        assert len(pictures(steps[1] / test)) == 2


def test_a_picture_is_one_and_differs_once_the_model_has_learned(fitted, tmp_path):
    fitted()
    name = pictures(tmp_path / "maps" / "step-000006")[0]
    early, late = (
        np.asarray(Image.open(tmp_path / "maps" / step / f"{name}.png"))
        for step in ("step-000006", "step-000012")
    )
    assert early.dtype == np.uint8
    assert early.shape[-1] == 3
    assert early.std() > 10
    assert early.shape != late.shape or (early != late).any()


def test_numbers_are_those_of_a_fresh_recording(fitted, tmp_path):
    callback, _, task, data = fitted()
    dataset = data.splits.test["a"]
    folder = tmp_path / "maps" / "step-000012" / "test-a"
    for index in callback._probes["attention/test/a"]:
        with np.load(folder / f"a-{index}.npz") as saved:  # allow_pickle is False
            weights, grid, prefix = saved["weights"], saved["grid"], saved["prefix"]
            caption, words = str(saved["caption"]), json.loads(str(saved["words"]))
        ids = task.tokenizer.encode(caption)
        tokens = torch.tensor([[[task.tokenizer.begin_id, *ids[:-1]]]])
        batch = data.evaluation_batch(dataset, [index])
        recorder = Recorder(["text.*.cross"])
        with torch.no_grad():
            task.model.eval().decode(task.encode(batch), tokens, recorder)
        fresh = recorder.stack("text.*.cross")[:, 0].numpy()
        assert weights.shape == (2, 2, len(ids), 16)  # layers, heads, tokens, patches
        assert weights == pytest.approx(fresh, abs=1e-6)
        assert weights.sum(-1) == pytest.approx(1.0, abs=1e-5)
        assert (tuple(grid), int(prefix)) == ((4, 4), 0)
        spans = task.tokenizer.offsets(ids)
        assert words == [
            {"text": w.text, "tokens": list(w.tokens)} for w in group_words(caption, spans)
        ]


def test_what_is_drawn_of_the_test_sets_is_kept_to_be_shown(fitted):
    callback, _, _, data = fitted()
    keys = [key for key, _, _ in callback.examples]
    assert [key.split("/")[0] for key in keys] == ["a", "a", "b", "b"]
    for key, references, caption in callback.examples:
        name, _, index = key.partition("/")
        assert references == data.splits.test[name].captions(int(index))
        assert isinstance(caption, str)


def test_drawing_leaves_the_model_as_it_was(make_data, make_task):
    data = make_data()
    task = make_task(data, dropout=0.5).train()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    first = caption_attention(task, data, data.splits.val, [0, 1])
    again = caption_attention(task, data, data.splits.val, [0, 1])
    assert task.training
    assert task.model.text.blocks[0].training
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
    for a, b in zip(first, again, strict=True):  # without dropout
        assert (a.text, a.weights.tolist()) == (b.text, b.weights.tolist())


def test_every_nth_validation_is_drawn(fitted, tmp_path):
    fitted(every_n_validations=2, test_images=0)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["step-000006"]


def test_an_empty_caption_is_drawn_as_one(
    make_data, make_task, make_trainer, tmp_path, monkeypatch
):
    data = make_data()
    task = make_task(data)
    callback = AttentionLogging(str(tmp_path / "maps"), probe_size=2, test_images=2)
    monkeypatch.setattr(type(task.tokenizer), "until_end", lambda *_: [])
    make_trainer(callback).validate(task, datamodule=data, verbose=False)
    (folder,) = (tmp_path / "maps").iterdir()
    assert len(pictures(folder)) == 2
    assert not list(folder.glob("*-heads.png"))  # of which word?


def test_a_layer_that_the_decoder_does_not_have_is_refused(make_data, make_task, make_trainer):
    data = make_data()
    for layer in (1, -2):
        callback = AttentionLogging("unused", layer=layer)
        with pytest.raises(ConfigError, match=f"layer={layer}, but the decoder has 1 layers"):
            make_trainer(callback).fit(make_task(data), datamodule=data)


def test_the_probe_is_spread_over_the_set_and_prefers_images_with_regions(make_data):
    val = make_data().splits.val
    chosen = probe(val, 4)
    assert chosen == probe(val, 4)
    assert len(set(chosen)) == 4
    assert all(val.regions(index) for index in chosen)
    assert chosen[0] < 3
    assert chosen[-1] == len(val) - 1
    assert probe(val, 100) == [i for i in range(len(val)) if val.regions(i)]


@pytest.mark.parametrize(
    ("length", "count", "chosen"), [(10, 2, [0, 9]), (10, 1, [0]), (3, 5, [0, 1, 2]), (0, 4, [])]
)
def test_items_are_spread_evenly(length, count, chosen):
    assert spread(list(range(length)), count) == chosen


def test_tensorboard_shows_the_pictures(fitted, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted(TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=False))
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert {"attention/0", "attention/2", "attention/test/b/1"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Images("attention/0")] == [6, 12]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_offline_wandb_run_holds_the_pictures_as_they_are_on_disk(fitted, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=str(tmp_path), offline=True, project="test")
    fitted([logger, CSVLogger(tmp_path / "csv", name="", version="")])
    logger.experiment.finish()
    (run,) = tmp_path.glob("wandb/offline-run-*")
    paths = run.glob("files/media/images/attention_*.png")
    media = [np.asarray(Image.open(path)) for path in paths]
    assert len(media) == 2 * 3
    assert len({picture.shape for picture in media}) <= 2  # one size for each validation's
    strips = [p for p in tmp_path.glob("maps/*/*.png") if not p.stem.endswith("-heads")]
    assert len(strips) == 2 * 3
    for path in strips:
        on_disk = np.asarray(Image.open(path))
        height, width, _ = on_disk.shape
        assert any(np.array_equal(picture[:height, :width], on_disk) for picture in media)
    assert "attention" not in (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0]
