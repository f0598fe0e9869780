import copy

import pytest
import torch

from mmattn.errors import DataError
from mmattn.metrics import exact_match, score_captions
from mmattn.metrics.collection import CaptionScores

IMAGES = [
    ("a.jpg", ["A dog runs on grass.", "The dog runs."], "a dog runs on the grass"),
    ("b.jpg", ["Two cats sleep on a red sofa."], "two cats sleep on a red sofa"),
    ("c.jpg", ["A man rides a wave."], "a man on a board"),
    ("d.jpg", ["Ça va, 北京?"], "ça va"),
    ("e.jpg", ["A red bus.", "A bus in town."], "A red bus."),
]


def columns(images):
    return [list(column) for column in zip(*images, strict=True)]


def expected(images):
    _, references, predictions = columns(images)
    match = {"exact_match": exact_match(references, predictions)}
    return score_captions(references, predictions) | match


def test_batches_add_up_to_the_corpus():
    scores = CaptionScores()
    scores.update(*columns(IMAGES[:2]))
    scores.update(*columns(IMAGES[2:]))
    assert scores.compute() == expected(IMAGES)
    assert scores.compute()["exact_match"] == 0.2


def test_the_order_of_batches_does_not_matter():
    scores = CaptionScores()
    for image in reversed(IMAGES):
        scores.update(*columns([image]))
    assert scores.compute() == expected(IMAGES)


def test_a_repeated_image_counts_once():
    scores = CaptionScores()
    scores.update(*columns([*IMAGES, IMAGES[0], IMAGES[3]]))
    assert scores.compute() == expected(IMAGES)


def test_of_two_predictions_the_same_one_counts_in_either_order():
    key, references, _ = IMAGES[1]
    twice = [(key, references, "two cats"), (key, references, "a cat")]
    for order in (twice, twice[::-1]):
        scores = CaptionScores()
        scores.update(*columns([IMAGES[0], *order]))
        assert scores.compute() == expected([IMAGES[0], twice[1]])


def test_reset_forgets_everything():
    scores = CaptionScores()
    scores.update(*columns(IMAGES[:3]))
    scores.compute()
    scores.reset()
    scores.update(*columns(IMAGES[3:]))
    assert scores.compute() == expected(IMAGES[3:])


def test_an_update_after_compute_counts():
    scores = CaptionScores()
    scores.update(*columns(IMAGES[:3]))
    scores.compute()
    scores.update(*columns(IMAGES[3:]))
    assert scores.compute() == expected(IMAGES)


def test_a_call_scores_its_batch_and_keeps_it():
    scores = CaptionScores()
    assert scores(*columns(IMAGES[:2])) == expected(IMAGES[:2])
    assert scores(*columns(IMAGES[2:])) == expected(IMAGES[2:])
    assert scores.compute() == expected(IMAGES)


def test_captions_stay_when_the_metric_moves_or_is_copied():
    scores = CaptionScores()
    scores.update(*columns(IMAGES))
    moved = copy.deepcopy(scores).to("meta").to(torch.float64)
    assert moved.captions == scores.captions
    assert moved.compute() == expected(IMAGES)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="2 keys, 1 lists of references and 3 predictions"):
        CaptionScores().update(["a", "b"], [["x"]], ["x", "y", "z"])


def test_references_that_contradict_are_refused():
    scores = CaptionScores()
    scores.update(["a.jpg", "a.jpg"], [["x"], ["y"]], ["x", "x"])
    with pytest.raises(DataError, match=r"image 'a\.jpg' was given with two different"):
        scores.compute()


def score(rank, batches):
    """What one of two processes finds of its batches."""
    scores = CaptionScores()
    for batch in batches:
        scores.update(*batch)
    return {
        "scores": scores.compute(),
        "merged": [key for key, _, _ in scores.merged()],
        "left": len(scores.captions),
    }


def test_two_processes_agree_with_one(in_two_processes):
    """Image a is given to both, as a distributed sampler does; the shares differ in size."""
    first, second = [IMAGES[0], IMAGES[3]], [IMAGES[4], IMAGES[1], IMAGES[2], IMAGES[0]]
    batches = [[columns(first)], [columns(second[:2]), columns(second[2:])]]
    answers = in_two_processes(score, batches)
    for answer in answers:
        assert answer["scores"] == expected(IMAGES)
        assert answer["merged"] == sorted(columns(IMAGES)[0])
    # What was gathered must not stay behind, or the next epoch would count it again.
    assert [answer["left"] for answer in answers] == [2, 4]


def test_a_process_without_images_agrees_too(in_two_processes):
    with_captions, without = in_two_processes(score, [[columns(IMAGES)], [([], [], [])]])
    assert with_captions["scores"] == without["scores"] == expected(IMAGES)
