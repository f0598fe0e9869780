"""A run's captioner comes from its configuration and its checkpoint, and from nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mmattn.bundle import ClassifierBundle
from mmattn.cli import schema
from mmattn.cli.build import build, build_model, build_task
from mmattn.cli.model_of_run import bundle_of_run, results_of_run, without_origins
from mmattn.errors import CheckpointError, ConfigError, UserError
from mmattn.model_folder.format import read_folder, write_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_run):
    """Write a run directory whose data set is no longer there; return it, its task and data."""
    run = tmp_path_factory.mktemp("runs") / "run"
    (run / "checkpoints").mkdir(parents=True)
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", [f"paths.output_dir={run}", *small_run, "compile=true"])
    data = build(config.data, "data")
    data.read()
    config.model.text.vocab_size = data.tokenizer.vocab_size
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    kept.data.source = {"_target_": "mmattn.data.flickr.Flickr8k", "root": "/no/such/place"}
    (run / "config.yaml").write_text(OmegaConf.to_yaml(kept))
    config.compile = False
    task = build_task(config, build(config.model, "model"), data).eval()
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    return run, task, data


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "run"))


def change(run, key, value):
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(config, key, value, merge=False)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))


def test_all_that_it_needs_to_caption_is_there(made, run):
    _, task, data = made
    bundle = bundle_of_run(run)
    own = task.model.state_dict()
    assert own.keys() == bundle.model.state_dict().keys()
    assert all(torch.equal(v, own[name]) for name, v in bundle.model.state_dict().items())
    assert not bundle.model.training
    assert bundle.tokenizer.fingerprint == data.tokenizer.fingerprint
    assert bundle.tokenizer.special == data.tokenizer.special
    image = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    assert torch.equal(bundle.preprocessing.transform()(image), data.eval_transform(image))
    assert bundle.max_length == data.max_length
    assert bundle.source == "trained by mmattn on Flickr8k"


def test_it_can_be_written_and_read(run, tmp_path):
    bundle = bundle_of_run(run / "checkpoints" / "last.ckpt")
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert read.preprocessing == bundle.preprocessing


def test_only_this_librarys_parts_are_told_not_to_look_for_weights():
    ours = {"_target_": "mmattn.backbones.TimmPatches", "pretrained": "/gone", "dim": 3}
    theirs = {"_target_": "mine.Encoder", "pretrained": "/mine"}
    found = without_origins({"a": [ours], "b": theirs})
    assert found == {"a": [{**ours, "pretrained": False}], "b": theirs}


def test_a_backbone_of_a_local_file_needs_the_file_no_more(tmp_path, made):
    run, _, data = made
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    patches = {"_target_": "mmattn.backbones.TimmPatches", "name": "mobilenetv2_035", "dim": 16}
    patches |= {"image_size": [32, 32], "level": "final", "pretrained": False}
    change(copy, "model.vision.patches", patches)
    config = OmegaConf.load(copy / "config.yaml")
    config.compile = False
    task = build_task(config, build(config.model, "model"), data).eval()
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, copy / "checkpoints" / "last.ckpt")
    change(copy, "model.vision.patches.pretrained", "/no/such/weights.pth")
    found = bundle_of_run(copy).model.state_dict()
    assert all(torch.equal(v, found[name]) for name, v in task.model.state_dict().items())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.text.dim", 32, "does not fit Captioner"),
        ("model.vision._target_", "os.system", "'os.system' is not on the list"),
        ("data.eval_transform._target_", "os.system", "'os.system' is not on the list"),
        ("model.text.deep", 3, "takes no deep"),
        (
            "data.eval_transform",
            {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"},
            "RandomHorizontalFlip is not one of Resize, CenterCrop and ToNormalised",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(run, key, value, said):
    change(run, key, value)
    with pytest.raises(UserError, match=said) as caught:
        bundle_of_run(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["eval_transform", "image_size", "max_length"])
def test_data_of_somebodys_own_without_what_is_needed_is_named(run, key):
    config = OmegaConf.load(run / "config.yaml")
    del config.data[key]
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    with pytest.raises(ConfigError, match=rf"config\.yaml: data\.{key} is missing: a model folder"):
        bundle_of_run(run)


@pytest.mark.parametrize("section", ["data", "model"])
def test_a_section_that_is_none_is_named(run, section):
    change(run, section, 3)
    with pytest.raises(ConfigError, match=rf"config\.yaml: {section} is no section"):
        bundle_of_run(run)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (None, "this is not a checkpoint of a run of mmattn"),
        ({"schema": 9, "tokenizer": ""}, "the checkpoint has schema 9"),
        ({"schema": 1, "tokenizer": "{}"}, "its tokenizer cannot be read"),
        ({"schema": 1, "tokenizer": 3}, "its tokenizer cannot be read"),
    ],
)
def test_a_checkpoint_without_a_tokenizer_is_named(run, own, said):
    path = run / "checkpoints" / "last.ckpt"
    torch.save({**torch.load(path, weights_only=True), "mmattn": own}, path)
    with pytest.raises(CheckpointError, match=rf"last\.ckpt: {said}"):
        bundle_of_run(run)


def test_an_encoder_of_a_model_needs_that_model(run, tmp_path):
    """It is named where it is gone; where it is there, the run's own weights are loaded into it."""
    wanted, source = bundle_of_run(run), bundle_of_run(run)
    with torch.no_grad():
        for parameter in source.model.vision.parameters():
            parameter.add_(1)
    write_folder(source, tmp_path / "source")
    vision = {"_target_": "mmattn.model_folder.encoders.vision_of", "image_size": None}
    change(run, "model.vision", {**vision, "source": str(tmp_path / "source"), "revision": None})
    found = bundle_of_run(run).model.vision.state_dict()
    assert all(v.equal(found[name]) for name, v in wanted.model.vision.state_dict().items())
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(ConfigError) as caught:
        bundle_of_run(run)
    said = f"this run's image encoder came from {tmp_path / 'source'}, which must be at hand: "
    assert str(caught.value).startswith(said)


