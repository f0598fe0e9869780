"""The joint task: three losses from one encoding, and figures over whole sets."""

import copy
import os
from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.data.dataset import Splits
from mmattn.data.foils import draw_foils
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.text_rows import text_rows
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.fusion import CrossFusion
from mmattn.joint import JointModel
from mmattn.metrics.retrieval import recall_at_k, retrieval_scores
from mmattn.patches import LinearPatches
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.contrastive import caption_numbers, contrastive_loss
from mmattn.tasks.joint import JointTask
from mmattn.tasks.matching import matching_pairs
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.objective import Objective
from mmattn.text import TextTransformer
from mmattn.training.freezing import Freeze
from mmattn.training.step_seed import StepSeed
from mmattn.vision import VisionTransformer

COLOURS = ["red", "green", "blue", "grey", "pink", "black"]
LENGTH = 12


class Shades:
    """Picture i has the colour i % 6 and 1 + i % 3 captions, some those of picture i + 6."""

    def __init__(self, name, length=9):
        self.name, self.length = name, length

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}-{index}"

    def captions(self, index):
        colour = COLOURS[index % 6]
        return (colour, f"a {colour} picture", f"number {index}")[: 1 + index % 3]

    def image(self, index):
        return torch.full((3, 8, 8), 40 * (index % 6) + index, dtype=torch.uint8)


def make_data(tests=("",), **loader):
    splits = Splits(Shades("train"), Shades("val"), {name: Shades("test", 7) for name in tests})
    return CaptionDataModule(
        source=SimpleNamespace(splits=lambda: splits),
        image_size=(8, 8),
        train_transform=ToNormalised([0.5] * 3, [0.5] * 3),
        eval_transform=ToNormalised([0.5] * 3, [0.5] * 3),
        tokenizer=TokenizerOptions(path=None, vocab_size=290),
        loader=LoaderOptions(**({"batch_size": 4, "eval_batch_size": 4} | loader)),
        max_length=LENGTH,
        seed=0,
    )


def make_model(data, *, fusion=True, dropout=0.0, **options):
    torch.manual_seed(0)
    block, size = BlockOptions(heads=2, dropout=dropout), data.tokenizer.vocab_size
    vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, block)
    text = TextTransformer(size, 16, 1, block, max_length=LENGTH, context_dim=16)
    encoder = TextTransformer(size, 16, 1, block, max_length=LENGTH, causal=False)
    fused = CrossFusion(16, 1, block) if fusion else None
    return JointModel(vision, text, text_encoder=encoder, fusion=fused, embed_dim=8, **options)


def make_task(data, model=None, lr=3e-3, **options):
    ours = {each.name for each in fields(Objective)} & options.keys()
    objective = Objective(**{name: options.pop(name) for name in ours})
    return JointTask(
        model or make_model(data),
        data.tokenizer,
        partial(torch.optim.AdamW, lr=lr),
        None,
        max_length=LENGTH,
        test_names=data.test_names,
        objective=objective,
        **options,
    )


@pytest.fixture
def logged(monkeypatch):
    """What a task logs, without a trainer."""
    found = {}
    monkeypatch.setattr(JointTask, "log", lambda _, name, value, **__: found.update({name: value}))
    monkeypatch.setattr(JointTask, "log_dict", lambda _, values, **__: found.update(values))
    return found


def test_the_loss_is_the_weighted_sum_of_three(logged):
    data = make_data()
    task = make_task(data, captioning=0.5, contrastive=2.0, matching=3.0)
    batch = data.evaluation_batch(data.splits.train, range(9))
    torch.manual_seed(1)
    loss = task.training_step(batch, 0)
    names = {"caption": 0.5, "contrastive": 2.0, "matching": 3.0}
    parts = sum(weight * logged[f"train/{name}_loss"] for name, weight in names.items())
    assert loss.item() == pytest.approx(parts.item(), rel=1e-6)
    assert logged["train/loss"] is loss
    assert logged["train/scale"].item() == pytest.approx(1 / 0.07)


def test_captions_cost_what_they_cost_a_captioner(logged, monkeypatch):
    data = make_data()
    task = make_task(data, cross_entropy=CrossEntropy(label_smoothing=0.1))
    batch = data.evaluation_batch(data.splits.train, range(9))
    plain = CaptioningTask(
        *(task.model, data.tokenizer, partial(torch.optim.AdamW, lr=1e-3), None),
        max_length=LENGTH,
        cross_entropy=CrossEntropy(label_smoothing=0.1),
    )
    monkeypatch.setattr(plain, "log", lambda *_, **__: None)
    loss = plain.training_step(batch, 0)
    torch.testing.assert_close(task.losses(batch)["caption"], loss)


