import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def figures(monkeypatch):
    """The figures that a module draws, in a list that grows: `kept = figures(module)`."""

    def watched(module):
        kept, drawn = [], module.drawn
        monkeypatch.setattr(module, "drawn", lambda figure: kept.append(figure) or drawn(figure))
        return kept

    return watched


@pytest.fixture(autouse=True)
def _no_figure_is_left_in_pyplot():
    """A training loop draws again and again: what pyplot knows of would never be freed."""
    yield
    assert plt.get_fignums() == []
