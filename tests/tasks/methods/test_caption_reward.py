import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.metrics import bleu_scores, cider_d, tokenize
from mmattn.tasks.methods.caption_reward import END, CaptionReward

TRAINING = [
    ("A dog runs on the grass.", "a dog plays"),
    ("a man on a horse", "A man rides a horse."),
    ("two cats sleep on a bed",),
]


def words(captions, end=True):
    return [[*tokenize(caption), END] if end else tokenize(caption) for caption in captions]


@pytest.mark.parametrize("end_token", [True, False])
def test_rewards_are_the_weighted_sum_of_the_metrics(end_token):
    """Each image's first own caption, and one that is wrong, scored one set at a time."""
    reward = CaptionReward(TRAINING, cider=0.5, bleu=2.0, end_token=end_token)
    captions = [
        ["a dog runs", "a cat on a bed"],
        ["a man", "a dog"],
        ["two cats", "two cats sleep"],
    ]
    found = reward(TRAINING, captions, [[True, True]] * 3)
    references = [words(image, end_token) for image in TRAINING]
    for n in range(2):
        said = words([image[n] for image in captions], end_token)
        expected = 0.5 * cider_d(references, said)[1] + 2 * bleu_scores(references, said)[1][:, 3]
        np.testing.assert_allclose(found[:, n], expected, atol=1e-12)


def test_a_caption_that_breaks_off_is_worth_less_only_if_its_end_counts():
    captions, ended = [["a man on a horse"] * 2], [[True, False]]
    counted = CaptionReward(TRAINING)(TRAINING[1:2], captions, ended)[0]
    assert counted[0] > counted[1]
    ignored = CaptionReward(TRAINING, end_token=False)(TRAINING[1:2], captions, ended)[0]
    assert ignored[0] == ignored[1]


def test_a_reward_does_not_depend_on_the_rest_of_the_batch():
    reward, captions = CaptionReward(TRAINING), [["a dog", "a man"], ["a horse", "a man"]]
    together = reward(TRAINING[:2], captions, [[True] * 2] * 2)
    alone = reward(TRAINING[1:2], captions[1:], [[True] * 2])
    np.testing.assert_allclose(together[1:], alone)


def test_an_image_of_which_nothing_is_known_is_worth_nothing():
    reward = CaptionReward([*TRAINING, ()])
    found = reward([(), TRAINING[0]], [["a dog"], ["a dog"]], [[True], [True]])
    assert found[0] == 0 < found[1]
    assert reward([()], [["a dog"]], [[True]]).tolist() == [[0.0]]


def test_without_training_captions_there_is_no_reward():
    with pytest.raises(DataError, match="there is no image"):
        CaptionReward([()])
