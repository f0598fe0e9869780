"""Checkpoints of older and newer schemas."""

import pytest

from mmattn.errors import CheckpointError
from mmattn.tasks import migrations
from mmattn.tasks.migrations import SCHEMA, migrate


def content(schema, **more):
    return {"state_dict": {}, "mmattn": {"schema": schema, "tokenizer": None}, **more}


def test_todays_schema_and_others_checkpoints_stay_as_they_are():
    for same in (content(SCHEMA), {"state_dict": {}}, {"state_dict": {}, "mmattn": 3}):
        assert migrate(same) == same


@pytest.mark.fault("F26")
def test_an_older_schema_is_brought_to_date_step_by_step(monkeypatch):
    monkeypatch.setattr(migrations, "SCHEMA", 3)
    monkeypatch.setitem(migrations.MIGRATIONS, 1, lambda old: {**old, "seen": [1]})
    monkeypatch.setitem(migrations.MIGRATIONS, 2, lambda old: {**old, "seen": [*old["seen"], 2]})
    old = content(1)
    assert migrate(old) == content(3, seen=[1, 2])
    assert old == content(1)
    assert migrate(content(2, seen=[])) == content(3, seen=[2])


@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (99, "schema 99, of a newer version of mmattn; .* pip install -U mmattn"),
        (0, "schema 0, which is no number from 1 on"),
        ("1", "schema '1', which is no number"),
        (True, "schema True, which is no number"),
        (None, "schema None, which is no number"),
    ],
)
def test_a_schema_of_which_nothing_is_known_is_refused(schema, said):
    with pytest.raises(CheckpointError, match=said):
        migrate(content(schema))


def test_a_schema_that_is_no_longer_read_is_refused(monkeypatch):
    monkeypatch.setattr(migrations, "SCHEMA", 3)
    monkeypatch.setitem(migrations.MIGRATIONS, 2, dict)
    with pytest.raises(CheckpointError, match="schema 1, which this version no longer reads"):
        migrate(content(1))


def test_there_is_a_migration_from_every_released_schema():
    assert set(migrations.MIGRATIONS) == set(range(1, SCHEMA))
