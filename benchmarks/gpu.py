"""What a machine with a CUDA GPU reaches, in one table.

    uv run --group dev python benchmarks/gpu.py
    uv run --group dev python benchmarks/gpu.py --device cpu --tiny     # only that it runs

- Training: the share of the rate of one large bfloat16 matrix product, measured in the same run,
  that a training step reaches (5 captions an image, bfloat16 autocast, AdamW), as the model
  is and with both encoders compiled. The goal is 0.50. Operations are those of the forward and
  backward pass as torch counts them.
- Recording: a step that records the cross-attention of every layer, over a plain one; and the same
  with both compiled, whose maps must be those of the model as it is written.
- Decoding 20 tokens of encoded images beside Hugging Face's `generate`, the same weights.
- Exact resume: a run of the default kind with dropout, and one that goes on from its checkpoint in
  the middle, deterministic kernels: the largest difference between their weights, which must be 0.

Times are medians of interleaved runs.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: exact resume

import decode
import lightning as L
import torch
from captioning_step import CAPTIONS, SIZES, Sizes, batch, our_model, our_step, under
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from timing import interleaved, matmul_peak
from torch.utils.flop_counter import FlopCounterMode

from mmattn import Captioner, Recorder
from mmattn.cli import schema
from mmattn.interop.foreign_captioner import read_captioner
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.step_seed import StepSeed

GOAL = 0.50
HALF = torch.bfloat16
SITES = ["text.*.cross"]


@dataclass(frozen=True)
class Plan:
    """What is run: names of `SIZES` with the images of a step, and how often."""

    device: str
    models: tuple[tuple[str, int], ...]
    decoder: str
    cells: tuple[tuple[int, int], ...]
    repeats: int
    peak: int
    steps: int
    compiler: str = "inductor"


FULL = Plan("cuda", (("base", 128), ("large", 64)), "base", decode.CELLS, 9, 8192, 200)
# Traced, but not compiled: that would take longer than all the rest.
TINY = Plan("cuda", (("tiny", 2),), "tiny", ((1, 1),), 1, 64, 4, compiler="eager")
Row = tuple[str, str, str]  # what, measured, goal


def compiled(model: Captioner, plan: Plan) -> Captioner:
    """Compile both encoders in place, as `compile=true` does."""
    model.vision.compile(backend=plan.compiler)
    model.text.compile(backend=plan.compiler)
    return model


def make(sizes: Sizes, plan: Plan) -> Captioner:
    torch.manual_seed(0)
    return our_model(sizes).to(plan.device).train()


def utilisation(name: str, images: int, plan: Plan) -> list[Row]:
    """Measure plain, compiled and recording steps against the matrix rate of this run."""
    sizes, device = SIZES[name], plan.device
    data = batch(images, sizes, device)
    recorder = partial(Recorder, SITES)
    plain, fast = make(sizes, plan), compiled(make(sizes, plan), plan)
    sides = {
        "plain": our_step(plain, data),
        "recorded": our_step(plain, data, recorder),
        "compiled": our_step(fast, data),
        "compiled, recorded": our_step(fast, data, recorder),
    }
    steps = {side: under(HALF, device, step) for side, step in sides.items()}
    with FlopCounterMode(display=False) as counter:
        steps["plain"]()
    seconds = interleaved(steps, plan.repeats, warmup=3)
    rate = matmul_peak(device, HALF, plan.peak)
    rows = []
    for side in ("plain", "compiled"):
        share = counter.get_total_flops() / seconds[side] / rate
        speed = images * CAPTIONS / seconds[side]
        found = f"{share:.2f} of {rate / 1e12:.3g} TFLOP/s; {speed:,.0f} captions/s"
        rows.append((f"{name}, {images} images, {side} step", found, f">= {GOAL}"))
        ratio = seconds["recorded" if side == "plain" else "compiled, recorded"] / seconds[side]
        rows.append((f"{name}, the same with all cross-attention recorded", f"{ratio:.2f} x", ""))
    return rows


def compiled_maps(plan: Plan) -> Row:
    """Compare the maps of a compiled model with those of the model as it is written."""
    name, images = plan.models[0]
    sizes = SIZES[name]
    pixels, tokens, _ = batch(min(images, 4), sizes, plan.device)
    maps = []
    for compile_it in (False, True):
        model, recorder = make(sizes, plan).eval(), Recorder(SITES)
        with torch.no_grad():
            (compiled(model, plan) if compile_it else model)(pixels, tokens, recorder)
        maps.append(recorder.maps)
    worst = max(float((maps[0][site] - maps[1][site]).abs().max()) for site in maps[0])
    return ("maps of the compiled model against the plain one, float32", f"{worst:.1e}", "<= 1e-4")


def decoding(plan: Plan) -> list[Row]:
    """Measure ours and Hugging Face's decoding of the same weights."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        peer = decode.save_hugging_face(Path(scratch), plan.decoder).to(plan.device)
        bundle = read_captioner(Path(scratch))
    bundle.model.to(plan.device)
    for images, beams in plan.cells:
        image = decode.encoded(bundle.model, images)
        image = image._replace(tokens=image.tokens.to(plan.device))
        sides: dict[str, Callable[[], Any]] = {
            "ours": partial(decode.ours, bundle, image, beams),
            "recorded": partial(decode.ours, bundle, image, beams, partial(Recorder, SITES)),
            "theirs": partial(decode.theirs, peer, image, beams),
        }
        same = (sides["ours"]().tokens[:, 0] == sides["theirs"]()).all(-1).float().mean()
        times = interleaved(sides, plan.repeats, warmup=1)
        ms = times["ours"] * 1e3 / decode.TOKENS
        found = (
            f"{ms:.2f} ms/token; Hugging Face {times['theirs'] / times['ours']:.2f} x; recorded "
            f"{times['recorded'] / times['ours']:.2f} x; same captions {same:.0%}"
        )
        rows.append((f"decoding, {plan.decoder}, {images} images, {beams} beams", found, ""))
    return rows


