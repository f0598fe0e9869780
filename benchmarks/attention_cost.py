"""What looking at attention costs while training.

    uv run python benchmarks/attention_cost.py

Three figures, on the model of the default run and on a 6 + 4-layer model at 224 px: a step that
records the cross-attention rows of every layer over a plain step; drawing and writing the probe set
every 100 steps over no logging; and whether the outputs agree to the last bit.
"""

import argparse
import tempfile

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from timing import interleaved
from torch.nn import functional as F

from mmattn.batch import CaptionBatch
from mmattn.cli import schema
from mmattn.data.module import CaptionDataModule
from mmattn.recorder import Recorder
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.attention_logging import AttentionLogging

VARIANTS = {
    "default run, 32 px": [],
    "6 + 4 layers, width 192, 224 px": [
        "data.image_size=[224,224]",
        "data.loader.batch_size=16",
        "~model.vision.patches",
        "+model.vision.patches={_target_:mmattn.patches.LinearPatches,patch_size:16,dim:192}",
        "model.vision.depth=6",
        "model.text.depth=4",
        "model.text.dim=192",
        "model.text.context_dim=192",
    ],
}


class OneStep:
    """What the callback asks of a trainer, without the rest of one."""

    def __init__(self, data: CaptionDataModule):
        self.datamodule, self.loggers, self.global_step = data, [], 0
        self.sanity_checking, self.is_global_zero = False, True


def build(overrides: list[str]) -> tuple[CaptioningTask, CaptionDataModule]:
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", overrides)
    data = instantiate(config.data, _convert_="all")
    data.read()
    config.model.text.vocab_size = data.tokenizer.vocab_size
    model = instantiate(config.model, _convert_="all")
    optimizer = instantiate(config.optimizer, _convert_="all")
    return CaptioningTask(model, data.tokenizer, optimizer, None, max_length=data.max_length), data


def step(task: CaptioningTask, batch: CaptionBatch, optimizer, recording: bool) -> torch.Tensor:
    recorder = Recorder(["text.*.cross"]) if recording else None
    hidden = task.model.decode(task.encode(batch), batch.tokens, recorder)
    logits = task.model.logits(hidden[batch.valid])
    F.cross_entropy(logits, batch.labels[batch.valid]).backward()
    optimizer.step()
    optimizer.zero_grad()
    return logits.detach()


def drawing_seconds(task: CaptioningTask, data: CaptionDataModule, repeats: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        callback, trainer = AttentionLogging(folder), OneStep(data)
        run = {"draw": lambda: callback.on_validation_end(trainer, task)}  # type: ignore[arg-type]
        return interleaved(run, repeats)["draw"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, overrides in VARIANTS.items():
        torch.manual_seed(0)
        task, data = build(overrides)
        batch = next(iter(data.train_dataloader()))
        optimizer = torch.optim.AdamW(task.parameters(), lr=0.0, fused=True)
        seconds = interleaved(
            {
                "plain": lambda t=task, b=batch, o=optimizer: step(t, b, o, False),
                "recording": lambda t=task, b=batch, o=optimizer: step(t, b, o, True),
            },
            arguments.repeats,
        )
        same = torch.equal(step(task, batch, optimizer, False), step(task, batch, optimizer, True))
        drawing = drawing_seconds(task, data, 3)
        share = drawing / (100 * seconds["plain"])
        print(f"{name}: batch of {len(batch.keys)}, {arguments.threads} threads")
        print(f"  plain step {1000 * seconds['plain']:.1f} ms")
        print(f"  recording  {seconds['recording'] / seconds['plain']:.3f} x a plain step")
        print(f"  drawing    {drawing:.2f} s; every 100 steps {share:+.2%}")
        print(f"  outputs with and without recording: {'bit-identical' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
