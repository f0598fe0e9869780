"""`mmattn.load([A, B])` of captioners writes by the mean of what they find probable; exact maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import mmattn
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError
from mmattn.pipeline.captioner_ensemble import CaptionerEnsemble
from mmattn.pipeline.pipeline import Pipeline
from mmattn.recorder import Recorder


@pytest.fixture(scope="module")
def members(make_captioner):
    return [Pipeline(make_captioner(seed=i)) for i in range(2)]


@pytest.mark.parametrize(
    "options", [{}, {"beams": 3, "returned": 2}, {"sample": True, "best_of": 4, "by": "consensus"}]
)
def test_twins_say_what_one_of_them_says(members, photos, options):
    found = CaptionerEnsemble([members[0]] * 2).caption(photos[:4], batch_size=3, **options)
    alone = members[0].caption(photos[:4], batch_size=3, **options)
    assert [one.text for one in found] == [one.text for one in alone]
    for one, other in zip(found, alone, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)
        assert [x.text for x in one.others] == [x.text for x in other.others]


def test_a_list_of_folders_is_one(members, photos, tmp_path):
    folders = [one.save(tmp_path / str(i)) for i, one in enumerate(members)]
    model = mmattn.load(folders)
    assert isinstance(model, mmattn.CaptionerEnsemble)
    wanted = CaptionerEnsemble(members).caption(photos[:3])
    assert [one.to_dict() for one in model.caption(photos[:3])] == [one.to_dict() for one in wanted]
    assert repr(model).startswith("CaptionerEnsemble(Pipeline(")
    assert model.to(dtype=torch.bfloat16) is model
    assert [member.dtype for member in model.members] == [torch.bfloat16] * 2
    for call in (model.save, model.push_to_hub):
        with pytest.raises(ConfigError, match="has no folder of its own"):
            call(str(tmp_path / "both"))
    with pytest.raises(ConfigError, match="has no vectors of its own"):
        model.embed(photos[0])


def test_maps_are_the_very_weights_of_each_member(members, photos):
    model = CaptionerEnsemble(members)
    (caption,) = model.caption(photos[0], attention=True, beams=3)
    (silent,) = model.caption(photos[0], beams=3)
    assert (caption.text, caption.log_probs) == (silent.text, silent.log_probs)
    record, passed = caption.attention, []
    assert record is not None
    assert record.cross.names == tuple(
        f"model {m}: text.{layer}.cross" for m in (1, 2) for layer in (0, 1)
    )
    ids = torch.tensor([[[model.tokenizer.begin_id, *caption.ids[:-1]]]])
    pixels = model.transform(torch.from_numpy(photos[0]).permute(2, 0, 1))[None]
    for member in members:
        recorder = Recorder(["text.*.cross"])
        with torch.no_grad():
            member.model(pixels, ids, recorder)
        passed += [recorder.maps[f"text.{layer}.cross"][0].numpy() for layer in (0, 1)]
    np.testing.assert_allclose(record.cross.weights, np.stack(passed), atol=1e-5)
    last = np.mean([passed[1].mean(0), passed[3].mean(0)], 0)[:, record.prefix :]
    (method,) = record.methods
    np.testing.assert_allclose(method.maps.reshape(last.shape), last, atol=1e-5)
    assert method.title == (
        "cross-attention, model 1: text.1.cross and model 2: text.1.cross, mean over heads"
    )


def test_a_page_shows_the_layers_of_both(members, photos, tmp_path):
    (caption,) = CaptionerEnsemble(members).caption(photos[0], attention=True)
    assert "model 2: text.1.cross" in caption.save(tmp_path / "page.html").read_text("utf-8")


def other_tokenizer(bundle):
    tokenizer = CaptionTokenizer.train(["a dog runs over the grass"] * 9, 290, 2)
    return replace(bundle, tokenizer=tokenizer)


def other_pictures(bundle):
    values = replace(bundle.preprocessing, mean=(0.4, 0.5, 0.5))
    assert isinstance(values, Preprocessing)
    return replace(bundle, preprocessing=values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_tokenizer, "model 2 of the ensemble has another tokenizer than the first model"),
        (other_pictures, r"its mean is \(0.4, 0.5, 0.5\), and the first has \(0.5, 0.5, 0.5\)"),
    ],
)
def test_models_that_do_not_go_together_are_refused(members, change, said):
    other = Pipeline(change(members[1].bundle))
    with pytest.raises(ConfigError, match=said) as raised:
        CaptionerEnsemble([members[0], other])
    assert "\n" not in str(raised.value)


def test_maps_of_different_sizes_are_not_shown_together(members, monkeypatch):
    vision = members[1].model.vision
    monkeypatch.setattr(vision, "prefix", vision.prefix + 1)
    model = CaptionerEnsemble(members)
    with pytest.raises(ConfigError, match="model 2 of the ensemble has 2 heads over patches"):
        model.writer(attention=True)
    assert model.writer() is not None


def test_captions_are_as_long_as_the_shortest_member_writes(members, photos):
    short = Pipeline(replace(members[1].bundle, max_length=4))
    found = CaptionerEnsemble([members[0], short]).caption(photos[:4])
    assert max(len(one.ids) for one in found) <= 4
    with pytest.raises(ConfigError, match="max_length=13, but this model's texts have at most 12"):
        CaptionerEnsemble(members).caption(photos[0], max_length=13)


def test_one_model_and_models_of_two_kinds_are_no_ensemble(members, make_classifier, tmp_path):
    with pytest.raises(ConfigError, match="an ensemble has 2 models or more, and this has 1"):
        CaptionerEnsemble(members[:1])
    from mmattn.model_folder.format import write_folder

    classifier = write_folder(make_classifier(), tmp_path / "classifier")
    captioner = members[0].save(tmp_path / "captioner")
    with pytest.raises(ConfigError, match="an ensemble is of captioners or of classifiers: "):
        mmattn.load([captioner, classifier])