def test_the_contrastive_loss_is_over_all_captions_that_were_drawn(logged):
    data = make_data()
    task, dataset = make_task(data), data.splits.train
    batch = data.evaluation_batch(dataset, range(9))
    model, texts = task.model, [text for i in range(9) for text in dataset.captions(i)]
    with torch.no_grad():
        image = model.image_embeddings(model.see(batch))
        text = torch.cat(
            [
                model.text_embeddings(model.read(*rows), rows[1])
                for rows in (text_rows(data.tokenizer, [text], LENGTH) for text in texts)
            ]
        )
    known = caption_numbers([dataset.captions(i) for i in range(9)])
    expected = contrastive_loss(image, text, known, caption_numbers([texts])[0], model.scale)
    torch.testing.assert_close(task.losses(batch)["contrastive"], expected)


def test_an_image_is_encoded_once_and_every_part_learns(logged):
    data = make_data()
    task, seen = make_task(data), []
    task.model.vision.patches.register_forward_hook(lambda *_: seen.append(1))
    task.training_step(data.evaluation_batch(data.splits.train, range(9)), 0).backward()
    assert seen == [1]
    without = [n for n, p in task.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in without if "bias" not in name] == []


def test_captions_that_were_not_drawn_are_known_all_the_same(logged, monkeypatch):
    data = make_data(captions_per_image=1, batch_size=9)
    batch = next(iter(data.train_dataloader()))
    assert [len(own) for own in batch.references] == [1] * 9
    dataset = data.splits.train
    whole = {dataset.key(i): dataset.captions(i) for i in range(9)}
    assert batch.known == tuple(whole[key] for key in batch.keys)
    assert batch.select([2, 0]).known == (batch.known[2], batch.known[0])
    asked = []

    def pairs(similarity, positive, owner, hard):
        asked.append(positive)
        return matching_pairs(similarity, positive, owner, hard)

    monkeypatch.setattr("mmattn.tasks.joint.matching_pairs", pairs)
    make_task(data).losses(batch)
    texts = [text for own in batch.references for text in own]
    assert asked[0].tolist() == [[text in own for text in texts] for own in batch.known]


PARTS = {
    "captioning": ("model.text.", "model.bridge."),
    "contrastive": ("model.image_projection.", "model.text_projection.", "model.log_scale"),
    "matching": ("model.fusion.", "model.image_bridge.", "model.text_bridge.", "model.match_head"),
}


@pytest.mark.parametrize("off", PARTS)
def test_a_weight_of_0_leaves_a_loss_its_parts_and_its_figures_out(make_trainer, off):
    data = make_data()
    task = make_task(data, **{off: 0.0})
    before = copy.deepcopy(task.state_dict())
    trainer = make_trainer()
    trainer.fit(task, datamodule=data)
    moved = {name for name, value in task.state_dict().items() if not value.equal(before[name])}
    assert moved
    assert not [name for name in moved if name.startswith(PARTS[off])]
    figures = {
        "captioning": ("val/loss", "val/cider"),
        "contrastive": ("val/mean_recall", "val/similarity_choice"),
        "matching": ("val/match_accuracy", "val/match_choice"),
    }
    for name, own in figures.items():
        assert {each in trainer.callback_metrics for each in own} == {name != off}
    losses = {"captioning": "caption", **{name: name for name in ("contrastive", "matching")}}
    assert f"train/{losses[off]}_loss" not in trainer.callback_metrics


@torch.no_grad()
def independent(task, data, dataset):
    """Embeddings, matches and recalls of a set, image by image and caption by caption."""
    model = task.eval().model
    images, texts, owner, says, pairs = [], [], [], [], []
    foils = draw_foils(dataset, 0)
    for i in range(len(dataset)):
        image = model.see(data.evaluation_batch(dataset, [i]))
        images.append(model.image_embeddings(image)[0])
        for text, foil in zip(dataset.captions(i), foils[dataset.key(i)], strict=True):
            found = []
            for each in (text, foil):
                tokens, valid = text_rows(data.tokenizer, [each], LENGTH)
                hidden = model.read(tokens, valid)
                no, yes = model.match(image, torch.tensor([0]), hidden, valid)[0].tolist()
                found.append((yes - no, (model.text_embeddings(hidden, valid)[0], each)))
            texts.append(found[0][1][0])
            owner.append(i)
            says.append(text)
            pairs.append([score for score, _ in found])
    same = torch.tensor([says.index(text) for text in says])
    return torch.stack(images), torch.stack(texts), torch.tensor(owner), same, torch.tensor(pairs)


