import logging
import warnings

import pytest

from mmattn.cli.quiet import quiet_libraries


def test_lightning_speaks_through_hydras_log_only(monkeypatch):
    logger = logging.getLogger("lightning")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler()])
    with warnings.catch_warnings():
        quiet_libraries()
        warnings.warn("The 'x' does not have many workers which", stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", stacklevel=1)
    assert logger.handlers == []
    assert logger.propagate
