import pytest
from hydra import compose, initialize_config_dir

from mmattn.cli import schema


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """The configuration of a run in an empty folder."""
    schema.register()
    monkeypatch.chdir(tmp_path)

    def make(*overrides):
        with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
            return compose("train", [f"paths.output_dir={tmp_path}", *overrides])

    return make
