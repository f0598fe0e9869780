"""Training that is killed again and again, at any moment, ends where it would have ended."""

import json
import multiprocessing
import os
import random
import signal
import time
import warnings

import pytest
import torch

from mmattn.cli import run
from mmattn.training.checkpoints.finding import find_checkpoint
from mmattn.training.loggers.metrics_file import read_rows
from mmattn.training.trace import END, largest_difference

KILLS = int(os.environ.get("MMATTN_KILLS", "20"))  # a nightly run takes 200
STEPS, EVERY = 5 * KILLS, 3  # too many for so few starts; a checkpoint every three
PATIENCE = 500  # seconds that any one thing may take on a busy machine


@pytest.fixture
def start(composed, small_run, tmp_path):
    """Start training in a process of its own, from the newest checkpoint of a folder."""

    def attempt(folder, workers, seed):
        warnings.simplefilter("ignore")  # it is a program of its own, not a test
        torch.manual_seed(seed)  # whatever else has drawn from it
        config = composed(
            *small_run,
            *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "print_config=false"),
            f"paths.output_dir={folder}",
            f"++data.loader.num_workers={workers}",
            *("data.loader.batch_size=8", "trainer.limit_train_batches=7", "trainer.max_epochs=-1"),
            *("trainer.limit_val_batches=1", "trainer.check_val_every_n_epoch=1"),
            *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1", "test=false"),
            "callbacks=[checkpoint,step_seed,throughput,curve,ema]",
            *(
                "callbacks.checkpoint.monitor=null",
                f"++callbacks.checkpoint.every_n_train_steps={EVERY}",
            ),
            "+callbacks.trace._target_=mmattn.training.trace.Trace",
            f"+callbacks.trace.folder={folder / 'trace'}",
        )
        checkpoint = find_checkpoint("auto", folder, tmp_path / "no other runs")
        if not run.goes_on_in(folder, checkpoint, train=True):
            run.keep_metrics(folder)
        run.train_and_test(config, folder, checkpoint)

    def begin(folder, workers, seed):
        folder.mkdir(exist_ok=True)
        context = multiprocessing.get_context("fork")  # torch is imported already
        process = context.Process(target=attempt, args=(folder, workers, seed))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded")
            process.start()
        return process

    return begin


def steps(folder):
    """Every step that was noted, whole lines only, in the order in which they were learned."""
    path = folder / "trace" / "steps-0.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def drop_half_a_line(folder):
    path = folder / "trace" / "steps-0.jsonl"
    if path.exists():
        path.write_text("".join(json.dumps(each) + "\n" for each in steps(folder)))


def learned(folder, process, count):
    """Wait until so many more steps are noted; return whether the process lives."""
    wanted, until = len(steps(folder)) + count, time.monotonic() + PATIENCE
    while process.is_alive() and len(steps(folder)) < wanted:
        assert time.monotonic() < until, f"no step in {PATIENCE} s"
        time.sleep(0.01)
    return process.is_alive()


@pytest.mark.slow
@pytest.mark.fault("F1")
@pytest.mark.fault("F3")
def test_killed_at_random_times_it_ends_with_the_very_same_bits(start, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    process = start(whole, 0, 1)
    process.join(PATIENCE)
    assert process.exitcode == 0
    a_step = (time.monotonic() - begun) / STEPS

    chance = random.Random(0)
    for number in range(KILLS):
        process = start(killed, chance.choice([0, 2]), number)
        learned(killed, process, chance.randint(0, 4))
        time.sleep(chance.random() * a_step)
        process.kill()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL, f"it had ended before kill {number}"
        drop_half_a_line(killed)
    process = start(killed, 0, KILLS)
    process.join(PATIENCE)
    assert process.exitcode == 0

    ends = [torch.load(each / "trace" / END, weights_only=True)["end"] for each in (whole, killed)]
    assert any(name.startswith("optimizer exp_avg of ") for name in ends[0])
    assert largest_difference(*ends) == (0.0, "")
    right = {each["step"]: each["found"] for each in steps(whole)}
    assert len({json.dumps(found) for found in right.values()}) == STEPS  # each is another
    done = [each["step"] for each in steps(killed)]
    assert all(right[each["step"]] == each["found"] for each in steps(killed))
    assert len(done) > len(set(done))  # some were learned again
    # Killed between the checkpoint of a step and this note of it, a step is not noted.
    assert all(step % EVERY == 0 for step in right.keys() - set(done))
    assert read_rows(whole / "metrics.csv") == read_rows(killed / "metrics.csv")
