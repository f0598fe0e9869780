import pytest
from PIL import Image

from mmattn.errors import ConfigError
from mmattn.training.pictures.probes import Probes, spread, spread_over


def test_the_probe_is_spread_over_the_set_and_prefers_images_with_regions(make_data):
    val = make_data().splits.val
    chosen = spread_over(val, 4)
    assert chosen == spread_over(val, 4)
    assert len(set(chosen)) == 4
    assert all(val.regions(index) for index in chosen)
    assert chosen[0] < 3
    assert chosen[-1] == len(val) - 1
    assert spread_over(val, 100) == [i for i in range(len(val)) if val.regions(i)]


@pytest.mark.parametrize(
    ("length", "count", "chosen"), [(10, 2, [0, 9]), (10, 1, [0]), (3, 5, [0, 1, 2]), (0, 4, [])]
)
def test_items_are_spread_evenly(length, count, chosen):
    assert spread(list(range(length)), count) == chosen


def test_images_are_chosen_from_any_set_and_by_name(make_data):
    splits = make_data().splits
    (usual,) = Probes(size=2).choose(splits)
    assert (usual.name, usual.dataset, len(usual.indices)) == ("", splits.val, 2)
    (named,) = Probes("test/b", keys=["b/7", "b/1"]).choose(splits)
    assert (named.name, named.dataset, named.indices) == ("test/b", splits.test["b"], (7, 1))


def test_images_of_the_users_own_come_besides(make_data, tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "mine.png")
    _, own = Probes(folder=str(tmp_path)).choose(make_data().splits)
    assert (own.name, own.dataset.key(0), own.indices) == ("own", "mine.png", (0,))


def test_a_set_or_a_name_that_does_not_exist_is_answered_with_those_that_do(make_data):
    splits = make_data().splits
    with pytest.raises(ConfigError, match="'dev'; there are: train, val, test/a, test/b"):
        Probes("dev").choose(splits)
    with pytest.raises(ConfigError, match=r"train has no image 'x'; its 24 .* train/0, train/1"):
        Probes("train", keys=["x"]).choose(splits)
