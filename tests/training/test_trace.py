"""Two runs are compared to the last bit, and what differs first is named."""

import json

import pytest
import torch

from mmattn.training.trace import END, Trace, digest, first_difference, largest_difference


@pytest.fixture
def traced(make_data, make_task, make_trainer, tmp_path):
    """Train two epochs of six batches, two to a step; return the folder of the trace."""

    def run(name, seed=0):
        data = make_data(seed=seed)
        trace = Trace(str(tmp_path / name))
        trainer = make_trainer(
            trace, max_epochs=2, accumulate_grad_batches=2, enable_checkpointing=True
        )
        trainer.fit(make_task(data), datamodule=data)
        return tmp_path / name

    return run


def test_the_same_run_has_the_same_trace_and_another_one_has_not(traced):
    whole, same, other = traced("whole"), traced("same"), traced("other", seed=1)
    lines = [json.loads(line) for line in (whole / "steps-0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert len({line["found"]["model.text.embedding.weight"] for line in lines}) == 6
    assert first_difference(whole, same) is None
    assert first_difference(whole, other) == "train/loss at step 1"
    ends = [torch.load(run / END, weights_only=True) for run in (whole, same, other)]
    assert "optimizer exp_avg of model.text.embedding.weight" in ends[0]["end"]
    assert largest_difference(ends[0]["end"], ends[1]["end"]) == (0.0, "")
    assert largest_difference(ends[0]["end"], ends[2]["end"])[0] > 0
    assert 0 < largest_difference(ends[0]["before"], ends[0]["last"])[0] < 1


def written(folder, steps):
    folder.mkdir()
    lines = [json.dumps({"step": step, "found": found}) for step, found in steps.items()]
    (folder / "steps-0.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    ("resumed", "said"),
    [
        ({3: {"w": "c"}, 4: {"w": "d"}}, None),
        ({3: {"w": "c"}, 4: {"w": "x"}}, "w at step 4"),
        ({3: {"w": "c", "v": "a"}, 4: {"w": "d"}}, "v at step 3"),
        ({3: {"w": "c"}}, "step 4 is missing"),
        ({4: {"w": "d"}, 5: {"w": "e"}}, "step 5 is one too many"),
    ],
)
def test_the_first_step_that_differs_is_named(tmp_path, resumed, said):
    whole = written(tmp_path / "a", {step: {"w": name} for step, name in enumerate("abcd", 1)})
    assert first_difference(whole, written(tmp_path / "b", resumed)) == said


def test_a_difference_is_in_bits_and_not_in_numbers():
    one, nan = torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")])
    assert largest_difference({"a": nan}, {"a": nan.clone()}) == (0.0, "")
    assert largest_difference({"a": one, "b": one}, {"a": one, "b": one + 0.5}) == (0.5, "b")
    infinite = [{"a": nan}, {}, {"a": one[:1]}]
    assert [largest_difference({"a": one}, other) for other in infinite] == [
        (float("inf"), "a")
    ] * 3
    zero = torch.zeros(1)
    assert largest_difference({"a": zero}, {"a": -zero}) == (float("inf"), "a")
    assert digest(zero.bfloat16()) != digest(torch.ones(1).bfloat16())
    assert digest(torch.tensor(1)) == digest(torch.tensor([1]))
