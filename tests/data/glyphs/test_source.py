import pickle

import numpy as np
import pytest
import torch

from mmattn.data.dataset import GroundedDataset
from mmattn.data.glyphs import Glyphs
from mmattn.errors import ConfigError, DataError

FONTS = ["DejaVuSans", "DejaVuSansMono", "DejaVuSerif"]
SANS = ["DejaVuSans", "DejaVuSans-Bold"]
LATIN = {"fonts": FONTS, "scripts": ["LATIN"], "categories": ["Ll"]}


@pytest.fixture(scope="module")
def latin():
    return Glyphs(**LATIN, held_out_compositions=0.2).splits()


def sets(splits):
    return [splits.train, splits.val, *splits.test.values()]


def keys(dataset):
    return [dataset.key(i) for i in range(len(dataset))]


def captions(dataset):
    return {dataset.captions(i) for i in range(len(dataset))}


def test_a_set_offers_key_caption_picture_and_regions(latin):
    index = keys(latin.train).index("DejaVuSans/U+00E7")
    assert latin.train.captions(index) == ("latin small letter c with cedilla",)
    assert latin.train.image(index).shape == (3, 32, 32)
    assert latin.train.image(index).dtype == torch.uint8
    mask = latin.train.regions(index)["cedilla"]
    assert mask.shape == (32, 32)
    assert np.argwhere(mask)[:, 0].min() > 20
    assert isinstance(latin.train, GroundedDataset)


def test_an_image_is_the_caller_s_own(latin):
    latin.train.image(0).zero_()
    assert latin.train.image(0).max() == 255


def test_no_picture_is_in_two_sets(latin):
    every = [key for dataset in sets(latin) for key in keys(dataset)]
    assert len(every) == len(set(every))


def test_validation_and_held_out_fonts_show_characters_of_the_training_set(latin):
    assert captions(latin.val) <= captions(latin.train)
    assert captions(latin.test["fonts"]) <= captions(latin.train)
    assert {key.split("/")[0] for key in keys(latin.test["fonts"])} == {"DejaVuSerif-Bold"}


def test_held_out_compositions_are_new_but_their_parts_are_not(latin):
    held, trained = captions(latin.test["compositions"]), captions(latin.train)
    assert not held & (trained | captions(latin.val) | captions(latin.test["fonts"]))
    assert {key.split("/")[0] for key in keys(latin.test["compositions"])} == set(FONTS)
    for (name,) in held:
        base, parts = name.split(" with ")
        assert (base,) in trained
        for part in parts.split(" and "):
            assert any(part in t.partition(" with ")[2].split(" and ") for (t,) in trained)


def test_another_seed_divides_otherwise_and_the_same_one_alike(latin):
    again, other = (Glyphs(**LATIN, held_out_compositions=0.2, seed=s).splits() for s in (0, 1))
    assert [keys(each) for each in sets(again)] == [keys(each) for each in sets(latin)]
    assert keys(other.val) != keys(latin.val)
    assert captions(other.test["compositions"]) != captions(latin.test["compositions"])


def test_the_notes_count(latin):
    assert (
        f"{len(latin.train)} training pictures, {len(latin.val)} for validation" in latin.notes[0]
    )
    held = len(captions(latin.test["compositions"]))
    assert latin.notes[1].startswith(f"held out {held} of ")
    assert "combining mark" in latin.notes[2]


def test_a_set_travels_to_a_worker_process(latin):
    latin.val.regions(0)
    copy = pickle.loads(pickle.dumps(latin.val))  # what a spawned data loader worker receives
    assert torch.equal(copy.image(3), latin.val.image(3))
    assert copy.regions(3).keys() == latin.val.regions(3).keys()


def test_empty_test_sets_are_absent():
    boxes = Glyphs(fonts=FONTS, held_out_fonts=[], scripts=["BOX"]).splits()
    assert boxes.test == {}


def test_a_share_that_the_parts_do_not_allow_is_noted():
    hebrew = Glyphs(fonts=SANS, scripts=["HEBREW"], held_out_compositions=0.95).splits()
    assert any("were asked for" in note for note in hebrew.notes)


def test_skipped_pictures_are_noted():
    ogham = Glyphs(fonts=SANS, held_out_fonts=[], scripts=["OGHAM"], val_fraction=0.2).splits()
    assert ogham.notes[-1].startswith("pictures skipped, over 2 fonts: ")
    assert "larger than the canvas" in ogham.notes[-1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fonts": ["DejaVuSan"]}, "Did you mean 'DejaVuSans'"),
        ({"fonts": []}, "fonts is empty"),
        ({"fonts": FONTS, "held_out_fonts": FONTS[:1]}, "DejaVuSans: named twice"),
        ({"scripts": "LATIN"}, r"Give a list: \[LATIN\]"),
        ({"held_out_compositions": 1.0}, "held_out_compositions is 1.0"),
        ({"held_out_compositions": -0.1}, "held_out_compositions is -0.1"),
        ({"val_fraction": 0.0}, "val_fraction is 0.0"),
        ({"val_fraction": 1.5}, "val_fraction is 1.5"),
        ({"size": 4}, "size is 4"),
    ],
)
def test_a_wrong_configuration_is_refused_at_once(config, message):
    with pytest.raises(ConfigError, match=message):
        Glyphs(**config)


def test_one_training_font_leaves_nothing_for_validation():
    with pytest.raises(DataError, match=r"1 training fonts leaves 0 .*two or more fonts"):
        Glyphs(fonts=["DejaVuSans"], scripts=["HEBREW"]).splits()
