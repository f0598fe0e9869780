"""Labelled examples become batches: shared images once, labels as targets, mistakes by name."""

import pytest
import torch
from torchvision.transforms import v2

from mmattn.batch import IGNORE
from mmattn.data.label_module import LabelDataModule, with_classes
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.split_module import LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError

PLAIN = ToNormalised([0.0] * 3, [1.0] * 3)


class Colours:
    """Pictures of one colour each, which tells them apart after any crop."""

    def image(self, name: str) -> torch.Tensor:
        return torch.full((3, 8, 8), int(name), dtype=torch.uint8)


class Source:
    def __init__(self, train, val=None, test=None, heads=None):
        self.sets = [LabelledSet(each, Colours()) for each in (train, val or train, test or train)]
        self.heads = heads or {"answer": HeadSpec("single")}

    def splits(self) -> LabelledSplits:
        train, val, test = self.sets
        return LabelledSplits(train, val, {"": test}, self.heads)


def ask(key: str, answer, images=("1",), text="is it red?", **labels) -> Example:
    return Example(key, {"answer": answer, **labels}, images, text, f"data.csv:{key}")


def module(train, *, batch_size=2, **options) -> LabelDataModule:
    source = {name: options.pop(name) for name in ("val", "test", "heads") if name in options}
    values = {
        "image_size": (8, 8),
        "train_transform": PLAIN,
        "eval_transform": PLAIN,
        "tokenizer": TokenizerOptions(None, 300, 1),
        "loader": LoaderOptions(batch_size, batch_size),
        "max_length": 30,
        "seed": 3,
    }
    data = LabelDataModule(Source(train, **source), **{**values, **options})
    data.read()
    return data


QUESTIONS = [
    ask("a", "yes", ("1",)),
    ask("b", "no", ("1",), "is it blue, or anything else?"),
    ask("c", "no", ("2",)),
    ask("d", "yes", ("3",)),
]


def test_examples_of_one_image_share_it():
    data = module(QUESTIONS)
    (first, second) = list(data.val_dataloader())
    assert first.keys == ("a", "b", "c")
    assert first.images.shape == (2, 3, 8, 8)
    assert (first.images[:, 0, 0, 0] * 255).round().tolist() == [1, 2]
    assert first.image_rows.tolist() == [[0], [0], [1]]
    assert first.image_valid is None
    assert first.missing == {"image": (), "text": ()}
    assert second.keys == ("d",)
    assert data.classes["answer"].names == ("no", "yes")
    assert first.targets["answer"].tolist() == [1, 0, 0]


def test_texts_are_begun_ended_and_padded():
    data = module(QUESTIONS)
    tokenizer, batch = data.tokenizer, next(iter(data.val_dataloader()))
    assert tokenizer is not None
    rows = [row[ok].tolist() for row, ok in zip(batch.tokens, batch.valid, strict=True)]
    assert [tokenizer.decode(row) for row in rows] == [e.text for e in QUESTIONS[:3]]
    assert all(row[0] == tokenizer.begin_id and row[-1] == tokenizer.end_id for row in rows)
    assert (batch.tokens[~batch.valid] == tokenizer.pad_id).all()


def test_texts_are_drawn_anew_in_every_epoch_and_the_same_in_every_run():
    many = [ask(f"{i}", "yes" if i % 2 else "no", (f"{i % 3}",)) for i in range(30)]
    data = module(many, batch_size=3, texts_per_image=4)
    loader = data.train_dataloader()
    first, second = next(iter(loader)), next(iter(loader))
    assert len(first.keys) == 12
    assert first.keys != second.keys
    again = next(iter(module(many, batch_size=3, texts_per_image=4).train_dataloader()))
    assert again.keys == first.keys


