"""What holds for the scores of every kind of head: each example counts once, in whatever order."""

import copy
import json
import math
import multiprocessing
import warnings

import pytest
import torch

from mmattn.batch import IGNORE
from mmattn.errors import DataError
from mmattn.metrics.label_scores import label_scores

KINDS = ("single", "multi", "soft", "words")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "X")
EXAMPLES = 11


def head(kind):
    names = TAGS[:5] if kind == "words" else TAGS
    return label_scores(kind, names)


def examples(kind, seed=0):
    """Keys, logits and targets of examples, the last of which has no label."""
    rng = torch.Generator().manual_seed(seed)
    shape = (EXAMPLES, 4, 5) if kind == "words" else (EXAMPLES, 6)
    logits = torch.randn(shape, generator=rng)
    targets = {
        "single": torch.randint(-1, 6, (EXAMPLES,), generator=rng),
        "multi": (torch.rand(shape, generator=rng) < 0.4).float(),
        "soft": torch.rand(shape, generator=rng) * (torch.rand(shape, generator=rng) < 0.4),
        "words": torch.randint(-1, 5, shape[:2], generator=rng),
    }[kind]
    targets[-1] = IGNORE
    keys = torch.randint(0, 2**63 - 1, (EXAMPLES,), generator=rng)
    return keys, logits, targets


def rows(columns, chosen):
    return [column[torch.tensor(chosen, dtype=torch.long)] for column in columns]


def scored(kind, *batches):
    scores = head(kind)
    for batch in batches:
        scores.update(*batch)
    return scores.compute()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_all_are_numbers_by_flat_name(kind):
    found = scored(kind, examples(kind))
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert all("/" not in name for name in found)


def test_neither_batches_nor_their_order_nor_repeats_change_anything(kind):
    given = examples(kind)
    shuffled = [rows(given, [7, 3]), rows(given, [10]), rows(given, [9, 8, 3, 6, 5, 4])]
    again = [*shuffled, rows(given, [2, 1, 0, 7, 7])]
    assert scored(kind, *again) == scored(kind, given)


def test_of_two_predictions_the_same_one_counts_in_either_order(kind):
    keys, logits, targets = examples(kind)
    other = [keys, -logits, targets]
    first = scored(kind, (keys, logits, targets), rows(other, [0, 4, 5]))
    second = scored(kind, rows(other, [5, 4, 0]), (keys, logits, targets))
    assert first == second


def test_a_copy_moves_and_keeps_its_examples(kind):
    scores = head(kind)
    scores.update(*examples(kind))
    moved = copy.deepcopy(scores).to("cpu").to(torch.float64)
    assert moved.compute() == scores.compute()


def test_reset_forgets_everything(kind):
    scores = head(kind)
    scores.update(*examples(kind, seed=1))
    scores.compute()
    scores.reset()
    scores.update(*examples(kind))
    assert scores.compute() == scored(kind, examples(kind))


def test_a_call_scores_its_batch_and_keeps_it(kind):
    scores, given = head(kind), examples(kind)
    assert scores(*rows(given, [0, 1, 2])) == scored(kind, rows(given, [0, 1, 2]))
    assert scores(*rows(given, [3, 4])) == scored(kind, rows(given, [3, 4]))
    assert scores.compute() == scored(kind, rows(given, range(5)))


def test_predictions_that_are_no_numbers_are_counted(kind):
    keys, logits, targets = examples(kind)
    targets[targets == -1] = 0
    logits[0, ..., 0] = float("nan")
    logits[2, ..., 1] = float("inf")
    logits[EXAMPLES - 1] = float("nan")  # has no label
    count = "8 of 40" if kind == "words" else "2 of 10"
    with pytest.raises(DataError, match=f"{count} predictions have logits that are not finite"):
        scored(kind, (keys, logits, targets))


