import pytest
import torch

from mmattn.maps.quality.imputation import impute


def solved(image: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """The imputation of Rong et al. (2022) as a dense system, one pixel a row."""
    channels, height, width = image.shape
    places = [(r, c) for r in range(height) for c in range(width) if missing[r, c]]
    number = {place: i for i, place in enumerate(places)}
    A = torch.zeros(len(places), len(places), dtype=torch.float64)
    b = torch.zeros(len(places), channels, dtype=torch.float64)
    for i, (r, c) in enumerate(places):
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                weight = {0: 0.0, 1: 1 / 6, 2: 1 / 12}[abs(dr) + abs(dc)]
                near = (r + dr, c + dc)
                if not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                A[i, i] += weight
                if near in number:
                    A[i, number[near]] -= weight
                else:
                    b[i] += weight * image[:, near[0], near[1]].double()
    filled = image.double().clone()
    for place, value in zip(places, torch.linalg.solve(A, b), strict=True):
        filled[:, place[0], place[1]] = value
    return filled


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))


def test_holes_are_the_solution_of_the_linear_system(image):
    missing = torch.rand(4, 6, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    missing[1, 1:5, 2:7] = True
    missing[2] = True
    missing[2, 5, 0] = False  # one known pixel
    missing[3] = False
    filled = impute(image, missing, noise=0.0, tolerance=1e-7)
    expected = torch.stack([solved(image, each) for each in missing])
    torch.testing.assert_close(filled.double(), expected, rtol=0, atol=1e-5)


def test_the_usual_tolerance_is_finer_than_the_noise(image):
    missing = torch.zeros(1, 6, 9, dtype=torch.bool)
    missing[0, :5] = True
    error = impute(image, missing, noise=0.0)[0].double() - solved(image, missing[0])
    assert error.abs().max() < 0.005


def test_a_picture_of_one_colour_stays_so():
    image = torch.full((3, 8, 8), 0.7)
    missing = torch.ones(1, 8, 8, dtype=torch.bool)
    missing[0, 3, 3] = False
    torch.testing.assert_close(impute(image, missing, noise=0.0, tolerance=1e-6)[0], image)


def test_noise_is_of_its_size_on_the_holes_alone_and_of_the_seed():
    image, missing = torch.zeros(3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    missing[:, 8:24] = True
    filled = impute(image, missing, noise=0.1, seed=4)
    assert filled[:, :, ~missing[0]].abs().max() == 0
    assert filled[:, :, missing[0]].std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(filled, impute(image, missing, noise=0.1, seed=4))
    assert not torch.equal(filled, impute(image, missing, noise=0.1, seed=5))


def test_something_must_be_known(image):
    with pytest.raises(ValueError, match="nothing is left"):
        impute(image, torch.ones(1, 6, 9, dtype=torch.bool))
