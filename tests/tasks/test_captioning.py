import math
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from mmattn.data.module import TokenizerOptions
from mmattn.errors import CheckpointError, ConfigError
from mmattn.metrics import exact_match, score_captions
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.optimisation import WarmupCosine


@torch.no_grad()
def plain_losses(task, data, dataset, indices):
    """Return -log p of every target token and whether it was the likeliest, caption by caption."""
    task.eval()
    found = []
    for index in indices:
        batch = data.evaluation_batch(dataset, [index])
        for caption in dataset.captions(index):
            ids = task.tokenizer.encode(caption)
            tokens = torch.tensor([[[task.tokenizer.begin_id, *ids]]])
            scores = task.model(batch.images, tokens)[0, 0].log_softmax(-1)
            for row, target in zip(scores, [*ids, task.tokenizer.end_id], strict=True):
                found.append((-row[target].item(), row.argmax().item() == target))
    return found


def test_the_training_loss_is_the_mean_over_the_real_tokens(make_data, make_task, monkeypatch):
    data = make_data()
    task = make_task(data)
    logged = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.update({name: value}))
    dataset = data.splits.train
    losses = plain_losses(task, data, dataset, range(5))
    loss = task.training_step(data.evaluation_batch(dataset, range(5)), 0)
    assert loss.item() == pytest.approx(sum(x for x, _ in losses) / len(losses), rel=1e-5)
    assert logged["train/loss"] is loss
    accuracy = sum(hit for _, hit in losses) / len(losses)
    assert logged["train/token_accuracy"] == pytest.approx(accuracy)


def test_label_smoothing_spreads_a_share_over_all_tokens(make_data, make_task, monkeypatch):
    data = make_data()
    task = make_task(data, cross_entropy=CrossEntropy(label_smoothing=0.2))
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    batch = data.evaluation_batch(data.splits.train, [2, 4])
    logits, targets = task.token_losses(task.encode(batch), batch)
    log_p = logits.log_softmax(-1)
    chosen = log_p.gather(1, targets[:, None])[:, 0]
    expected = -(0.8 * chosen + 0.2 * log_p.mean(-1)).mean()
    assert task.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_padding_costs_no_logits_and_gives_no_gradient(make_data, make_task, monkeypatch):
    data = make_data()
    task = make_task(data)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    batch = data.evaluation_batch(data.splits.train, [0, 2])  # one caption, and three
    assert not bool(batch.valid.any(-1).all())
    logits, targets = task.token_losses(task.encode(batch), batch)
    assert len(logits) == len(targets) == int(batch.valid.sum())
    task.training_step(batch, 0).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.parameters())


@pytest.mark.parametrize("eval_batch_size", [1, 3, 7])
def test_validation_figures_do_not_depend_on_the_batches(
    make_data, make_task, make_trainer, eval_batch_size
):
    data = make_data(eval_batch_size=eval_batch_size)
    task = make_task(data)
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    val = data.splits.val
    losses = plain_losses(task, data, val, range(len(val)))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["val/loss"] == pytest.approx(sum(x for x, _ in losses) / len(losses), rel=1e-5)
    accuracy = sum(hit for _, hit in losses) / len(losses)
    assert logged["val/token_accuracy"] == pytest.approx(accuracy)
    references = [list(val.captions(i)) for i in range(len(val))]
    batch = data.evaluation_batch(val, range(len(val)))
    captions = [
        task.tokenizer.decode(row) for row in task.decode(task.encode(batch)).tokens[:, 0].tolist()
    ]
    scores = score_captions(references, captions)
    assert logged["val/cider"] == pytest.approx(scores["CIDEr"], abs=1e-6)
    assert logged["val/bleu_1"] == pytest.approx(scores["BLEU_1"], abs=1e-6)
    assert logged["val/exact_match"] == pytest.approx(exact_match(references, captions))


@pytest.mark.parametrize(
    ("tests", "names"), [(("",), ["test/"]), (("fonts", "x"), ["test/fonts/", "test/x/"])]
)
def test_every_test_set_has_its_own_figures(make_data, make_task, make_trainer, tests, names):
    data = make_data(tests)
    trainer = make_trainer()
    trainer.test(make_task(data), datamodule=data, verbose=False)
    wanted = ["loss", "token_accuracy", "bleu_4", "rouge_l", "cider", "exact_match"]
    assert {f"{name}{figure}" for name in names for figure in wanted} <= set(
        trainer.callback_metrics
    )
    assert not [name for name in trainer.callback_metrics if "dataloader" in name]


