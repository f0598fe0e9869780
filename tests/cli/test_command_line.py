import pytest

from mmattn.cli.command_line import config_dirs, flags_first, folder_flags, long_names, sets_key


@pytest.mark.parametrize(
    ("typed", "sorted_"),
    [
        ("a=1 -m b=1,2", "-m a=1 b=1,2"),
        ("-m a=1", "-m a=1"),
        ("a=1 --config-dir conf +b=2 ~c", "--config-dir conf a=1 +b=2 ~c"),
        ("a=1 --config-dir=x=y b=2", "--config-dir=x=y a=1 b=2"),
        ("a=1 -cd x=y", "-cd x=y a=1"),
        ("--cfg job a=1 --resolve", "--cfg job --resolve a=1"),
        ("", ""),
    ],
)
def test_flags_come_before_overrides(typed, sorted_):
    assert flags_first(typed.split()) == sorted_.split()


def test_only_the_flags_that_say_where_the_configuration_is_are_handed_on():
    typed = "-m --config-dir a -cn=mine --resolve seed=1 -cp b"
    assert folder_flags(typed.split()) == ["--config-dir", "a", "-cn", "mine", "-cp", "b"]
    assert config_dirs(["--config-dir", "a", "-cd=b", "-cn", "c"]) == ["a", "b"]


def test_a_key_is_set_where_an_override_names_exactly_it():
    assert sets_key(["allow_targets=[a]"], "allow_targets")
    assert sets_key(["+allow_targets=[a]"], "allow_targets")
    assert not sets_key(
        ["x.allow_targets=[a]", "allow_targets_=1", "a=allow_targets"], "allow_targets"
    )


def test_short_names_become_long_ones():
    given = ["-m", "data.num_workers=0,2", "seed=1", "data.num_workers", "+data.num_workers=3"]
    full = "++data.loader.num_workers="
    assert long_names(given) == ["-m", f"{full}0,2", "seed=1", "data.num_workers", f"{full}3"]
