import pytest
import torch
from torch.nn import functional as F

from mmattn.errors import ConfigError
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.methods.drop_worst import DropWorst
from mmattn.tasks.methods.progress import Progress


@pytest.mark.parametrize(("share", "left"), [(0.1, 7), (0.3, 5), (0.5, 4), (0.9, 1)])
def test_the_worst_captions_do_not_count(make_model, batch, plain_losses, share, left):
    model = make_model()
    by_mean = sorted(
        (sum(losses) / len(losses), losses) for _, _, losses in plain_losses(model, batch)
    )
    kept = [loss for _, losses in by_mean[:left] for loss in losses]
    method = CrossEntropy(drop_worst=DropWorst(share))
    loss = method(model, model.encode_batch(batch), batch, blank=0).loss
    torch.testing.assert_close(loss, torch.stack(kept).mean())


def test_they_give_no_gradient(make_model, batch):
    logits = torch.zeros(int(batch.valid.sum()), 4, requires_grad=True)
    targets = torch.zeros(len(logits), dtype=torch.long)
    losses = F.cross_entropy(logits, targets, reduction="none") * torch.arange(1, len(logits) + 1)
    kept = DropWorst(0.5).kept(losses, batch.valid)
    (losses.where(kept, 0.0).sum() / kept.sum()).backward()
    assert torch.equal((logits.grad != 0).any(-1), kept)
    owners = [i for i, count in enumerate(batch.valid.sum(-1).flatten()) for _ in range(count)]
    assert {owner for owner, keep in zip(owners, kept.tolist(), strict=True) if keep} == {
        0,
        1,
        2,
        4,
    }


def test_before_its_start_the_loss_is_the_plain_one(make_model, batch):
    model = make_model()
    image = model.encode_batch(batch)
    plain = CrossEntropy()(model, image, batch, blank=0).loss
    method = CrossEntropy(drop_worst=DropWorst(0.5, start=0.5))
    assert torch.equal(
        method(model, image, batch, blank=0, progress=lambda: Progress(4, 10)).loss, plain
    )
    assert method(model, image, batch, blank=0, progress=lambda: Progress(5, 10)).loss < plain


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=rf"task\.cross_entropy\.drop_worst\.share={share} is a"):
        DropWorst(share)
