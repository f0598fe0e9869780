import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.distillation import Distillation, Teacher
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

TOKENIZER = CaptionTokenizer.train(["a red ball", "a red square"], 270)


def known(model, side=8, mean=0.5, tokenizer=TOKENIZER):
    size = (side, side)
    prepared = Preprocessing(size, size, None, "bilinear", (mean,) * 3, (0.5,) * 3)
    return SimpleNamespace(model=model, tokenizer=tokenizer, preprocessing=prepared)


def data(cached=False, side=8):
    transform = ToNormalised([0.5] * 3, [0.5] * 3)
    return SimpleNamespace(cached=cached, eval_transform=transform, image_size=(side, side))


@pytest.fixture
def prepare(make_model):
    """Return a teacher, that of seed 1, ready."""

    def make(found=None, its_data=None):
        teacher = Teacher(
            "runs/big", lambda: found or known(make_model(seed=1, dropout=0.5).train())
        )
        teacher.prepare(make_model(), TOKENIZER, its_data or data())
        return teacher

    return make


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 1.0), (0.5, 2.5), (1.0, 4.0)])
def test_the_loss_mixes_truth_and_teacher(make_model, batch, prepare, weight, temperature):
    model, other = make_model(), make_model(seed=1).eval()
    method = CrossEntropy(distillation=Distillation([prepare()], weight, temperature))
    image = model.encode_batch(batch)
    loss, figures = method(model, image, batch, blank=0)
    logits = model.logits(model.decode(image, batch.tokens)[batch.valid])
    expected = other(batch.images, batch.tokens)[batch.valid]
    log_q, log_p = ((x / temperature).log_softmax(-1) for x in (logits, expected))
    soft = temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(logits, batch.labels[batch.valid])
    torch.testing.assert_close(loss, (1 - weight) * hard + weight * soft)
    torch.testing.assert_close(figures["distillation"], soft)


def test_the_teacher_is_never_changed_and_no_part_of_the_student(make_model, batch, prepare):
    teacher = prepare()
    model, method = make_model(), CrossEntropy(distillation=Distillation([teacher], 1.0))
    before = copy.deepcopy(teacher._model.state_dict())
    loss = method(model, model.encode_batch(batch), batch, blank=0).loss
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher._model.parameters())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    assert all(torch.equal(teacher._model.state_dict()[name], x) for name, x in before.items())
    assert copy.deepcopy(method).distillation.teachers[0] is teacher


def test_who_is_its_own_teacher_learns_nothing_from_it(make_model, batch, prepare):
    model = make_model()
    method = CrossEntropy(distillation=Distillation([prepare(known(make_model()))], 1.0, 3.0))
    assert method(model, model.encode_batch(batch), batch, blank=0).loss.item() == pytest.approx(
        0, abs=1e-6
    )


def test_several_teachers_say_the_mean_of_their_probabilities(make_model, batch, prepare):
    others = [make_model(seed=seed).eval() for seed in (1, 2)]
    method = Distillation([prepare(known(copy.deepcopy(other))) for other in others], 1.0, 2.0)
    logits = [other(batch.images, batch.tokens)[batch.valid] for other in others]
    mean = torch.stack([(x / 2).softmax(-1) for x in logits]).mean(0)
    torch.testing.assert_close(method.expected(batch).exp(), mean)
    student = torch.randn_like(mean)
    soft = 4 * F.kl_div((student / 2).log_softmax(-1), mean, reduction="none").sum(-1)
    torch.testing.assert_close(method.losses(student, method.expected(batch)), soft)


def on_frozen_features(seed, **options):
    """A captioner on a frozen backbone, whose weights are those of seed 0 unless told."""
    torch.manual_seed(options.pop("backbone", 0))
    options = {"level": -1, "frozen": True} | options
    patches = TimmPatches("mobilenetv2_035", 8, (32, 32), **options)
    torch.manual_seed(seed)
    patches.project.reset_parameters()
    vision = VisionTransformer((32, 32), patches, 1, BlockOptions(heads=2))
    text = TextTransformer(23, 8, 1, BlockOptions(heads=2), max_length=10, context_dim=8)
    return Captioner(vision, text)


def test_a_teacher_on_the_same_frozen_backbone_teaches_from_its_features(batch):
    student, teacher = on_frozen_features(0), on_frozen_features(1)
    images = torch.rand(len(batch.keys), 3, 32, 32)
    seen = replace(batch, images=images)
    features = replace(seen, images=student.vision.patches.features(images), cached=True)
    asked = Teacher("runs/alike", lambda: known(teacher, side=32))
    asked.prepare(student, TOKENIZER, data(cached=True, side=32))
    expected = teacher.eval()(images, batch.tokens)[batch.valid]
    assert not torch.equal(expected, student.eval()(images, batch.tokens)[batch.valid])
    torch.testing.assert_close(asked.logits(features), expected)
    torch.testing.assert_close(asked.logits(seen), expected)


@pytest.mark.parametrize("other", [{"backbone": 5}, {"level": -2}, {"frozen": False}])
def test_a_teacher_on_another_backbone_needs_the_pictures(other):
    teacher = Teacher("runs/other", lambda: known(on_frozen_features(1, **other), side=32))
    with pytest.raises(ConfigError, match=r"runs/other does not have the very same"):
        teacher.check_cached(on_frozen_features(0))


def test_the_teachers_place_follows_the_batch(make_model, batch, prepare):
    teacher = prepare()
    batch.images = batch.images.bfloat16()
    assert teacher.logits(batch).dtype == torch.bfloat16


def test_what_does_not_fit_is_refused(make_model, prepare):
    model = make_model()
    other = CaptionTokenizer.train(["something else entirely"], 280)
    for found, its_data, said in (
        (known(model, side=16), None, r"takes pictures of 16 x 16 pixels, and data\.image_size is"),
        (known(model, mean=0.4), None, r"less \(0\.4, .* makes them less \(0\.5, 0\.5, 0\.5\)"),
        (known(model, tokenizer=other), None, r"another tokenizer, of \d+ .*data\.tokenizer\.path"),
        (None, data(cached=True), r"runs/big does not have the very same.*set feature_cache=null"),
    ):
        with pytest.raises(ConfigError, match=said):
            prepare(found, its_data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": 0.0}, r"distillation\.weight=0\.0 is a share"),
        ({"weight": 1.5}, r"distillation\.weight=1\.5 is a share"),
        ({"temperature": 0.0}, r"distillation\.temperature=0\.0 must be above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Distillation([Teacher("x", lambda: None)], **options)


def test_no_teacher_is_refused():
    with pytest.raises(ConfigError, match=r"distillation\.teacher=\[\]: name a captioner"):
        Distillation([])
