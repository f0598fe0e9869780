import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.distillation import Distillation, Teacher

TOKENIZER = CaptionTokenizer.train(["a red ball", "a red square"], 270)


def known(model, side=8, mean=0.5, tokenizer=TOKENIZER):
    size = (side, side)
    prepared = Preprocessing(size, size, None, "bilinear", (mean,) * 3, (0.5,) * 3)
    return SimpleNamespace(model=model, tokenizer=tokenizer, preprocessing=prepared)


def data(cached=False):
    transform = ToNormalised([0.5] * 3, [0.5] * 3)
    return SimpleNamespace(cached=cached, eval_transform=transform, image_size=(8, 8))


@pytest.fixture
def prepare(make_model):
    """Return a teacher, that of seed 1, ready."""

    def make(found=None, its_data=None):
        teacher = Teacher(
            "runs/big", lambda: found or known(make_model(seed=1, dropout=0.5).train())
        )
        teacher.prepare(TOKENIZER, its_data or data())
        return teacher

    return make


@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 1.0), (0.5, 2.5), (1.0, 4.0)])
def test_the_loss_mixes_truth_and_teacher(make_model, batch, prepare, weight, temperature):
    model, other = make_model(), make_model(seed=1).eval()
    method = CrossEntropy(distillation=Distillation(prepare(), weight, temperature))
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
    model, method = make_model(), CrossEntropy(distillation=Distillation(teacher, 1.0))
    before = copy.deepcopy(teacher._model.state_dict())
    loss = method(model, model.encode_batch(batch), batch, blank=0).loss
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher._model.parameters())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    assert all(torch.equal(teacher._model.state_dict()[name], x) for name, x in before.items())
    assert copy.deepcopy(method).distillation.teacher is teacher  # averaged weights copy the task


def test_who_is_its_own_teacher_learns_nothing_from_it(make_model, batch, prepare):
    model = make_model()
    method = CrossEntropy(distillation=Distillation(prepare(known(make_model())), 1.0, 3.0))
    assert method(model, model.encode_batch(batch), batch, blank=0).loss.item() == pytest.approx(
        0, abs=1e-6
    )


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
        (None, data(cached=True), r"runs/big looks at pictures.*set feature_cache=null"),
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
        Distillation(Teacher("x", lambda: None), **options)
