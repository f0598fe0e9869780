import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.word_dropout import WordDropout


def test_a_share_of_the_tokens_is_blanked_but_never_the_first():
    torch.manual_seed(0)
    tokens = torch.randint(3, 20, (50, 4, 12))
    blanked = WordDropout(0.3)(tokens, 0)
    assert torch.equal(blanked[..., 0], tokens[..., 0])
    assert torch.equal(blanked[blanked != 0], tokens[blanked != 0])
    assert (blanked[..., 1:] == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_without_any_word_only_image_and_place_are_left(make_model, batch):
    model = make_model()
    image = model.encode_batch(batch)
    method = CrossEntropy(word_dropout=WordDropout(1.0))
    loss = method(model, image, batch, blank=0).loss
    blind = batch.tokens.clone()
    blind[..., 1:] = 0
    logits = model.logits(model.decode(image, blind)[batch.valid])
    chosen = logits.log_softmax(-1).gather(1, batch.labels[batch.valid][:, None])
    torch.testing.assert_close(loss, -chosen.mean())


def test_the_blank_is_learned(make_model, batch):
    model = make_model()
    model.text.head = torch.nn.Linear(16, model.text.vocab_size, bias=False)  # not tied
    for rate, learned in ((0.0, False), (1.0, True)):
        method = CrossEntropy(word_dropout=WordDropout(rate) if rate else None)
        model.zero_grad()
        method(model, model.encode_batch(batch), batch, blank=0).loss.backward()
        assert bool(model.text.embedding.weight.grad[0].any()) is learned


@pytest.mark.parametrize("rate", [0.0, 1.1])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match=rf"task\.cross_entropy\.word_dropout\.rate={rate} is a"):
        WordDropout(rate)
