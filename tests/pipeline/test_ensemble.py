"""An ensemble says the mean of its members, each at its own temperature, and how they differ."""

import pytest
import torch

import mmattn
from mmattn.data.labelled.classes import Classes
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError, DataError
from mmattn.metrics.uncertainty import uncertainty
from mmattn.model_folder.format import write_folder
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.ensemble import ClassifierEnsemble

TEXTS = ["is it a dog?", "which colour has the ball?", "is it red?"]
NAMES = ("no", "perhaps", "yes")


@pytest.fixture(scope="module")
def members(make_classifier):
    """Three models of other weights and temperatures; the last has a tokenizer of its own."""
    bundles = [make_classifier(seed=i, temperature={"answer": 1.0 + i}) for i in range(3)]
    other = CaptionTokenizer.train(TEXTS * 5, 290, 2)
    assert other.vocab_size <= bundles[2].tokenizer.vocab_size
    bundles[2].tokenizer = other
    return [ClassifierPipeline(bundle) for bundle in bundles]


def shares(found):
    """The probabilities in the order of the classes."""
    return torch.tensor([[dict(one.top)[name] for name in NAMES] for one in found]).double()


def test_it_says_the_mean_and_how_unsure_they_are_together(members, photos):
    found = ClassifierEnsemble(members).classify(photos[:3], TEXTS, batch_size=2)
    each = torch.stack([shares(one.classify(photos[:3], TEXTS)) for one in members])
    torch.testing.assert_close(shares(found), each.mean(0), atol=1e-6, rtol=0)
    wanted = uncertainty(each)
    for row, one in enumerate(found):
        assert one.uncertainty.total == pytest.approx(
            float(wanted.predictive_entropy[row]), abs=1e-5
        )
        assert one.uncertainty.epistemic == pytest.approx(
            float(wanted.mutual_information[row]), abs=1e-5
        )
        assert one.to_dict()["uncertainty"].keys() == {"total", "aleatoric", "epistemic"}
    assert max(one.uncertainty.epistemic for one in found) > 1e-3


def test_twins_disagree_on_nothing(members, photos):
    (found,) = ClassifierEnsemble([members[0]] * 2).classify(photos[0], TEXTS[0])
    assert found.uncertainty.epistemic == pytest.approx(0, abs=1e-12)
    (alone,) = members[0].classify(photos[0], TEXTS[0])
    assert found.probability == pytest.approx(alone.probability)


def test_a_list_of_folders_is_one(make_classifier, photos, tmp_path):
    folders = [write_folder(make_classifier(seed=i), tmp_path / str(i)) for i in range(2)]
    model = mmattn.load(folders)
    assert isinstance(model, mmattn.ClassifierEnsemble)
    wanted = ClassifierEnsemble([mmattn.load(folder) for folder in folders])
    (found,), (other,) = (one.classify(photos[0], TEXTS[0]) for one in (model, wanted))
    assert found.to_dict() == other.to_dict()
    assert repr(model).startswith("ClassifierEnsemble(ClassifierPipeline(")
    assert model.to(dtype=torch.bfloat16) is model
    assert [member.dtype for member in model.members] == [torch.bfloat16] * 2
    for call in (model.save, model.push_to_hub):
        with pytest.raises(ConfigError, match="has no folder of its own"):
            call(str(tmp_path / "both"))


def test_members_drop_other_values(make_classifier, photos):
    twins = [ClassifierPipeline(make_classifier(dropout=0.4)) for _ in range(2)]
    labeller = ClassifierEnsemble(twins).labeller(passes=4)
    assert [member.dropout.member for member in labeller.members] == [0, 1]
    (found,) = ClassifierEnsemble(twins).classify(photos[0], TEXTS[0], passes=4)
    (alone,) = twins[0].classify(photos[0], TEXTS[0], passes=4)
    assert found.probability != alone.probability
    assert found.uncertainty.epistemic > 0


def test_a_picture_that_cannot_be_read_is_said(members, folder):
    (folder / "z.png").write_text("no picture")
    with pytest.raises(DataError, match=r"z\.png is not an image"):
        ClassifierEnsemble(members).classify([folder / "photo 0.png", folder / "z.png"], "is it?")


def test_a_text_that_one_member_cannot_read_is_said_before_any_picture(members):
    text = "a cat sleeps on a mat"
    lengths = [len(one.tokenizer.encode(text)) + 2 for one in members]
    assert lengths[0] <= 16 < lengths[2]
    with pytest.raises(DataError, match=f"input 0: the text has {lengths[2]} tokens"):
        ClassifierEnsemble(members).classify(["nowhere.png"], text)


def of(*names, kind="single", head="answer"):
    return {"classes": {head: Classes(kind, names)}}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            of("no", "maybe", "yes"),
            "model 2 of the ensemble, head 'answer': its class 1 is 'maybe'",
        ),
        (of("no", "yes", "perhaps"), "its class 1 is 'yes', and the first model's is 'perhaps'"),
        (of("no", "perhaps"), "head 'answer': it has 2 classes, and the first model has 3"),
        (of(*NAMES, kind="multi"), "its kind is 'multi', and the first has 'single'"),
        (of(*NAMES, head="said"), "has the heads said, and the first model has answer"),
        (
            {"text": False},
            "model 2 of the ensemble reads image, and the first model image and text",
        ),
        ({"images": 2}, "takes 2 images an input, and the first model 1 images an input"),
    ],
)
def test_models_that_do_not_go_together_are_refused(make_classifier, members, other, said):
    with pytest.raises(ConfigError, match=said) as raised:
        ClassifierEnsemble([members[0], ClassifierPipeline(make_classifier(**other))])
    assert "\n" not in str(raised.value)


def test_what_an_ensemble_cannot_do_is_said(members, photos, pipeline, tmp_path):
    with pytest.raises(ConfigError, match="an ensemble has 2 models or more, and this has 1"):
        ClassifierEnsemble(members[:1])
    with pytest.raises(ConfigError, match="attention explains the decision of one model"):
        ClassifierEnsemble(members).classify(photos[0], TEXTS[0], attention=True)
    captioner = pipeline.save(tmp_path / "captioner")
    classifier = members[0].save(tmp_path / "classifier")
    with pytest.raises(ConfigError, match="an ensemble is of captioners or of classifiers"):
        mmattn.load([captioner, classifier])


def test_a_trial_takes_a_batch_of_every_member(members):
    ClassifierEnsemble(members).labeller().trial(2)
