"""Monte-Carlo dropout: the passes differ by what is dropped, and by nothing else."""

import pytest
import torch

from mmattn.blocks import Residual
from mmattn.data.labelled.classes import Classes
from mmattn.errors import ConfigError
from mmattn.metrics.uncertainty import uncertainty
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.monte_carlo import AT_ONCE, MonteCarlo, droppers, dropping

TEXTS = ["is it a dog?", "which colour has the ball?", "is it red?"]
SEVERAL = {"answer": Classes("single", ("no", "yes")), "traits": Classes("multi", ("old", "small"))}


@pytest.fixture
def dropped(make_classifier):
    """A model that drops values before its heads and in its first blocks, and whole branches."""
    bundle = make_classifier(dropout=0.3, classes=SEVERAL, may_miss={"text": 0.9})
    for module in bundle.model.modules():
        if isinstance(module, Residual):
            module.dropout, module.drop_path = 0.2, 0.9
    return ClassifierPipeline(bundle)


def numbers(found):
    return [
        [(one.label, one.probability) for one in each.top] + [each.uncertainty] for each in found
    ]


def test_only_dropout_is_switched_on_and_all_is_as_before_at_the_end(dropped):
    model = dropped.model
    with dropping(model):
        on = [module for module in model.modules() if module.training]
        assert on == droppers(model)
        assert all(module.drop_path == 0 for module in on if isinstance(module, Residual))
        assert model.may_miss == {"text": 0.0}
        assert not model.vision.training
        assert not model.text.training
    assert not any(module.training for module in model.modules())
    assert model.may_miss == {"text": 0.9}
    residuals = [module for module in model.modules() if isinstance(module, Residual)]
    assert {module.drop_path for module in residuals} == {0.9}


def test_all_is_as_before_where_a_pass_fails(dropped):
    with pytest.raises(KeyError), dropping(dropped.model):
        raise KeyError
    assert not any(module.training for module in dropped.model.modules())
    assert dropped.model.may_miss == {"text": 0.9}


@torch.no_grad()
def test_it_tells_the_mean_of_passes_and_how_unsure_they_are(dropped, photos):
    """By hand: the same masks from the same seed, one batch of copies that share no image."""
    (found,) = dropped.classify(photos[0], TEXTS[0], passes=7, seed=5)
    labeller = dropped.own_labeller(passes=7, seed=5)
    ready = labeller.preparing(1)(dropped.questions(photos[0], TEXTS[0])[0])
    scores = [labeller.drawn(ready)[head] for head in SEVERAL]
    single, multi = (each.double() for each in scores)
    assert single.shape == multi.shape == (7, 2)
    assert single.unique(dim=0).shape[0] == 7  # every pass has masks of its own
    mean = dict(zip(("no", "yes"), single.mean(0).tolist(), strict=True))
    assert {one.label: one.probability for one in found.top} == pytest.approx(mean, abs=1e-6)
    wanted = uncertainty(single[:, None])
    parts = wanted.predictive_entropy, wanted.expected_entropy, wanted.mutual_information
    assert found.uncertainty == pytest.approx([float(part[0]) for part in parts], abs=1e-6)
    each = uncertainty(torch.stack([multi, 1 - multi], -1))
    assert found["traits"].uncertainty.total == pytest.approx(float(each.predictive_entropy.sum()))
    assert found.uncertainty.epistemic > 0


def test_images_are_dropped_in_each_pass_anew(make_classifier, photos):
    """Dropout in the image encoder alone: copies that shared its output would all be alike."""
    bundle = make_classifier(text=False)
    for module in bundle.model.vision.modules():
        if isinstance(module, Residual):
            module.dropout = 0.3
    (found,) = ClassifierPipeline(bundle).classify(photos[0], passes=10)
    assert found.uncertainty.epistemic > 1e-4


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_neither_the_batch_nor_the_threads_change_anything(dropped, photos, batch_size):
    wanted = dropped.classify(photos[:3], TEXTS, passes=4, seed=1)
    found = dropped.classify(photos[:3], TEXTS, passes=4, seed=1, batch_size=batch_size, threads=3)
    assert numbers(found) == numbers(wanted)
    assert numbers(dropped.classify(photos[:3], TEXTS, passes=4, seed=2)) != numbers(wanted)


def test_the_random_numbers_of_others_are_left_alone(dropped, photos):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    dropped.classify(photos[0], TEXTS[0], passes=3)
    assert torch.equal(torch.rand(3), wanted)


def test_many_passes_are_computed_some_at_a_time(dropped, photos):
    labeller = dropped.own_labeller(passes=2 * AT_ONCE + 3)
    ready = labeller.preparing(1)(dropped.questions(photos[0], TEXTS[0])[0])
    found = labeller.drawn(ready)["answer"]
    assert found.shape == (2 * AT_ONCE + 3, 2)
    assert found.unique(dim=0).shape == found.shape


def test_a_single_pass_of_the_same_model_is_not_changed(dropped, photos):
    before = numbers(dropped.classify(photos[:3], TEXTS))
    dropped.classify(photos[:3], TEXTS, passes=3)
    assert numbers(dropped.classify(photos[:3], TEXTS)) == before
    assert dropped.classify(photos[0], TEXTS[0])[0].uncertainty is None


def test_every_word_has_its_own(make_classifier):
    classes = {"entity": Classes("words", ("O", "person", "place"))}
    pipeline = ClassifierPipeline(make_classifier(vision=False, classes=classes, dropout=0.4))
    found, empty = pipeline.classify(texts=["a dog sleeps", ""], passes=6)
    assert len(found.uncertainty) == 3
    for word, unsure in zip(found["entity"].words, found.uncertainty, strict=True):
        assert word.unsure == unsure
        assert unsure.total == pytest.approx(unsure.aleatoric + unsure.epistemic)
    assert found.to_dict()["words"][0].keys() == {"word", "label", "probability", "uncertainty"}
    assert empty.uncertainty == ()


def test_passes_and_maps_go_together(dropped, photos):
    plain, both = (
        dropped.classify(photos[0], TEXTS[0], attention=True, passes=passes)[0] for passes in (0, 5)
    )
    assert [one.probability for one in both.maps] == [one.probability for one in both.top]
    wanted = {one.label: one.image for one in plain.maps}
    assert all((one.image == wanted[one.label]).all() for one in both.maps)  # without dropout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"passes": 1}, "passes=1: what passes disagree on takes 2 or more"),
        ({"passes": -3}, "passes=-3: what passes"),
        ({"passes": 3, "seed": -1}, "seed=-1: give 0 or more"),
        ({"at_least": 1.5}, "at_least=1.5: a probability is from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(dropped, settings, said):
    with pytest.raises(ConfigError, match=said):
        dropped.classify(["nowhere.png"], "is it red?", **settings)


def test_a_model_that_drops_nothing_is_refused(make_classifier):
    bundle = make_classifier()
    for module in bundle.model.modules():
        if isinstance(module, Residual):
            module.drop_path = 0.5  # no dropout: whole branches, which stay
    with pytest.raises(ConfigError, match="passes=5: this model has no dropout, so all passes"):
        ClassifierPipeline(bundle).classify(["nowhere.png"], "is it red?", passes=5)
    assert MonteCarlo(2).check(make_classifier(dropout=0.1).model) is None