def test_where_there_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; give a folder such as logs"):
        bundle_of_run(tmp_path / "absent")


def test_the_figures_of_a_run(run):
    assert results_of_run(run) == {}
    (run / "results.json").write_text(json.dumps({"test/cider": 1.5, "train/seconds": 3}))
    assert results_of_run(run) == {"test/cider": 1.5, "train/seconds": 3.0}
    assert results_of_run(run / "checkpoints" / "last.ckpt")["test/cider"] == 1.5


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"a": null}'])
def test_figures_that_are_none_are_named(run, text):
    (run / "results.json").write_text(text)
    with pytest.raises(ConfigError, match=r"results\.json: not the results of a run"):
        results_of_run(run)


@pytest.fixture(scope="module")
def asking(tmp_path_factory, small_questions):
    """Write the run directory of a classifier whose data set is gone; return it, task and data."""
    run = tmp_path_factory.mktemp("runs") / "run"
    (run / "checkpoints").mkdir(parents=True)
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", [f"paths.output_dir={run}", *small_questions])
    data = build(config.data, "data")
    data.read()
    task = build_task(config, build_model(config, data), data).eval()
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    kept.data.source = {"_target_": "mmattn.data.labelled.Manifest", "path": "/no/such/place"}
    (run / "config.yaml").write_text(OmegaConf.to_yaml(kept))
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    (run / "results.json").write_text(json.dumps({"model/temperature": 1.25, "val/loss": 3.0}))
    return run, task, data


def test_all_that_a_classifier_needs_is_there(asking, tmp_path):
    run, task, data = asking
    bundle = bundle_of_run(run)
    assert isinstance(bundle, ClassifierBundle)
    own = task.model.state_dict()
    found = bundle.model.state_dict()
    assert own.keys() == found.keys()
    assert all(torch.equal(v, found[name]) for name, v in own.items())
    assert bundle.classes == data.classes
    assert bundle.temperature == {"answer": 1.25}
    assert bundle.tokenizer.fingerprint == data.tokenizer.fingerprint
    assert (bundle.max_length, bundle.source) == (40, "trained by mmattn on Manifest")
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert (read.classes, read.temperature) == (bundle.classes, bundle.temperature)
    one = bundle_of_run(run / "checkpoints" / "last.ckpt")  # the results are of the best weights
    assert one.temperature == {}


@pytest.mark.parametrize("classes", [None, 3, {"answer": {"kind": "single"}}, {"answer": 3}])
def test_a_checkpoint_without_classes_is_named(asking, tmp_path, classes):
    run = Path(shutil.copytree(asking[0], tmp_path / "run"))
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["mmattn"]["classes"] = classes
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: says nothing of classes"):
        bundle_of_run(run)


def test_a_captioners_checkpoint_without_a_tokenizer_is_named(run):
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["mmattn"]["tokenizer"] = None
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="has no tokenizer, which a captioner needs"):
        bundle_of_run(run)
