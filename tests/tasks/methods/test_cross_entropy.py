import pytest
import torch
from torch.nn import functional as F

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_further_methods_it_is_torchs_own_loss_to_the_bit(make_model, batch, smoothing):
    model = make_model(dropout=0.2)
    image = model.encode_batch(batch)
    torch.manual_seed(5)
    logits = model.logits(model.decode(image, batch.tokens)[batch.valid])
    expected = F.cross_entropy(logits, batch.labels[batch.valid], label_smoothing=smoothing)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    loss, figures = CrossEntropy(label_smoothing=smoothing)(model, image, batch, blank=0)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.rand(1), drawn)  # nothing else was drawn
    assert set(figures) == {"token_accuracy"}


def test_the_loss_is_the_mean_over_real_tokens(make_model, batch, plain_losses):
    model = make_model()
    losses = [loss for _, _, losses in plain_losses(model, batch) for loss in losses]
    loss = CrossEntropy()(model, model.encode_batch(batch), batch, blank=0).loss
    torch.testing.assert_close(loss, torch.stack(losses).mean())


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(smoothing):
    with pytest.raises(ConfigError, match=rf"label_smoothing={smoothing} is a share, from 0"):
        CrossEntropy(label_smoothing=smoothing)
