import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmattn.batch import IGNORE
from mmattn.data.dataset import Splits
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import CheckpointError, ConfigError, DataError

LENGTH = 10


class Numbers:
    """`LENGTH` small pictures; image i has 1 + i % 3 captions."""

    def __init__(self, name):
        self.name = name

    def __len__(self):
        return LENGTH

    def key(self, index):
        return f"{self.name}-{index}"

    def captions(self, index):
        return tuple(f"number {index} said {'again ' * n}".strip() for n in range(1 + index % 3))

    def image(self, index):
        return torch.full((3, 8, 8), 20 * index, dtype=torch.uint8)


class Source:
    def splits(self):
        return Splits(Numbers("train"), Numbers("val"), {"a": Numbers("a"), "b": Numbers("b")})


def module(**changes):
    loader = {"batch_size": 4, "eval_batch_size": 3} | changes.pop("loader", {})
    settings = {
        "source": Source(),
        "image_size": (8, 8),
        "train_transform": v2.Compose(
            [v2.RandomCrop(8, padding=1), ToNormalised([0.0] * 3, [1.0] * 3)]
        ),
        "eval_transform": ToNormalised([0.0] * 3, [1.0] * 3),
        "tokenizer": TokenizerOptions(path=None, vocab_size=400),
        "loader": LoaderOptions(**loader),
        "max_length": 32,
        "seed": 0,
    }
    return CaptionDataModule(**(settings | changes))


def test_labels_are_the_tokens_shifted_by_one():
    data = module()
    batch = data.evaluation_batch(data.splits.val, range(LENGTH))
    tokenizer = data.tokenizer
    for b in range(LENGTH):
        for n, caption in enumerate(data.splits.val.captions(b)):
            ids = tokenizer.encode(caption)
            count = len(ids) + 1
            assert batch.tokens[b, n, :count].tolist() == [tokenizer.begin_id, *ids]
            assert batch.labels[b, n, :count].tolist() == [*ids, tokenizer.end_id]
            assert (batch.tokens[b, n, count:] == tokenizer.pad_id).all()
            assert (batch.labels[b, n, count:] == IGNORE).all()
    assert torch.equal(batch.valid, batch.labels != IGNORE)


def test_an_image_with_fewer_captions_has_empty_rows():
    data = module()
    batch = data.evaluation_batch(data.splits.val, range(3))
    assert batch.valid.any(-1).sum(-1).tolist() == [1, 2, 3]
    assert [len(references) for references in batch.references] == [1, 2, 3]


def test_evaluation_sees_every_image_once_and_all_references():
    data = module()
    loaders = [data.val_dataloader(), *data.test_dataloader()]
    assert data.test_names == ["a", "b"]
    for name, loader in zip(("val", "a", "b"), loaders, strict=True):
        keys = [key for batch in loader for key in batch.keys]
        assert keys == [f"{name}-{i}" for i in range(LENGTH)]


def test_training_is_shuffled_augmented_and_repeatable():
    first, again, other = (list(module(seed=seed).train_dataloader()) for seed in (0, 0, 1))
    assert [batch.keys for batch in first] == [batch.keys for batch in again]
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert [batch.keys for batch in first] != [batch.keys for batch in other]
    assert len(first) == LENGTH // 4  # the ragged end is left out


def test_a_number_of_captions_may_be_drawn():
    batches = list(module(loader={"captions_per_image": 2}).train_dataloader())
    assert all(batch.tokens.shape[1] == 2 for batch in batches)


@pytest.mark.fault("F17")
def test_a_caption_that_is_too_long_is_refused_before_training():
    with pytest.raises(
        DataError,
        match=r"longer than max_length=4 tokens \(half have up to \d+, 95 % up to \d+\); "
        r"the longest has .* train-",
    ):
        module(max_length=4).read()


