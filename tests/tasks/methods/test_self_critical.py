"""Reinforcement: the gradient is that of the expected reward, and rewards rise."""

from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.sampling import Sampling
from mmattn.errors import ConfigError, TrainingError
from mmattn.tasks.methods.caption_reward import CaptionReward
from mmattn.tasks.methods.self_critical import SelfCritical, SelfCriticalLoss
from mmattn.tasks.optimisation import WarmupCosine


@pytest.fixture
def data(make_data):
    return make_data()


def reward_of(data):
    train = data.splits.train
    return CaptionReward([train.captions(i) for i in range(len(train))])


def make_loss(data, task, reward=None, **options):
    options = SelfCritical(**({"start_epoch": 0} | options))
    return SelfCriticalLoss(options, reward or reward_of(data), data.tokenizer, task.max_length)


def lengths(references, captions, ended):
    """A reward that is easy to get: of a caption's length, its first reference's, and its end."""
    rows = zip(references, captions, ended, strict=True)
    return np.array(
        [
            [len(text) % 5 + len(image[0]) % 3 * done for text, done in zip(*each, strict=True)]
            for image, *each in rows
        ]
    ).astype(float)


def written(task, ids):
    """Return a caption's tokens up to its end, and whether it has one."""
    end = task.tokenizer.end_id
    return (ids[: ids.index(end) + 1], True) if end in ids else (ids, False)


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_loss_is_that_of_a_plain_loop(data, make_task, baseline):
    task = make_task(data).eval()
    batch = data.evaluation_batch(data.splits.train, range(3))
    torch.manual_seed(7)
    seed = int(torch.randint(1 << 31, ()))
    image = task.model.encode_batch(batch)
    limits = Limits(task.tokenizer.begin_id, task.tokenizer.end_id, task.max_length)
    drawn = Sampling(samples=4, seed=seed)(task.model, image, limits).tokens.tolist()
    greedy = Greedy()(task.model, image, limits).tokens.tolist()
    total, count = 0.0, 0

    def worth(b, ids):
        ids, ended = written(task, ids)
        text = task.tokenizer.decode(ids)
        return lengths([batch.references[b]], [[text]], [[ended]]).item()

    for b in range(3):
        worths = [worth(b, ids) for ids in drawn[b]]
        for n, ids in enumerate(drawn[b]):
            others = np.mean(worths[:n] + worths[n + 1 :])
            compared = others if baseline == "leave_one_out" else worth(b, greedy[b][0])
            ids, _ = written(task, ids)
            tokens = torch.tensor([[[task.tokenizer.begin_id, *ids[:-1]]]])
            scores = task.model(batch.images[b : b + 1], tokens)[0, 0].log_softmax(-1)
            chosen = scores.gather(1, torch.tensor(ids)[:, None]).sum()
            total, count = total - (worths[n] - compared) * chosen, count + len(ids)
    expected = torch.autograd.grad(total / count, list(task.model.parameters()))
    torch.manual_seed(7)
    loss = make_loss(data, task, lengths, samples=4, baseline=baseline)
    loss, figures = loss(task.train().model, batch)
    assert task.model.training
    assert loss.item() == pytest.approx((total / count).item(), abs=1e-6)
    assert loss.item() != 0
    found = torch.autograd.grad(loss, list(task.model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert figures["ended"].item() == pytest.approx(
        np.mean([written(task, ids)[1] for image in drawn for ids in image])
    )


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_gradient_is_that_of_the_expected_reward(data, make_task, baseline):
    """Of captions of one token every one can be tried; 4,000 are drawn."""
    task = make_task(data).eval()
    task.max_length = 1
    worths = torch.rand(data.tokenizer.vocab_size, generator=torch.manual_seed(1)) * 3
    batch = data.evaluation_batch(data.splits.train, [0])

    def reward(references, captions, ended):
        return np.array([[worths[ids].item() for ids in image] for image in captions])

    loss = make_loss(data, task, reward, samples=4000, baseline=baseline)
    loss.tokenizer = type("Ids", (), {"decode": staticmethod(lambda ids: ids[0])})
    torch.manual_seed(0)
    parameters = list(task.model.text.parameters())
    found = torch.autograd.grad(loss(task.model, batch).loss, parameters)
    begin = torch.tensor([[[task.tokenizer.begin_id]]])
    expected_reward = (task.model(batch.images, begin)[0, 0, 0].softmax(-1) * worths).sum()
    expected = torch.autograd.grad(-expected_reward, parameters)
    flat = [torch.cat([each.flatten() for each in all_]) for all_ in (found, expected)]
    assert F.cosine_similarity(*flat, dim=0) > 0.95
    share = (flat[0] @ flat[1]) / (flat[1] @ flat[1])
    assert share.item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_is_in_the_gradient_and_not_in_the_captions(data, make_task, rate):
    task = make_task(data, dropout=rate)
    batch = data.evaluation_batch(data.splits.train, range(3))

    def outcome(dropout):
        torch.manual_seed(7)
        loss, figures = make_loss(data, task, lengths, dropout=dropout)(task.model, batch)
        assert task.model.training
        gradient = torch.autograd.grad(loss, list(task.model.parameters()))
        return figures, torch.cat([each.flatten() for each in gradient])

    (without, exact), (with_, dropped) = outcome(False), outcome(True)
    assert with_ == without  # the same captions, with the same rewards
    assert torch.equal(exact, dropped) == (rate == 0)
    assert dropped.norm() > 0


@pytest.mark.parametrize(("dropout", "captions"), [(False, None), (True, None), (True, 1)])
def test_a_share_of_cross_entropy_is_added(data, make_task, dropout, captions):
    task = make_task(data)
    options = SelfCritical(0, cross_entropy=0.3, cross_entropy_captions=captions, dropout=dropout)
    task._self_critical_loss = make_loss(data, task, lengths, dropout=dropout)
    batch = data.evaluation_batch(data.splits.train, range(3))
    torch.manual_seed(7)
    mixed, figures = task.reinforcement(batch, options)
    torch.manual_seed(7)
    drawn, _ = task._self_critical_loss(task.model, batch)
    few = batch.draw_captions(captions) if captions else batch
    taught, _ = task.teacher_forcing(task.encode(batch), few)
    assert mixed.item() == pytest.approx((drawn + 0.3 * taught).item(), abs=1e-6)
    assert figures["cross_entropy"].item() == pytest.approx(taught.item())
    assert {"reward", "token_accuracy"} <= figures.keys()


def test_rewards_rise_and_the_run_is_of_two_phases(data, make_task, make_trainer):
    task = make_task(
        data,
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        scheduler=partial(WarmupCosine, warmup=0.1, final=0.1),
        self_critical=SelfCritical(start_epoch=20, lr=5e-3, samples=16),
    )
    rows = []
    task.log = lambda name, value, **_: rows.append(
        (task.global_step, name, float(torch.as_tensor(value).detach()))
    )
    rates = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    make_trainer(Rates(), max_epochs=100, limit_val_batches=0).fit(task, datamodule=data)
    steps = 20  # one an epoch
    first = WarmupCosine(torch.optim.SGD([torch.zeros(1)], 1e-2), steps, warmup=0.1, final=0.1)
    assert rates[:steps] == pytest.approx([1e-2 * first.lr_lambdas[0](i) for i in range(steps)])
    assert rates[steps:] == pytest.approx([5e-3] * 80)
    rewards = [value for _, name, value in rows if name == "train/reward"]
    assert len(rewards) == 80
    assert np.mean(rewards[-10:]) > 1.3 * np.mean(rewards[:10])
    assert [at for at, name, _ in rows if name == "train/token_accuracy"] == list(range(steps))


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
@pytest.mark.parametrize("values", [[0.25, 0.25], [0.1, 0.7]])
def test_a_reward_that_is_constant_stops_with_the_reason(data, make_task, baseline, values):
    """The same for all captions of an image: none of them is better than its baseline."""
    task = make_task(data)
    batch = data.evaluation_batch(data.splits.train, range(2))

    def reward(references, captions, ended):
        return np.repeat(np.array(values)[:, None], len(captions[0]), 1)

    options = {"patience": 3, "start_epoch": 4, "baseline": baseline}
    loss = make_loss(data, task, reward, **options)
    for _ in range(2):
        assert loss(task.model, batch).loss.item() == pytest.approx(0, abs=1e-6)
    said = rf"for 3 steps in a row .* \(the last rewards: {values[0]} to {values[1]}\)"
    with pytest.raises(TrainingError, match=said):
        loss(task.model, batch)


def test_a_greedy_caption_that_is_better_than_all_others_teaches_on(data, make_task):
    task = make_task(data)
    batch = data.evaluation_batch(data.splits.train, range(2))

    def reward(references, captions, ended):
        return np.full((len(captions), len(captions[0])), 0.5 if len(captions[0]) == 1 else 0.25)

    loss = make_loss(data, task, reward, patience=1, start_epoch=4, baseline="greedy")
    assert loss(task.model, batch).loss.item() != 0


def test_a_phase_that_never_begins_is_refused(data, make_task, make_trainer):
    task = make_task(data, self_critical=SelfCritical(start_epoch=3))
    with pytest.raises(ConfigError, match=r"start_epoch=3 is never reached: .*after 3 steps"):
        make_trainer(max_epochs=3, limit_val_batches=0).fit(task, datamodule=data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baseline": "mean"}, "baseline is 'mean'; choose leave_one_out or greedy"),
        ({"samples": 1}, "samples=1 must be at least 2 with baseline=leave_one_out"),
        ({"samples": 0, "baseline": "greedy"}, "samples=0 must be at least 1"),
        ({"cider": 0.0}, "cider=0.0 and bleu=0.0: none may be negative, and one must be above 0"),
        ({"bleu": -1.0}, "bleu=-1.0: none may be negative"),
        ({"start_epoch": -1}, "start_epoch=-1 must be at least 0"),
        ({"lr": 0.0}, "lr=0.0 must be above 0"),
        ({"cross_entropy": -0.1}, "cross_entropy=-0.1 must not be negative"),
        ({"cross_entropy_captions": 0}, "cross_entropy_captions=0 must be at least 1, or null"),
        ({"patience": 0}, "patience=0 must be at least 1"),
    ],
)
def test_options_out_of_their_range_are_refused(options, said):
    with pytest.raises(ConfigError, match=rf"task\.self_critical\..*{said}"):
        SelfCritical(**({"start_epoch": 0} | options))