def test_a_validation_prints_one_line(make_data, make_task, make_trainer, capsys):
    data = make_data()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(make_task(data), datamodule=data)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 0", "epoch 1"]
    assert "val/cider" in lines[0]


def test_it_learns_by_heart(make_data, make_task, make_trainer):
    data = make_data(batch_size=7)
    task = make_task(data, scheduler=partial(WarmupCosine, warmup=0.1))
    trainer = make_trainer(max_epochs=150, check_val_every_n_epoch=150)
    trainer.fit(task, datamodule=data)
    losses = plain_losses(task, data, data.splits.train, range(7))
    assert sum(x for x, _ in losses) / len(losses) < 1.0  # five captions of an image share prefixes
    trainer.test(task, datamodule=data, verbose=False)
    assert float(trainer.callback_metrics["test/exact_match"]) > 0.7


def test_a_fused_optimiser_is_clipped_under_bf16(make_data, make_task, make_trainer):
    class Norm(L.Callback):
        seen: float = math.nan

        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if grads:
                self.seen = float(nn.utils.get_total_norm(grads))

    fused = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    for limit in (0.01, 0.03):
        data, norm = make_data(batch_size=2), Norm()
        trainer = make_trainer(norm, precision="bf16-mixed", gradient_clip_val=limit)
        trainer.fit(make_task(data, optimizer=fused), datamodule=data)
        assert norm.seen == pytest.approx(limit, rel=1e-3)


def test_a_fused_optimiser_that_unscales_by_itself_is_refused(make_data, make_task, monkeypatch):
    data = make_data()
    task = make_task(data)
    scaler = torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    fake = SimpleNamespace(precision_plugin=plugin)
    monkeypatch.setattr(CaptioningTask, "trainer", property(lambda self: fake))
    fused = torch.optim.AdamW(task.parameters(), lr=1e-3, fused=True)
    with pytest.raises(ConfigError, match=r"set optimizer\.fused=false"):
        task.configure_gradient_clipping(fused, 1.0, "norm")


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (partial(torch.optim.AdamW), "optimizer.lr is missing"),
        (partial(torch.optim.AdamW, lr=-1.0), "optimizer: Invalid learning rate: -1"),
        (partial(torch.optim.AdamW, lr=0.1, betas=[2.0, 0.9]), "optimizer: Invalid beta"),
        (partial(torch.optim.AdamW, lr=0.1, speed=3), "optimizer: .*unexpected keyword"),
    ],
)
def test_an_optimiser_that_cannot_be_is_refused(make_data, make_task, optimizer, said):
    task = make_task(make_data(), optimizer=optimizer)
    with pytest.raises(ConfigError, match=said):
        task.configure_optimizers()


def test_a_schedule_needs_an_end(make_data, make_task, make_trainer):
    data = make_data()
    schedule = partial(WarmupCosine, warmup=0.1)
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        make_trainer(max_epochs=-1).fit(make_task(data, scheduler=schedule), datamodule=data)


def test_without_a_schedule_the_rate_stays(make_data, make_task, make_trainer):
    data = make_data()
    task = make_task(data)
    make_trainer(max_epochs=2).fit(task, datamodule=data)
    assert task.optimizers().param_groups[0]["lr"] == 1e-2


def test_a_checkpoint_carries_its_tokenizer_and_refuses_another(make_data, make_task, tmp_path):
    data = make_data()
    task = make_task(data)
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    task.on_load_checkpoint(saved)

    other = make_data()
    other.tokenizer_options = TokenizerOptions(path=None, vocab_size=280)
    counts = f"{data.tokenizer.vocab_size} tokens there, {other.tokenizer.vocab_size} here"
    with pytest.raises(CheckpointError, match=f"another tokenizer: {counts}, first difference '"):
        make_task(other).on_load_checkpoint(saved)


def test_a_checkpoint_of_another_architecture_is_refused(make_data, make_task):
    data = make_data()
    task = make_task(data)
    saved = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"another architecture: \d+ of \d+ .*is \(32,\) in"):
        make_task(data, dim=32).on_load_checkpoint(saved)
    del saved["state_dict"]["model.text.norm.bias"]
    with pytest.raises(CheckpointError, match=r"1 of .*text\.norm\.bias is missing in the check"):
        task.on_load_checkpoint(saved)


@pytest.mark.parametrize("own", [None, 3, {}, {"schema": 1}, {"schema": 0, "tokenizer": "{}"}])
def test_a_checkpoint_of_something_else_is_refused(make_data, make_task, own):
    task = make_task(make_data())
    with pytest.raises(CheckpointError, match=r"not a checkpoint of a run|schema 0"):
        task.on_load_checkpoint({"state_dict": task.state_dict(), "mmattn": own})