@pytest.mark.parametrize("eval_batch_size", [1, 4, 9])
def test_the_figures_of_a_set_do_not_depend_on_the_batches(make_trainer, eval_batch_size):
    data = make_data(eval_batch_size=eval_batch_size)
    task = make_task(data)
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    image, text, owner, same, pairs = independent(task, data, data.splits.val)
    recalls = recall_at_k(image, text, owner, same=same)
    assert 0 < recalls["text_to_image_recall_5"] < 1
    for name, value in recalls.items():
        assert found[f"val/{name}"] == pytest.approx(value), name
    accuracy = torch.cat([pairs[:, 0] > 0, pairs[:, 1] <= 0]).double().mean()
    assert found["val/match_accuracy"] == pytest.approx(accuracy.item())
    choice = (pairs[:, 0] > pairs[:, 1]).double().mean()
    assert found["val/match_choice"] == pytest.approx(choice.item())


def test_every_test_set_has_its_own_figures(make_trainer):
    data = make_data(("fonts", "x"))
    trainer = make_trainer()
    trainer.test(make_task(data), datamodule=data, verbose=False)
    wanted = ["loss", "cider", "mean_recall", "image_to_text_recall_1", "match_auroc"]
    wanted += ["similarity_choice", "text_to_image_median_rank"]
    assert {f"test/{name}/{figure}" for name in ("fonts", "x") for figure in wanted} <= set(
        trainer.callback_metrics
    )


@torch.no_grad()
def slow_reranking(task, data, dataset, k):
    """Every pair matched by itself; the k closest of each query before all others."""
    model = task.eval().model
    image, text, owner, same, _ = independent(task, data, dataset)
    similarity = image.double() @ text.double().T
    seen = [model.see(data.evaluation_batch(dataset, [i])) for i in range(len(dataset))]
    yes = torch.zeros_like(similarity)
    says = [each for i in range(len(dataset)) for each in dataset.captions(i)]
    for t, each in enumerate(says):
        tokens, valid = text_rows(data.tokenizer, [each], LENGTH)
        hidden = model.read(tokens, valid)
        for i, one in enumerate(seen):
            answer = model.match(one, torch.tensor([0]), hidden, valid)[0]
            yes[i, t] = answer[1] - answer[0]
    found = {}
    for way, turn in (("image_to_text", False), ("text_to_image", True)):
        scores, order = (similarity.T, yes.T) if turn else (similarity, yes)
        first = torch.zeros_like(scores, dtype=torch.bool)
        first.scatter_(1, scores.topk(k, 1).indices, True)
        ranked = torch.where(first, 100 + order, scores)
        every = retrieval_scores(ranked.T if turn else ranked, owner, same=same)
        found |= {f"reranked_{n}": v for n, v in every.items() if n.startswith(way)}
    return found


@pytest.mark.parametrize("k", [1, 3, 9])
def test_reranking_is_that_of_every_pair_by_itself(make_trainer, k):
    data = make_data()
    task = make_task(data, rerank=k)
    with torch.no_grad():
        for parameter in task.model.parameters():  # so that no two captions are all but alike
            parameter.add_(0.3 * torch.randn_like(parameter))
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    expected = slow_reranking(task, data, data.splits.val, k)
    assert len(expected) == 8
    for name, value in expected.items():
        assert found[f"val/{name}"] == pytest.approx(value), name
    assert not task.val_pairs.seen
    if k == 1:  # one candidate stays where it is
        assert found["val/reranked_mean_recall"] == found["val/mean_recall"]


def test_it_learns_to_caption_to_retrieve_and_to_match(make_trainer):
    data = make_data(batch_size=9)
    task = make_task(data, lr=6e-3)
    make_trainer(max_epochs=120, check_val_every_n_epoch=120).fit(task, datamodule=data)
    trainer = make_trainer()
    trainer.validate(
        task, datamodule=data, verbose=False
    )  # the validation set is the same pictures
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["val/exact_match"] > 0.7
    assert found["val/mean_recall"] > 0.9
    assert found["val/match_accuracy"] > 0.9


