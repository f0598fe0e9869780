import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mmattn.cli import hydra_parts, schema
from mmattn.cli.hydra_parts import check_hydra_node
from mmattn.errors import ConfigError


def test_hydras_own_settings_pass():
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    check_hydra_node(config.hydra)


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"log": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}}},
        {"job_logging": {"handlers": {"x": {"class": "logging.handlers.RotatingFileHandler"}}}},
        {"job_logging": {"formatters": {"x": {"()": "logging.Formatter", "fmt": "%(message)s"}}}},
        {"job_logging": {"handlers": {"x": {"stream": "ext://sys.stderr"}}}},
    ],
)
def test_classes_of_hydra_and_of_logging_pass(node):
    check_hydra_node(OmegaConf.create(node))


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    ("node", "key"),
    [
        (
            {"callbacks": {"x": {"_target_": "os.system", "command": "ls"}}},
            r"callbacks\.x\._target_",
        ),
        ({"callbacks": {"x": {"_target_": "hydra._internal.utils.os.system"}}}, "No module"),
        ({"callbacks": {"x": {"_target_": "hydra.utils.instantiate"}}}, "is a function"),
        ({"launcher": {"_target_": "subprocess.Popen"}}, r"launcher\._target_"),
        ({"job_logging": {"formatters": {"x": {"()": "os.system"}}}}, r"formatters\.x\.\(\)"),
        ({"job_logging": {"formatters": {"x": {"()": "logging.os.system"}}}}, "No module"),
        ({"job_logging": {"filters": {"x": {"()": "logging.config.fileConfig"}}}}, "is a function"),
        ({"job_logging": {"handlers": {"x": {"class": "subprocess.Popen"}}}}, r"x\.class"),
        ({"job_logging": {"handlers": {"x": {"queue": "os.abort"}}}}, r"x\.queue"),
        ({"job_logging": {"handlers": {"x": {"stream": "ext://os.system"}}}}, r"x\.stream"),
        ({"hydra_logging": {"handlers": [{"()": "os.system"}]}}, r"handlers\[0\]\.\(\)"),
        ({"a": "os.system", "callbacks": {"x": {"_target_": "${a}"}}}, r"callbacks\.x\._target_"),
    ],
)
def test_anything_else_is_refused(node, key):
    with pytest.raises(ConfigError, match=key):
        check_hydra_node(OmegaConf.create(node))


def test_jobs_of_slurm_name_the_extra_that_they_need(monkeypatch):
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        chosen = "hydra/launcher=slurm"
        config = compose("train", [chosen], return_hydra_config=True)
    check_hydra_node(config.hydra)
    monkeypatch.setattr(hydra_parts, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\._target_: .* pip install 'mmattn\["):
        check_hydra_node(config.hydra)
