import pytest
import torch
from torch.nn import functional as F

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.drop_worst import DropWorst
from mmattn.tasks.methods.r_drop import RDrop, divergence


def test_the_divergence_is_that_of_torch_in_both_directions():
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 7)
    log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
    both = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    both = both + F.kl_div(log_p, log_q, reduction="none", log_target=True)
    torch.testing.assert_close(divergence(one, other), both.sum(-1) / 2)
    assert divergence(one, one).tolist() == [0.0] * 5


def test_the_loss_is_that_of_two_passes_and_how_far_they_are_apart(make_model, batch):
    model = make_model(dropout=0.3)
    image = model.encode_batch(batch)
    torch.manual_seed(1)
    one, other = (model.logits(model.decode(image, batch.tokens)[batch.valid]) for _ in range(2))
    targets = batch.labels[batch.valid]
    log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
    apart = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
    expected = (F.cross_entropy(one, targets) + F.cross_entropy(other, targets)) / 2 + 1.5 * apart
    torch.manual_seed(1)
    loss, figures = CrossEntropy(r_drop=RDrop(3.0))(model, image, batch, blank=0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(figures["r_drop"], 1.5 * apart)
    torch.manual_seed(1)
    both = CrossEntropy(r_drop=RDrop(3.0), drop_worst=DropWorst(0.01))
    torch.testing.assert_close(both(model, image, batch, blank=0).loss, expected)


def test_both_passes_learn(make_model, batch):
    model = make_model(dropout=0.3)
    torch.manual_seed(1)
    CrossEntropy(r_drop=RDrop(1e6))(
        model, model.encode_batch(batch), batch, blank=0
    ).loss.backward()
    assert all(bool(p.grad.any()) for p in model.text.parameters())


def test_a_decoder_without_dropout_is_refused(make_model):
    method = RDrop(1.0)
    method.check(make_model(attention_dropout=0.1))
    with pytest.raises(ConfigError, match=r"set \+\+model\.text\.block\.dropout=0\.1"):
        method.check(make_model())


def test_a_weight_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"task\.cross_entropy\.r_drop\.alpha=0\.0 must be above"):
        RDrop(0.0)