@pytest.mark.parametrize("withhold", ["image", "text"])
def test_a_control_is_without_one_of_the_two(withhold):
    batch = next(iter(module(QUESTIONS, withhold=withhold).val_dataloader()))
    assert batch.missing[withhold] == (0, 1, 2)
    if withhold == "image":
        assert batch.images is None
        assert not batch.image_valid.any()
    else:
        assert batch.tokens.shape == (3, 1)
        assert batch.images is not None


def test_what_is_missing_is_told():
    examples = [ask("a", "yes", ()), ask("b", "no", ("2",), None), ask("c", "no", ("1", "2"))]
    data = module(examples, batch_size=3)
    batch = next(iter(data.val_dataloader()))
    assert batch.missing == {"image": (0,), "text": (1,)}
    assert data.lacking() == {"image": "data.csv:a", "text": "data.csv:b"}
    assert batch.image_valid.tolist() == [[False, False], [True, False], [True, True]]
    assert batch.image_rows.tolist() == [[0, 0], [0, 0], [1, 2]]
    assert batch.valid.sum(1).tolist()[1] == 1


def test_images_alone_need_no_tokenizer():
    data = module([ask("a", "yes", ("1",), None), ask("b", "no", ("2",), None)])
    assert data.tokenizer is None
    assert next(iter(data.val_dataloader())).tokens.tolist() == [[0], [0]]


def test_kinds_of_labels_become_targets():
    heads = {
        "answer": HeadSpec("soft", open=True, most_common=2),
        "tags": HeadSpec("multi"),
        "entity": HeadSpec("words"),
    }
    text = ("New", "York", "sleeps")
    examples = [
        ask("a", {"red": 1.0, "pink": 0.3}, text=text, tags=("x", "y"), entity=("B", "I", "O")),
        ask("b", {"blue": 0.9}, text=text[:2], tags=(), entity=("B", "I")),
        Example("c", {"answer": {"red": 0.6}}, ("2",), ("a",), "data.csv:c"),
        ask("d", {"blue": 1.0}, text=text[2:], entity=("O",)),
    ]
    data = module(examples, heads=heads, batch_size=4)
    batch = next(iter(data.val_dataloader()))
    assert data.classes["answer"].names == ("blue", "red")
    rows = dict(zip(batch.keys, range(4), strict=True))
    order = [rows[key] for key in "abcd"]
    expected = torch.tensor([[0, 1], [0.9, 0], [0, 0.6], [1, 0]])
    torch.testing.assert_close(batch.targets["answer"][order], expected)
    assert batch.targets["tags"][order].tolist() == [[1, 1], [0, 0], [IGNORE] * 2, [IGNORE] * 2]
    entity = batch.targets["entity"][order].tolist()
    assert entity == [[0, 1, 2], [0, 1, IGNORE], [IGNORE] * 3, [2, IGNORE, IGNORE]]
    tokenizer, starts = data.tokenizer, batch.word_starts[rows["a"]].tolist()
    assert tokenizer is not None
    tokens = batch.tokens[rows["a"]].tolist()
    parts = [tokens[a:b] for a, b in zip(starts, [*starts[1:], tokens.index(tokenizer.end_id)])]  # noqa: B905
    assert [tokenizer.decode(part) for part in parts] == list(text)


