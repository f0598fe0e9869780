import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.parallel_prediction import ParallelPrediction


def test_both_kinds_stand_in_one_batch(make_model, batch):
    model = make_model()
    image = model.encode_batch(batch)
    parallel = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
    tokens = ParallelPrediction(0.5)(batch.tokens, parallel, 0)
    hidden = model.decode(image, tokens, parallel=parallel, valid=batch.valid)
    causal = model.decode(image, batch.tokens)
    for b, n in batch.valid.any(-1).nonzero().tolist():
        length = int(batch.valid[b, n].sum())
        if not parallel[b, n]:
            torch.testing.assert_close(hidden[b, n, :length], causal[b, n, :length])
            continue
        # Alone and without padding: an encoder of blanks, whatever the caption says.
        model.text.causal = False
        one = image._replace(tokens=image.tokens[b : b + 1])
        alone = model.decode(one, torch.zeros(1, 1, length, dtype=torch.long))[0, 0]
        model.text.causal = True
        torch.testing.assert_close(hidden[b, n, :length], alone)


def test_a_parallel_place_depends_on_the_places_behind_it_and_not_on_words(make_model, batch):
    model = make_model()
    method = CrossEntropy(parallel_prediction=ParallelPrediction(1.0))
    image = model.encode_batch(batch)
    loss = method(model, image, batch, blank=0).loss
    batch.tokens[batch.valid] = 7
    assert torch.equal(method(model, image, batch, blank=0).loss, loss)
    image.tokens.retain_grad()
    method(model, image, batch, blank=0).loss.backward()
    assert bool(image.tokens.grad.isfinite().all())
    assert bool(image.tokens.grad.any(-1).any(-1).all())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_captions_are_drawn_with_the_probability():
    torch.manual_seed(0)
    chosen = ParallelPrediction(0.75).chosen(torch.zeros(1000, 5, 3, dtype=torch.long))
    assert chosen.float().mean().item() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 1.5])
def test_a_probability_that_is_none_is_refused(probability):
    with pytest.raises(ConfigError, match=rf"parallel_prediction\.probability={probability} is a"):
        ParallelPrediction(probability)
