import math

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.progress import Progress
from mmattn.tasks.methods.scheduled_sampling import ScheduledSampling


def at_end():
    return Progress(100, 100)


@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse_sigmoid"])
def test_the_probability_grows_over_the_run(schedule):
    method = ScheduledSampling(0.5, schedule, start=0.2)
    found = [method.probability_at(Progress(step, 100)) for step in range(101)]
    assert found[:21] == [0.0] * 21
    assert found[20:] == sorted(found[20:])
    assert found[100] == pytest.approx(0.5, rel=0.011)
    assert found[22] < 0.06


def test_the_schedules_are_those_of_the_paper():
    share, steps = 0.3, 1000
    linear = ScheduledSampling(1.0, "linear").probability_at(Progress(300, steps))
    assert linear == pytest.approx(share)
    k = 0.01 ** (1 / steps)  # exponential decay: ε = k^i
    exponential = ScheduledSampling(1.0, "exponential").probability_at(Progress(300, steps))
    assert exponential == pytest.approx(1 - k**300)
    # Inverse sigmoid decay, ε = k / (k + exp(i / s)), where 1 % is left at the end.
    sigmoid = ScheduledSampling(1.0, "inverse_sigmoid").probability_at(Progress(300, steps))
    k, s = 99.0, steps / (2 * math.log(99))
    assert sigmoid == pytest.approx(1 - k / (k + math.exp(300 / s)))


def test_the_likeliest_tokens_replace_all_but_the_first(make_model, batch):
    model = make_model()
    image = model.encode_batch(batch)
    method = ScheduledSampling(1.0, choice="argmax")
    given = method(model, image, batch.tokens, batch.valid, 1.0)
    for b, n in batch.valid.any(-1).nonzero().tolist():
        length = int(batch.valid[b, n].sum())
        scores = model(batch.images[b : b + 1], batch.tokens[b : b + 1, n : n + 1, :length])
        likeliest = scores[0, 0].argmax(-1).tolist()
        expected = [int(batch.tokens[b, n, 0]), *likeliest[:-1]]
        assert given[b, n, :length].tolist() == expected
    assert torch.equal(given[~batch.valid], batch.tokens[~batch.valid])
    logits = model.logits(model.decode(image, given)[batch.valid])
    chosen = logits.log_softmax(-1).gather(1, batch.labels[batch.valid][:, None])
    loss, figures = CrossEntropy(scheduled_sampling=method)(
        model, image, batch, blank=0, progress=at_end
    )
    torch.testing.assert_close(loss, -chosen.mean())
    assert figures["sampling_probability"].item() == 1.0


def test_a_share_of_the_tokens_is_replaced(make_model, batch):
    model = make_model()
    image = model.encode_batch(batch)
    torch.manual_seed(0)
    words = batch.valid.clone()
    words[..., 0] = False
    method = ScheduledSampling(1.0, choice="argmax")
    whole = method(model, image, batch.tokens, batch.valid, 1.0)
    differing = words & (whole != batch.tokens)
    found = [
        (method(model, image, batch.tokens, batch.valid, 0.4) != batch.tokens)[differing]
        for _ in range(60)
    ]
    assert torch.stack(found).float().mean().item() == pytest.approx(0.4, abs=0.05)


def test_sampled_tokens_come_as_often_as_the_model_expects():
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 2.0, -1.0, 0.0])
    drawn = ScheduledSampling(1.0)._chosen(logits.expand(20_000, 4))
    torch.testing.assert_close(
        drawn.bincount(minlength=4) / 20_000, logits.softmax(-1), atol=0.015, rtol=0
    )
    assert ScheduledSampling(1.0)._chosen(torch.full((2, 4), math.nan)).max() < 4


def test_before_it_begins_nothing_is_changed_or_drawn(make_model, batch):
    model = make_model(dropout=0.1)
    image = model.encode_batch(batch)
    torch.manual_seed(2)
    plain = CrossEntropy()(model, image, batch, blank=0).loss
    method = CrossEntropy(scheduled_sampling=ScheduledSampling(1.0, start=5))
    torch.manual_seed(2)
    loss = method(model, image, batch, blank=0, progress=lambda: Progress(4, 10)).loss
    assert torch.equal(loss, plain)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_second_pass_gives_every_weight_its_gradient(make_model, batch, dtype):
    model = make_model()
    method = CrossEntropy(scheduled_sampling=ScheduledSampling(1.0))
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        image = model.encode_batch(batch)
        loss = method(model, image, batch, blank=0, progress=at_end).loss
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"probability": 0.0}, r"scheduled_sampling\.probability=0\.0 is a probability"),
        ({"probability": 0.1, "schedule": "steps"}, "schedule is 'steps'; choose linear, expo"),
        ({"probability": 0.1, "choice": "beam"}, "choice is 'beam'; choose sample or argmax"),
        ({"probability": 0.1, "start": -3}, r"start=-3 is a number of optimiser steps"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        ScheduledSampling(**options)


def test_a_run_without_an_end_is_refused(make_model, batch):
    model = make_model()
    method = CrossEntropy(scheduled_sampling=ScheduledSampling(1.0))
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        method(model, model.encode_batch(batch), batch, blank=0)