@pytest.mark.fault("F17")
def test_or_cut_with_its_end_token_kept(caplog):
    data = module(max_length=4, truncate=True)
    batch = data.evaluation_batch(data.splits.val, range(LENGTH))
    assert batch.labels.shape[-1] == 4
    assert "They are cut" in caplog.text
    rows = batch.labels[batch.valid.any(-1)]
    ends = [row[row != IGNORE][-1].item() for row in rows]
    assert set(ends) == {data.tokenizer.end_id}


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (v2.Resize((4, 6)), r"torch.uint8 \(3, 4, 6\).* needs floats \(3, 8, 8\)"),
        (v2.Identity(), r"torch.uint8"),
        (v2.CenterCrop((8, 4)), r"\(3, 8, 4\)"),
        (v2.RandomCrop(9), r"fails: Required crop size"),
    ],
)
@pytest.mark.parametrize("which", ["train_transform", "eval_transform"])
def test_a_transform_that_does_not_suit_the_model_is_refused_before_training(
    which, transform, said
):
    with pytest.raises(ConfigError, match=f"data.{which} .*{said}"):
        module(**{which: transform}).read()


def test_the_order_depends_on_the_number_of_ranks():
    assert module().order(2) == module(loader={"batch_size": 8}).order(1)
    assert module().order(2) != module().order(1)


def test_a_state_of_other_data_is_refused():
    data = module()
    state = data.state_dict()
    data.load_state_dict(state)
    assert state == {"seed": 0, "length": LENGTH, "global_batch": 4}
    for key in state:
        with pytest.raises(CheckpointError, match=key):
            data.load_state_dict(state | {key: 99})


def test_features_may_stand_in_for_images():
    class Features(Numbers):
        def image(self, index):
            return torch.full((5, 2, 2), float(index))

    data = module()
    pixels = data.evaluation_batch(data.splits.val, [3])
    data.use_features(lambda dataset: Features(dataset.name))
    features = data.evaluation_batch(data.splits.val, [3])
    assert (pixels.cached, features.cached) == (False, True)
    assert torch.equal(features.images, torch.full((1, 5, 2, 2), 3.0))
    assert torch.equal(features.tokens, pixels.tokens)
    assert next(iter(data.train_dataloader())).images.shape == (4, 5, 2, 2)


def test_a_batch_moves_as_one():
    data = module()
    batch = data.evaluation_batch(data.splits.val, [0]).to("meta")
    assert {batch.images.device.type, batch.labels.device.type} == {"meta"}
    assert batch.keys == ("val-0",)


def test_normalisation_is_the_formula():
    image = torch.arange(3 * 4, dtype=torch.uint8).view(3, 2, 2)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    expected = (image.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert ToNormalised(mean, std)(image).numpy() == pytest.approx(expected, abs=1e-6)
    assert "0.1" in repr(ToNormalised(mean, std))  # a feature cache knows a transform by its text


def test_batches_may_be_formed_within_a_budget_of_tokens():
    train = module(loader={"tokens_per_batch": 60, "batch_size": 5}).train_dataloader()
    for _ in range(2):
        batches = list(train)
        keys = [key for batch in batches for key in batch.keys]
        assert sorted(keys) == [f"train-{i}" for i in range(LENGTH)]
        assert all(batch.tokens.numel() <= 60 for batch in batches)
        assert len({len(batch.keys) for batch in batches}) > 1


def test_a_run_without_a_budget_does_not_go_on_with_one():
    plain, budget = module(), module(loader={"tokens_per_batch": 60})
    for one, other in ((plain, budget), (budget, plain)):
        with pytest.raises(CheckpointError, match="tokens_per_batch"):
            other.load_state_dict(one.state_dict())


class Counting:
    """A tokenizer's backend that counts the texts that it is given."""

    def __init__(self, backend):
        self.backend, self.texts = backend, 0

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode_batch(self, texts, **options):
        self.texts += len(texts)
        return self.backend.encode_batch(texts, **options)


def test_each_caption_is_measured_once_whether_batches_are_formed_by_it_or_not():
    tokenizer = module().tokenizer
    captions = sum(len(Numbers("").captions(i)) for i in range(LENGTH))
    for budget in (None, 60):
        data = module(loader={"tokens_per_batch": budget})
        tokenizer.backend = counting = Counting(module().tokenizer.backend)
        data.read(tokenizer)
        data.train_dataloader()
        assert counting.texts == 2 * captions  # of the training and the validation set


@pytest.mark.parametrize("options", [{}, {"max_length": 5, "truncate": True}])
def test_sizes_are_those_of_the_batches(options):
    data = module(loader={"tokens_per_batch": 60}, **options)
    longest, counts = data.text_sizes()
    for i in range(LENGTH):
        assert data.evaluation_batch(data.splits.train, [i]).tokens.shape == (
            1,
            counts[i],
            longest[i],
        )
