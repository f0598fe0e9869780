from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from mmattn.cli.arguments import check_argument, check_arguments, takes
from mmattn.errors import ConfigError


@dataclass
class Options:
    depth: int
    rate: float = 0.1
    name: str | None = None
    flag: bool = False
    sizes: list[int] | int = 0
    anything: Any = None
    old: int = None  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 3),
        ("rate", 0.5),
        ("rate", 1),
        ("name", "x"),
        ("name", None),
        ("flag", True),
        ("sizes", [1, 2]),
        ("sizes", "auto"),  # a union with a list: more than this can tell
        ("anything", {"a": 1}),
        ("old", None),  # not in its annotation, but its default
    ],
)
def test_what_fits_passes(name, value):
    check_argument(f"x.{name}", value, name, Options)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("depth", "abc", r"x\.depth='abc': Options wants int$"),
        ("depth", 1.5, "wants int$"),
        ("depth", None, "wants int$"),
        ("rate", "1e", "wants float$"),
        ("name", 3, "wants str or null$"),
        ("flag", "yes", "wants bool$"),
        ("flag", 1, "wants bool$"),
        ("dept", 3, r"x\.dept: Options takes no dept; did you mean depth\?"),
        ("zzz", 3, "takes no zzz$"),
    ],
)
def test_what_does_not_fit_is_refused(name, value, said):
    with pytest.raises(ConfigError, match=said):
        check_argument(f"x.{name}", value, name, Options)


def test_keyword_arguments_that_are_passed_on_take_any_name():
    def function(depth: int, **rest):
        pass

    check_argument("x.other", 3, "other", function)


def test_an_annotation_for_the_type_checker_only_is_left_alone():
    def function(depth: "NotImportedHere"):
        pass

    check_argument("x.depth", "abc", "depth", function)


def test_tensors_do_not_come_from_a_file():
    assert takes(float | Tensor, 0.1)
    assert not takes(float | Tensor, "abc")


def test_a_whole_configuration_is_searched():
    config = {
        "text": {
            "_target_": "mmattn.text.TextTransformer",
            "vocab_size": "???",  # filled in later
            "dim": 8,
            "block": {"_target_": "mmattn.blocks.BlockOptions", "heads": "2"},
        },
        "transforms": [{"_target_": "mmattn.data.transforms.ToNormalised", "means": [0.5]}],
    }
    with pytest.raises(ConfigError, match=r"^text\.block\.heads='2': BlockOptions wants int$"):
        check_arguments(config)
    config["text"]["block"]["heads"] = 2
    with pytest.raises(ConfigError, match=r"^transforms\[0\]\.means: .*did you mean mean\?"):
        check_arguments(config)