def test_no_example_is_an_error(kind):
    empty = rows(examples(kind), [])
    with pytest.raises(DataError, match="nothing to score: of 0 predictions"):
        scored(kind, empty)
    given = 8 if kind == "words" else 2
    with pytest.raises(DataError, match=f"of {given} predictions none has a label"):
        scored(kind, *[rows(examples(kind), [EXAMPLES - 1])] * 2)


@pytest.mark.parametrize("kind", ["single", "multi", "words"])
def test_labels_that_contradict_are_refused(kind):
    keys, logits, targets = examples(kind)
    with pytest.raises(DataError, match="two different labels"):
        scored(kind, (torch.zeros_like(keys), logits, targets))


def test_the_examples_can_be_had():
    keys, logits, targets = examples("single")
    scores = head("single")
    scores.update(keys, logits, targets)
    scores.update(*rows((keys, logits, targets), [3, 4]))
    found = scores.examples()
    order = keys[:-1].argsort()
    assert found.keys() == {"keys", "logits", "targets"}
    assert torch.equal(found["keys"], keys[order])
    assert torch.equal(found["logits"], logits[order])
    assert torch.equal(found["targets"], targets[order])
    assert scores.compute() == scored("single", (keys, logits, targets))


def score_in_process(rank, folder, shares):
    """What one of two processes finds for every kind, as a file in `folder`."""
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{folder}/rendezvous"
    )
    found = {}
    for kind, batches in shares.items():
        scores = head(kind)
        for batch in batches[rank]:
            scores.update(*batch)
        found[kind] = {
            "scores": scores.compute(),
            "left": sum(map(len, scores.keys)),
            "examples": len(scores.examples()["keys"]),
        }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def score_in_two_processes(folder, shares):
    """What both processes find, each given its share of the batches of every kind."""
    # Forked, since importing torch anew takes longer than all other tests of this file together.
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=score_in_process, args=(rank, folder, shares)) for rank in range(2)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for process in processes:
            process.start()
    for process in processes:
        process.join(timeout=60)
        process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_agree_with_one(tmp_path):
    """Some examples are given to both, as a distributed sampler does; the shares differ in size."""
    shares = {}
    for kind in KINDS:
        given = examples(kind)
        first, second = [rows(given, [0, 3])], [rows(given, [4, 1, 2]), rows(given, [5, 0, 9, 10])]
        second.append(rows(given, [6, 7, 8]))
        shares[kind] = first, second
    answers = score_in_two_processes(tmp_path, shares)
    for kind in KINDS:
        assert answers[0][kind]["scores"] == scored(kind, examples(kind))
        assert answers[1][kind]["scores"] == answers[0][kind]["scores"]
        words = 4 if kind == "words" else 1
        # What was gathered must not stay behind, or the next epoch would count it again.
        assert [answer[kind]["left"] for answer in answers] == [2 * words, 10 * words]
        assert [answer[kind]["examples"] for answer in answers] == [10 * words] * 2


def test_a_process_without_examples_agrees_too(tmp_path):
    """It was given an empty batch, as a rank may be; the next test gives it none at all."""
    shares = {kind: ([examples(kind)], [rows(examples(kind), [])]) for kind in KINDS}
    answers = score_in_two_processes(tmp_path, shares)
    for kind in KINDS:
        for answer in answers:
            assert answer[kind]["scores"] == scored(kind, examples(kind))


def test_a_process_that_was_never_called_agrees_too(tmp_path):
    shares = {kind: ([examples(kind)], []) for kind in KINDS}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``compute`` method", UserWarning)
        answers = score_in_two_processes(tmp_path, shares)
    for kind in KINDS:
        for answer in answers:
            assert answer[kind]["scores"] == scored(kind, examples(kind))


def test_a_column_that_lacks_a_row_is_refused():
    keys, logits, targets = examples("single")
    with pytest.raises(ValueError, match=r"every column needs a row for each example.*'keys': 11"):
        head("single")._add(keys, targets > 0, targets[:3] > 0, logits=logits, targets=targets)
