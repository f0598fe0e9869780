"""How far a run has come, for what changes while it goes on."""

import math
from dataclasses import dataclass

from mmattn.errors import ConfigError


@dataclass(frozen=True)
class Progress:
    """The optimiser steps of a run that are done, and those that it has; without end if not known.

    Attributes:
        step: how many are done.
        steps: how many there are.
    """

    step: int = 0
    steps: int | float = math.inf

    def share(self, key: str) -> float:
        """Return how much of the run is done, from 0 to 1.

        Raises:
            ConfigError: for a run without an end, naming the `key` of what asks.
        """
        if math.isinf(self.steps):
            raise ConfigError(
                f"{key} counts in shares of the run, whose length is not known: set "
                "trainer.max_epochs or trainer.max_steps"
            )
        return min(self.step / max(self.steps, 1), 1.0)

    def since(self, start: int | float, key: str) -> float:
        """Return how much of the rest after `start` is done: 0 until then, 1 at the end.

        `start` is a number of steps, or a share of the run if below 1. Raises what `share` raises.
        """
        share = self.share(key)
        begin = start if start < 1 else start / max(self.steps, 1)
        return max(share - begin, 0.0) / (1 - begin) if begin < 1 else 0.0

    def has_reached(self, start: int | float, key: str) -> bool:
        """Whether `start` is behind: a number of steps, or a share of the run if below 1.

        Raises what `share` raises, for a start that is a share.
        """
        if start == 0 or start >= 1:
            return self.step >= start
        return self.share(key) >= start


def check_start(start: int | float, key: str) -> None:
    """Raise ConfigError for a start that is neither a number of steps nor a share of the run."""
    if start < 0 or (start >= 1 and start != int(start)):
        raise ConfigError(
            f"{key}={start} is a number of optimiser steps, or a share of the run if below 1"
        )
