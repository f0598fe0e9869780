"""What Hydra itself builds from a configuration, checked before it does.

Hydra's callbacks and its logging are configuration too: `hydra.callbacks.x._target_=os.system`
would run before our first line. Hydra has no place to step in between, so its loader is wrapped.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from mmattn.cli.targets import check_defined
from mmattn.errors import ConfigError

PACKAGES = ("hydra", "hydra_plugins", "logging", "colorlog")
NAMES = ("_target_", "()", "class", "queue", "listener")  # Hydra's one, and those of logging.config
OWN = "mmattn.cli.sweep_table.SweepTable"  # the one part of ours that Hydra builds
SLURM = "hydra_plugins.hydra_submitit_launcher"
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def check_hydra_parts() -> None:
    """Make every configuration that Hydra loads in this process pass `check_hydra_node`."""
    load = ConfigLoaderImpl.load_configuration
    if getattr(load, "checked", False):
        return

    def load_checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        config = load(self, *args, **kwargs)
        check_hydra_node(config.hydra)
        return config

    setattr(load_checked, "checked", True)  # noqa: B010 (functions have no such attribute)
    ConfigLoaderImpl.load_configuration = load_checked


def check_hydra_node(node: Any) -> None:
    """Refuse Hydra settings that name anything but classes of Hydra and of logging.

    Raises:
        ConfigError: naming the key and the name.
    """
    for key, name in names(OmegaConf.to_container(node, resolve=False), "hydra"):
        if name in (OWN, *STREAMS):
            continue
        home = str(name).split(".")[0]
        if home not in PACKAGES:
            raise ConfigError(
                f"{key}={name!r}: Hydra's own settings may name only classes of Hydra and logging"
            )
        check_installed(key, str(name))
        check_defined(key, name, home)


def check_installed(key: str, name: str) -> None:
    """Raise ConfigError where a launcher of jobs is wanted that an extra would install."""
    if name.startswith(f"{SLURM}.") and not (find_spec("hydra_plugins") and find_spec(SLURM)):
        raise ConfigError(
            f"{key}: jobs of SLURM need the extra `slurm`: pip install 'mmattn[slurm]'"
        )


def names(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, name) of everything in a nested container that would be imported by its name."""
    if isinstance(value, dict):
        for part, inner in value.items():
            if part in NAMES:
                yield f"{key}.{part}", inner
            yield from names(inner, f"{key}.{part}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from names(inner, f"{key}[{i}]")
    elif isinstance(value, str) and value.startswith("ext://"):
        yield key, value
