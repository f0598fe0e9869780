import numpy as np
import pytest
import torch

from mmattn.figures import reliability as module
from mmattn.figures.reliability import reliability_picture
from mmattn.metrics.calibration import confidences, reliability


def bins(temperature=1.0, **options):
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2000, 5, generator=rng)
    targets = (logits / 2.3).softmax(-1).multinomial(1, generator=rng)[:, 0]
    return reliability(*confidences(logits / temperature, targets), **options)


def heights(axes):
    """The bars of accuracy, then those of the gaps: (left, bottom, height) of each."""
    return [
        [(bar.get_x(), bar.get_y(), bar.get_height()) for bar in bars] for bars in axes.containers
    ]


def test_bars_are_accuracies_and_gaps_reach_the_confidence(figures):
    kept, found = figures(module), bins()
    picture = reliability_picture(found)
    assert picture.dtype == np.uint8
    diagram, histogram = kept[0].axes
    held = found.count > 0
    accuracy, gaps = heights(diagram)
    assert [bar[0] for bar in accuracy] == found.edges[:-1][held].tolist()
    assert [bar[2] for bar in accuracy] == found.accuracy[held].tolist()
    tops = [bottom + height for _, bottom, height in gaps]
    assert tops == pytest.approx(found.confidence[held].tolist())
    (shares,) = heights(histogram)
    assert [bar[2] for bar in shares] == pytest.approx((found.count / 2000).tolist())
    assert diagram.get_title(loc="left") == f"ECE {found.error:.3f}"
    assert "2,000 examples" in histogram.get_xlabel()


def test_a_temperature_is_drawn_beside(figures):
    kept = figures(module)
    before, after = bins(), bins(2.3)
    picture = reliability_picture(before, after, 2.3456)
    titles = [axes.get_title(loc="left") for axes in kept[0].axes[:2]]
    assert titles == [
        f"as trained: ECE {before.error:.3f}",
        f"with temperature 2.35: ECE {after.error:.3f}",
    ]
    assert after.error < before.error
    assert picture.shape[1] == 2 * reliability_picture(before).shape[1]


def test_bins_with_few_examples_are_pale(figures):
    kept = figures(module)
    confidence = torch.tensor([0.9] * 20 + [0.5] * 3)
    reliability_picture(reliability(confidence, torch.arange(23) % 2 == 0))
    diagram, histogram = kept[0].axes
    assert [bar.get_facecolor()[3] for bar in diagram.containers[0]] == [0.25, 1.0]
    assert histogram.get_xlabel().endswith("(23 examples; pale: fewer than 10)")


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_example_can_be_drawn(adaptive):
    one = reliability(torch.tensor([0.9]), torch.tensor([True]), adaptive=adaptive)
    assert len(np.unique(reliability_picture(one).reshape(-1, 3), axis=0)) > 10


def test_everything_lies_on_the_sheet(figures):
    kept = figures(module)
    picture = reliability_picture(bins(), bins(2.3), 2.3)
    (figure,) = kept
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= picture.shape[1]
        assert box.y1 <= picture.shape[0]
