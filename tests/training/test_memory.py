import re

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mmattn.cli import run
from mmattn.errors import ConfigError
from mmattn.training.checkpoints.finding import check_checkpoint
from mmattn.training.memory import lack_of_memory, smallest_factor

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
BUS = (
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit."
)


@pytest.mark.fault("F28")
def test_a_full_gpu_is_one_line_with_what_keeps_the_step_and_checkpoints_stay(
    make_data, make_task, make_trainer, tmp_path, monkeypatch
):
    data = make_data()
    task = make_task(data)
    keep = ModelCheckpoint(tmp_path, "one", every_n_train_steps=1)
    trainer = make_trainer(keep, enable_checkpointing=True, accumulate_grad_batches=3)
    learn = task.training_step

    def full(batch, batch_idx):
        if batch_idx == 4:
            raise torch.cuda.OutOfMemoryError(FULL)
        return learn(batch, batch_idx)

    monkeypatch.setattr(task, "training_step", full)
    with pytest.raises(ConfigError) as caught:
        run.fit(trainer, task, data, None)
    said = str(caught.value)
    assert said.startswith(
        "CUDA out of memory (data.loader.batch_size=4, images of 16x16 pixels): "
    )
    assert (
        "data.loader.batch_size=2 trainer.accumulate_grad_batches=6 in a new run learn from 12"
        in said
    )
    assert "halve data.loader.eval_batch_size=5 and go on" in said
    assert "\n" not in said
    check_checkpoint(task, tmp_path / "one.ckpt", data)


@pytest.mark.fault("F28")
@pytest.mark.parametrize(("size", "advised"), [(64, (32, 2)), (15, (5, 3)), (7, (1, 7))])
def test_what_is_advised_multiplies_to_the_same(make_data, size, advised):
    said = lack_of_memory(torch.cuda.OutOfMemoryError(FULL), make_data(batch_size=size), 1)
    found = re.search(r"batch_size=(\d+) trainer\.accumulate_grad_batches=(\d+)", said)
    assert tuple(map(int, found.groups())) == advised
    assert size // smallest_factor(size) == advised[0]


@pytest.mark.fault("F28")
def test_one_image_cannot_be_halved(make_data):
    said = lack_of_memory(torch.cuda.OutOfMemoryError(FULL), make_data(batch_size=1), 1)
    assert "choose smaller images or a smaller model" in said


@pytest.mark.fault("F29")
@pytest.mark.parametrize("said", [BUS, "unable to open shared memory object </torch_7> in mode"])
def test_too_little_shared_memory_says_how_to_do_without(make_data, said):
    line = lack_of_memory(RuntimeError(said), make_data(), 1)
    assert "data.loader.num_workers=0" in line
    assert "--shm-size" in line


def test_any_other_error_is_left_alone(make_data):
    assert lack_of_memory(RuntimeError("mat1 and mat2 shapes"), make_data(), 1) is None
