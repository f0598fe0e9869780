import json

import pytest
import torch

from mmattn.training.results import write_results


def test_results_are_flat_finite_sorted_numbers(tmp_path):
    path = tmp_path / "results.json"
    values = {
        "b/x": torch.tensor(0.5),
        "a": 1.0,
        "c": float("nan"),
        "d": torch.tensor(float("inf")),
    }
    written = write_results(path, values)
    assert json.loads(path.read_text()) == written == {"a": 1.0, "b/x": 0.5}
    assert list(written) == ["a", "b/x"]
    assert path.read_text().endswith("}\n")


def test_a_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"a": 1.0})
    with pytest.raises(ValueError, match="only one element"):
        write_results(path, {"a": 2.0, "b": torch.zeros(2)})
    assert json.loads(path.read_text()) == {"a": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
