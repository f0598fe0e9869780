"""The data of a configuration, composed as for training and built without the rest."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmattn.cli import schema
from mmattn.cli.command_line import long_names, sets_key
from mmattn.cli.hydra_parts import check_hydra_parts
from mmattn.cli.suggest import explain
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError


def add_overrides(parser: ArgumentParser) -> None:
    """Add what chooses the data: overrides, in the grammar of training."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as for training: data=flickr8k data.root=…",
    )
    parser.add_argument(
        "--config-dir", type=Path, help="a folder of your own YAML files, as for training"
    )


def compose_config(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """Return the configuration that training would have.

    Raises:
        ConfigError: for a key or an option that there is not, with the nearest one.
    """
    schema.register()
    check_hydra_parts()
    search = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.absolute()}]"]
    folder, overrides = schema.config_dir(), long_names(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            config = compose("train", [*search, *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        own = [] if config_dir is None else [f"--config-dir={config_dir}"]
        raise ConfigError(explain(error, folder, [*own, *overrides])) from error
    if config.allow_targets and not sets_key(overrides, "allow_targets"):
        raise ConfigError("allow_targets counts on the command line only, not in a file")
    return config


def build_data(overrides: Sequence[str], config_dir: Path | None = None) -> SplitDataModule:
    """Return the data module that training would have; nothing is read yet.

    Raises:
        UserError: for a mistake in the configuration.
    """
    config = compose_config(overrides, config_dir)
    # torch and Lightning: only once the configuration is right
    from mmattn.cli.arguments import check_arguments
    from mmattn.cli.build import build
    from mmattn.cli.targets import check_targets

    plain = {"data": OmegaConf.to_container(config.data, resolve=True)}
    check_targets(plain, config.allow_targets)
    check_arguments(plain)
    return build(config.data, "data")