def test_answers_outside_the_classes_leave_training_and_count_as_wrong():
    spec = {"answer": HeadSpec("single", open=True, most_common=1)}
    data = module([*QUESTIONS, ask("e", "no", ("4",))], heads=spec, test=[ask("t", "maybe")])
    assert data.classes["answer"].names == ("no",)
    assert {e.key for e in data.splits.train.examples} == {"b", "c", "e"}
    assert next(iter(data.test_dataloader()[0])).targets["answer"].tolist() == [-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": [ask("x", "yess")]}, r"data.csv:x: answer is 'yess'.*did you mean 'yes'"),
        ({"val": [ask("x", ("yes", "no"))]}, r"data.csv:x: answer is .*kind is 'single'"),
        ({"val": [ask("x", {"yes": 1.0})]}, "kind is 'single': give one class"),
        ({"val": [ask("x", "yes", colour="red")]}, "no head 'colour'; the heads are answer"),
        ({"heads": {"answer": HeadSpec("multi")}}, "kind is 'multi': give a list of classes"),
        (
            {"heads": {"answer": HeadSpec("single", ("no", "yes", "maybe"))}},
            "1 of 3 classes have no training example, first 'maybe'",
        ),
        ({"heads": {"answer": HeadSpec("single", ("no", "yes", "no"))}}, "'no' is given more than"),
        ({"max_length": 5}, r"4 of 4 texts of the training set are longer than max_length=5"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes, message):
    with pytest.raises(DataError, match=message):
        module(QUESTIONS, **changes)


def test_an_empty_set_is_named():
    found = Source(QUESTIONS).splits()
    empty = LabelledSplits(found.train, found.val, {"fonts": LabelledSet([], None)}, found.heads)
    with pytest.raises(DataError, match="the test fonts set is empty: it has 0 examples"):
        with_classes(empty)


def test_words_and_labels_of_words_must_be_as_many():
    wrong = ask("a", ("B", "O"), text=("one", "two", "three"))
    with pytest.raises(DataError, match="answer has 2 labels for 3 words"):
        module([wrong], heads={"answer": HeadSpec("words")})


def test_a_key_that_comes_twice_names_both_places():
    with pytest.raises(DataError, match=r"data.csv:a: the key 'a' is that of data.csv:a too"):
        LabelledSet([ask("a", "yes"), ask("a", "no")], Colours())


def test_long_texts_are_cut_when_told_to():
    data = module(QUESTIONS, max_length=6, truncate=True)
    batch = next(iter(data.val_dataloader()))
    assert batch.tokens.shape[1] == 6
    assert data.tokenizer is not None
    assert batch.tokens[0, -1] == data.tokenizer.end_id


def test_frozen_features_stand_in_for_pixels():
    data = module(QUESTIONS)

    class Features:
        def __init__(self, pictures):
            self.keys = [pictures.key(i) for i in range(len(pictures))]

        def image(self, index: int) -> torch.Tensor:
            return torch.full((4, 2, 2), float(self.keys[index]))

    data.use_features(Features)
    batch = next(iter(data.val_dataloader()))
    assert batch.cached
    assert batch.images[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"withhold": "sound"}, "data.withhold is 'sound'"),
        ({"eval_transform": v2.Compose([v2.CenterCrop(4), PLAIN])}, "data.eval_transform gives"),
        ({"texts_per_image": 0}, "texts_per_image=0"),
        (
            {"loader": LoaderOptions(2, 2, captions_per_image=3)},
            r"data\.loader\.captions_per_image=3 .*set it to null, and data\.texts_per_image",
        ),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        module(QUESTIONS, **changes)


def test_batches_may_be_formed_within_a_budget_of_tokens():
    examples = [ask(str(i), "yes", (str(i // 3),), "is it " + "very " * (i % 5)) for i in range(30)]
    data = module(examples, loader=LoaderOptions(4, 4, tokens_per_batch=90))
    batches = list(data.train_dataloader())
    keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == sorted(example.key for example in examples)
    assert all(batch.tokens.numel() <= 90 for batch in batches)
    assert len(batches) == len(data.train_dataloader())


@pytest.mark.parametrize("options", [{}, {"withhold": "text"}, {"max_length": 4, "truncate": True}])
def test_sizes_are_those_of_the_batches(options):
    examples = [ask("x", "yes", ("4",), None), *QUESTIONS, ask("y", "no", ("4",), "at all?")]
    data = module(examples, **options)
    longest, counts = data.text_sizes()
    for i in range(len(data.splits.train)):
        tokens = data.evaluation_batch(data.splits.train, [i]).tokens
        assert tokens.shape == (counts[i], longest[i])
