from pathlib import Path

import pytest

from mmattn.cli import schema
from mmattn.cli.arguments import check_arguments
from mmattn.cli.targets import check_targets

NAMES = sorted(path.stem for path in (Path(schema.config_dir()) / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_says_what_there_is(composed, name):
    """Every class that it names may be named and exists, and takes the arguments it is given."""
    config = composed(f"experiment={name}")
    check_targets(config, [])
    for group in ("data", "model", "task", "optimizer", "callbacks"):
        check_arguments(config[group])
    assert config.task_name
