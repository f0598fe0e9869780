import numpy as np
import pytest
import torch

from mmattn.errors import DataError
from mmattn.figures import risk_coverage as module
from mmattn.figures.risk_coverage import risk_coverage_picture
from mmattn.metrics.selective import risk_coverage


def curve(examples, seed=0):
    rng = torch.Generator().manual_seed(seed)
    confidence = torch.rand(examples, generator=rng)
    return risk_coverage(confidence, torch.rand(examples, generator=rng) < confidence)


def test_a_curve_is_drawn_above_its_best_order(figures):
    kept, found = figures(module), curve(50)
    picture = risk_coverage_picture({"softmax": found})
    assert picture.dtype == np.uint8
    line, best = kept[0].axes[0].lines
    assert line.get_xdata() == pytest.approx(found.coverage.numpy())
    assert line.get_ydata() == pytest.approx(found.risk.numpy())
    assert best.get_ydata() == pytest.approx(found.best_risk.numpy())
    assert (line.get_ydata() >= best.get_ydata() - 1e-12).all()
    expected = f"softmax: AURC {found.area:.3f}, excess {found.excess_area:.3f}"
    assert line.get_label() == expected


def test_a_long_curve_keeps_its_ends(figures):
    kept, found = figures(module), curve(30_001)
    risk_coverage_picture({"a": found, "b": found})
    line = kept[0].axes[0].lines[0]
    assert len(line.get_xdata()) == 2000
    assert line.get_xdata()[[0, -1]] == pytest.approx([1 / 30_001, 1])
    assert line.get_ydata()[-1] == found.risk[-1]


def test_many_curves_look_different_and_fit_with_their_names(figures):
    kept = figures(module)
    names = [f"$a$ measure with a long name that must be cut, ${i}$" for i in range(14)]
    picture = risk_coverage_picture({name: curve(40, i) for i, name in enumerate(names)})
    (figure,) = kept
    lines = figure.axes[0].lines
    assert len(lines) == len({(line.get_color(), line.get_linestyle()) for line in lines}) == 14
    for text in figure.legends[0].get_texts():
        assert not text.get_parse_math()
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= picture.shape[1]
    assert figure.axes[0].get_window_extent().height > 300


def test_one_example_can_be_drawn():
    one = risk_coverage(torch.tensor([0.5]), torch.tensor([False]))
    assert len(np.unique(risk_coverage_picture({"": one}).reshape(-1, 3), axis=0)) > 10


def test_no_curve_is_refused():
    with pytest.raises(DataError, match="no risk-coverage curve"):
        risk_coverage_picture({})
