"""`mmattn.load`: by whatever names a model, or one line that says what is wrong."""

import pytest
import torch

import mmattn
from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.format import write_folder
from mmattn.pipeline.load import load_captioner, load_classifier


@pytest.fixture(scope="module")
def place(make_captioner, tmp_path_factory):
    """A run directory with a model folder."""
    run = tmp_path_factory.mktemp("run")
    (run / "config.yaml").write_text("model: {}\n")
    write_folder(make_captioner(beams=3), run / "model")
    return run


def test_a_run_and_its_model_folder_are_loaded(place, photos):
    for source in (place, str(place), place / "model", str(place / "model")):
        pipeline = mmattn.load(source)
        assert isinstance(pipeline, mmattn.Pipeline)
        assert pipeline.options.beams == 3
        assert not pipeline.model.training
        assert (pipeline.device, pipeline.dtype) == (torch.device("cpu"), torch.float32)
        assert isinstance(pipeline.caption(photos[0])[0], mmattn.Caption)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_it_computes_in_the_type_that_is_asked_for(place, photos, dtype):
    pipeline = mmattn.load(place, dtype=dtype, device="auto")
    assert pipeline.dtype == torch.bfloat16
    assert pipeline.caption(photos[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": "int8"}, "dtype='int8': choose float32, bfloat16, float16"),
        ({"device": "gpu"}, "device gpu: .*; give cpu, cuda, cuda:1 or mps"),
        ({"device": "cuda:99"}, "device cuda:99: .*; give cpu, cuda, cuda:1 or mps"),
        ({"device": "meta"}, "device meta: nothing is computed there"),
        ({"revision": "main"}, "revision='main' is of the hub"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(place, settings, said):
    with pytest.raises(ConfigError, match=said) as raised:
        mmattn.load(place, **settings)
    assert "\n" not in str(raised.value)


def test_what_is_no_model_is_said(place, tmp_path):
    with pytest.raises(ConfigError, match="does not exist; give a model folder or a run directory"):
        mmattn.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no model folder"):
        mmattn.load(tmp_path)
    with pytest.raises(ConfigError, match="is a file: give the folder that holds it"):
        mmattn.load(place / "model" / "config.json")


def test_it_moves_to_another_type(place):
    pipeline = mmattn.load(place)
    assert pipeline.to(dtype=torch.bfloat16) is pipeline
    assert pipeline.to("cpu").dtype == torch.bfloat16


def test_a_kind_of_model_can_be_insisted_on(place, make_classifier, tmp_path):
    folder = write_folder(make_classifier(), tmp_path / "classifier")
    assert isinstance(load_classifier(folder, "this"), mmattn.ClassifierPipeline)
    assert isinstance(load_captioner(place, "this"), mmattn.Pipeline)
    with pytest.raises(ConfigError, match=r"classifier \(answer\), .*; that is for captioners"):
        load_captioner(folder, "that")
    with pytest.raises(ConfigError, match=r"is a captioner, .*; that is for classifiers"):
        load_classifier(place, "that")
