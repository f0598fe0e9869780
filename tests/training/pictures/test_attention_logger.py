import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from mmattn.errors import UserError
from mmattn.maps.archive import load_attention
from mmattn.maps.methods import RawAttention
from mmattn.maps.words import group_words
from mmattn.recorder import Recorder
from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.attention_records import attention_records
from mmattn.training.pictures.probes import Probe, Probes


@pytest.fixture
def fitted(make_data, make_task, make_trainer, tmp_path):
    """Fit for two epochs and test; return the callback, the trainer, the task and the data."""

    def fit(logger=False, **options):
        data = make_data()
        task = make_task(data, depth=2)
        callback = AttentionLogger(
            str(tmp_path / "maps"), **({"probes": Probes(size=3), "test_images": 2} | options)
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
    _, _, task, data = fitted(further_maps=[RawAttention(None, [1])], self_attention=True)
    dataset = data.splits.test["a"]
    paths = sorted((tmp_path / "maps" / "step-000012" / "test-a").glob("*.npz"))
    assert len(paths) == 2
    for path in paths:
        record = load_attention(path)
        index = int(record.key.split("/")[1])
        ids = task.tokenizer.encode(record.caption)
        tokens = torch.tensor([[[task.tokenizer.begin_id, *ids[:-1]]]])
        recorder = Recorder(["*"])
        with torch.no_grad():
            task.model.eval()(data.evaluation_batch(dataset, [index]).images, tokens, recorder)
        cross = recorder.stack("text.*.cross")[:, 0].numpy()  # layers, heads, tokens, patches
        assert record.cross.names == ("text.0.cross", "text.1.cross")
        assert record.cross.weights == pytest.approx(cross, abs=1e-6)
        assert (record.grid, record.prefix, record.step) == ((4, 4), 0, 12)
        assert record.words == tuple(group_words(record.caption, task.tokenizer.offsets(ids)))
        assert record.references == dataset.captions(index)
        assert (record.image == dataset.image(index).permute(1, 2, 0).numpy()).all()
        drawn, further = (method.maps.reshape(len(ids), 16) for method in record.methods)
        assert drawn == pytest.approx(cross[-1].mean(0), abs=1e-6)
        assert further == pytest.approx(cross[:, 1].mean(0), abs=1e-6)
        for kind in ("text_self", "vision_self"):
            fresh = recorder.stack(kind.replace("_", ".*."))[:, 0].numpy()
            assert getattr(record, kind).weights == pytest.approx(fresh, abs=1e-6)


def test_what_is_drawn_of_the_test_sets_is_kept_to_be_shown(fitted):
    callback, _, _, data = fitted()
    names = [record.key.partition("/") for record in callback.examples]
    assert [name for name, _, _ in names] == ["a", "a", "b", "b"]
    for (name, _, index), record in zip(names, callback.examples, strict=True):
        assert record.references == data.splits.test[name].captions(int(index))


def test_drawing_leaves_the_model_as_it_was(make_data, make_task):
    data = make_data()
    task = make_task(data, dropout=0.5).train()
    probe = Probe("", data.splits.val, (0, 1))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    first = attention_records(task, data, probe, [])
    again = attention_records(task, data, probe, [])
    assert task.training
    assert task.model.text.blocks[0].training
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
    for a, b in zip(first, again, strict=True):  # without dropout
        assert (a.caption, a.cross.weights.tolist()) == (b.caption, b.cross.weights.tolist())


def test_a_run_learns_the_same_with_and_without_drawing(
    make_data, make_task, make_trainer, tmp_path
):
    def weights(*callbacks):
        data = make_data()
        task = make_task(data, dropout=0.2)
        torch.manual_seed(1)
        make_trainer(*callbacks).fit(task, datamodule=data)
        return task.state_dict()

    logger = AttentionLogger(str(tmp_path / "maps"), every_n_validations=None, every_n_steps=2)
    plain, drawn = weights(), weights(logger)
    steps = [path.name for path in sorted((tmp_path / "maps").iterdir())]
    assert steps == ["step-000002", "step-000004", "step-000006"]
    assert all(torch.equal(plain[name], drawn[name]) for name in plain)


def test_images_of_the_users_own_are_drawn_besides(fitted, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    Image.new("RGB", (16, 16), "red").save(own / "my photo.png")
    fitted(probes=Probes(size=1, folder=str(own)))
    (path,) = (tmp_path / "maps" / "step-000012" / "own").glob("*.npz")
    assert path.name == "my-photo.png.npz"
    assert load_attention(path).references == ()


def test_a_page_to_explore_comes_with_the_pictures(fitted, tmp_path):
    fitted()
    page = (tmp_path / "maps" / "step-000012" / "viewer.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_every_nth_validation_is_drawn(fitted, tmp_path):
    fitted(every_n_validations=2, test_images=0)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["step-000006"]


def test_an_empty_caption_is_drawn_as_one(
    make_data, make_task, make_trainer, tmp_path, monkeypatch
):
    data = make_data()
    task = make_task(data)
    callback = AttentionLogger(str(tmp_path / "maps"), probes=Probes(size=2), test_images=2)
    callback._chosen = callback.probes.choose(data.splits)
    monkeypatch.setattr(type(task.tokenizer), "until_end", lambda *_: [])
    make_trainer(callback).validate(task, datamodule=data, verbose=False)
    (folder,) = (tmp_path / "maps").iterdir()
    assert len(pictures(folder)) == 2
    assert not list(folder.glob("*-heads.png"))  # of which word?


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"map": RawAttention([1])}, "attention: layer 1 does not exist: there are 1"),
        (
            {"further_maps": [RawAttention(heads=[2])]},
            "attention: heads=.2., but .* has 2",
        ),
        ({"probes": Probes(keys=["x"])}, "val has no image 'x'"),
        ({"probes": Probes(folder="/absent")}, "/absent is not a folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_training(
    make_data, make_task, make_trainer, options, said
):
    data = make_data()
    with pytest.raises(UserError, match=said):
        make_trainer(AttentionLogger("unused", **options)).fit(make_task(data), datamodule=data)


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