def test_the_sigmoid_loss_learns_its_bias(make_trainer):
    data = make_data()
    model = make_model(data, bias=-10.0, temperature=0.1)
    make_trainer().fit(make_task(data, model, contrastive_loss="sigmoid"), datamodule=data)
    assert model.logit_bias is not None
    assert model.logit_bias.item() != -10.0


def test_the_same_seed_trains_the_same_and_a_resumed_run_goes_on_so(make_trainer, tmp_path):
    def run(epochs, checkpoint=None):
        data = make_data()
        task = make_task(data, make_model(data, dropout=0.2))
        trainer = make_trainer(StepSeed(3), max_epochs=epochs)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return task.state_dict()

    run(2)
    whole = run(4)
    resumed = run(4, tmp_path / "2.ckpt")
    assert all(value.equal(resumed[name]) for name, value in whole.items())


@pytest.mark.filterwarnings("ignore:Found .* eval mode")
def test_layers_decay_in_both_encoders_and_frozen_parts_stand_still(make_trainer):
    data = make_data()
    task = make_task(data, layer_decay=0.5)
    before = copy.deepcopy(task.model.state_dict())
    make_trainer(Freeze(["vision", "text_encoder"])).fit(task, datamodule=data)
    rates = {
        name: group["lr"]
        for group in task.optimizers().param_groups
        for name, parameter in task.model.named_parameters()
        if any(parameter is each for each in group["params"])
    }
    assert rates["text_encoder.embedding.weight"] == rates["vision.patches.project.weight"]
    assert rates["text_encoder.embedding.weight"] < rates["text_encoder.norm.weight"] < 3e-3
    assert rates["text.embedding.weight"] == rates["match_head.weight"] == 3e-3
    after = task.model.state_dict()
    still = [name for name, value in after.items() if value.equal(before[name])]
    assert set(still) >= {n for n in after if n.startswith(("vision.", "text_encoder."))}
    assert "text_projection.weight" not in still


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ({}, {"matching": -1.0}, "are 1, 1, -1: none may be negative"),
        ({}, {"captioning": 0.0, "contrastive": 0.0, "matching": 0.0}, "are 0, 0, 0"),
        ({"fusion": False}, {}, r"set model/fusion=cross, or task\.objective\.matching=0"),
        ({}, {"contrastive_loss": "triplet"}, "'triplet'; choose softmax or sigmoid"),
        ({}, {"contrastive_loss": "sigmoid"}, r"set model\.bias=-10 with"),
        ({"bias": -10.0}, {}, r"model\.bias=null with softmax"),
        ({}, {"rerank": -1}, r"task\.rerank=-1"),
        ({}, {"rerank": 5, "contrastive": 0.0}, r"task\.rerank=5: .*set 0 where"),
        ({}, {"hard_negatives": 1.5}, r"task\.objective\.hard_negatives=1\.5 is a share"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, options, said):
    data = make_data()
    with pytest.raises(ConfigError, match=said):
        make_task(data, make_model(data, **model), **options)


def on_two_ranks(rank, options):
    """Train an epoch as one of two ranks; return the figures of its validation, and the weights."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    data = make_data(batch_size=2, eval_batch_size=2)
    task = make_task(data, **options)
    trainer = L.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, datamodule=data)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return [figures, {name: value.tolist() for name, value in task.state_dict().items()}]


@pytest.mark.parametrize("options", [{"rerank": 2}, {"matching": 0.0}, {"captioning": 0.0}])
def test_two_ranks_learn_the_same_and_measure_what_one_does(
    in_two_processes, make_trainer, options
):
    first, second = in_two_processes(on_two_ranks, [options, options])
    assert first[1] == second[1]
    data = make_data(eval_batch_size=9)
    task = make_task(data, **options)
    fresh = {name: value.tolist() for name, value in task.state_dict().items()}
    assert first[1] != fresh
    task.load_state_dict({name: torch.tensor(value) for name, value in first[1].items()})
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    alone = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")}
    assert len(alone) > 7
    for name in alone:
        assert first[0][name] == second[0][name] == pytest.approx(alone[name], abs=1e-6), name