def exact_resume(plan: Plan, folder: Path) -> Row:
    """Train, go on from the middle in a fresh task, and compare the weights to the last bit."""
    middle = folder / "middle.ckpt"
    whole = trained(plan, plan.steps, None, keep=(plan.steps // 2, middle))
    again = trained(plan, plan.steps, middle)
    fresh = trained(plan, plan.steps // 2, None)
    differences = {
        what: max(float((a - b).abs().max()) for a, b in zip(whole, other, strict=True))
        for what, other in (("resumed", again), ("half", fresh))
    }
    assert differences["half"] > 0  # or equal weights would say nothing
    what = f"exact resume after {plan.steps // 2} of {plan.steps} steps: largest difference"
    return (what, str(differences["resumed"]), "0.0")


class Keep(L.Callback):
    """Writes a checkpoint after some step."""

    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, False)


def trained(
    plan: Plan, steps: int, start: Path | None, keep: tuple[int, Path] | None = None
) -> list[torch.Tensor]:
    """Train the default run's model with dropout; return its weights."""
    task, data = run_of(plan)
    kind = "gpu" if plan.device == "cuda" else plan.device
    trainer = L.Trainer(
        accelerator=kind,
        devices=1,
        precision="bf16-mixed",
        max_steps=steps,
        max_epochs=-1,
        deterministic=True,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StepSeed(0), *([Keep(*keep)] if keep else [])],
    )
    trainer.fit(task, datamodule=data, ckpt_path=start, weights_only=True)
    torch.use_deterministic_algorithms(False)
    return [parameter.detach().cpu() for parameter in task.parameters()]


def run_of(plan: Plan) -> tuple[CaptioningTask, L.LightningDataModule]:
    """Return a fresh task of the default run, with dropout, and its data."""
    torch.manual_seed(0)
    schema.register()
    overrides = ["+model.text.block.dropout=0.1", "+model.text.block.attention_dropout=0.1"]
    if plan.steps == TINY.steps:
        overrides += ["data.source.fonts=[DejaVuSans,DejaVuSerif]", "data.loader.batch_size=4"]
        overrides += ["data.source.categories=[Lu]", "data.source.held_out_fonts=[DejaVuSans-Bold]"]
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", overrides)
    data = instantiate(config.data, _convert_="all")
    data.read()
    config.model.text.vocab_size = data.tokenizer.vocab_size
    model = instantiate(config.model, _convert_="all")
    optimizer = instantiate(config.optimizer, _convert_="all")
    task = CaptioningTask(model, data.tokenizer, optimizer, None, max_length=data.max_length)
    return task, data


def measured(plan: Plan) -> list[Row]:
    """Run everything; return the table's rows."""
    rows = [row for name, images in plan.models for row in utilisation(name, images, plan)]
    rows += [compiled_maps(plan), *decoding(plan)]
    with tempfile.TemporaryDirectory() as folder:
        return [*rows, exact_resume(plan, Path(folder))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: only that it runs")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU here: --device cpu --tiny shows that the script runs")
    plan = replace(TINY if arguments.tiny else FULL, device=arguments.device)
    where = torch.cuda.get_device_name() if plan.device == "cuda" else plan.device
    print(f"{where}, torch {torch.__version__}\n\n| what | measured | goal |\n|---|---|---|")
    for row in measured(plan):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
