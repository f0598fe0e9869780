"""Trackio, a local dashboard without an account, as a Lightning logger."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from mmattn.errors import ConfigError


class TrackioLogger(Logger):
    """Logs figures and pictures to a Trackio project; `trackio show` opens its dashboard.

    Args:
        project: the project.
        name: the run; Trackio makes one up if None.

    Raises:
        ConfigError: where the extra `trackio` is not installed.
    """

    def __init__(self, project: str, name: str | None = None):
        super().__init__()
        try:
            import trackio  # pyright: ignore[reportMissingImports] - an extra
        except ImportError as error:
            raise ConfigError(
                "logger=trackio needs the extra trackio: pip install 'mmattn[trackio]'"
            ) from error
        self._trackio, self._project, self._name = trackio, project, name
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str | None:
        """The run."""
        return self._name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run, begun when it is first used; on other ranks than 0 one that does nothing."""
        if self._run is None:
            self._run = self._trackio.init(project=self._project, name=self._name, embed=False)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Keep the configuration with the run."""
        self.experiment.config.update(_flatten_dict(_convert_params(params)))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_images(
        self, key: str, pictures: Sequence[np.ndarray], captions: Sequence[str], step: int
    ) -> None:
        """Log uint8 RGB pictures [H, W, 3]."""
        image = self._trackio.Image
        shown = {
            f"{key}/{i}": image(picture, caption=caption)
            for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True))
        }
        self.experiment.log(shown, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
