"""Loggers whose settings contradict each other, found before data are read."""

from collections.abc import Mapping

from omegaconf import DictConfig

from mmattn.errors import ConfigError

WANDB = "lightning.pytorch.loggers.WandbLogger"


def check_loggers(config: DictConfig) -> None:
    """Refuse a W&B run that is to upload checkpoints and to stay offline.

    Raises:
        ConfigError: naming both keys.
    """
    for name, part in (config.logger or {}).items():
        if not isinstance(part, Mapping) or part.get("_target_") != WANDB:
            continue
        if part.get("offline") and part.get("log_model"):
            raise ConfigError(
                f"logger.{name}.log_model={part['log_model']} uploads checkpoints, and "
                f"logger.{name}.offline=true sends nothing (W&B is offline where it finds no key): "
                "set one of them to false"
            )
