"""What looking at attention costs: while training, beside one kernel, and beside Hugging Face.

    uv run python benchmarks/attention_cost.py
    uv run python benchmarks/attention_cost.py training --run logs/caption/runs/<time>
    uv run python benchmarks/attention_cost.py peer --device cuda --images 32

`training`, on the model of the default run and on a 6 + 4-layer model at 224 px: over a plain
step, one that records the cross-attention rows of every layer, and one that measures the statistics
of every layer and head; drawing and writing the probe set every 100 steps over no logging; and
whether the outputs agree to the last bit. With `--run` on the model of that run: its captions are
as long as captions are, those of an untrained model as long as can be. `kernel`: one row of 577
tokens over the attention itself. `peer`: Hugging Face's ViT with `output_attentions=True`, which
needs its eager attention, and ours with the same weights. Memory is what torch's allocator was
asked for, beyond weights and inputs.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from capture import image_attention, memory_use
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from timing import interleaved
from torch import Tensor
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from mmattn import BlockOptions, Captioner, Recorder, StatisticsRecorder, VisionTransformer
from mmattn.batch import CaptionBatch
from mmattn.cli import schema
from mmattn.cli.load_run import captioning_run, load_run
from mmattn.data.module import CaptionDataModule
from mmattn.patches import LinearPatches
from mmattn.recorder import MB
from mmattn.taps import Listener
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.allocator import keep_freed_memory
from mmattn.training.pictures.attention_logger import AttentionLogger

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


def step(
    task: CaptioningTask, batch: CaptionBatch, optimizer, listener: Listener | None = None
) -> Tensor:
    image = task.model.encode_batch(batch, listener)
    hidden = task.model.decode(image, batch.tokens, listener)
    logits = task.model.logits(hidden[batch.valid])
    F.cross_entropy(logits, batch.labels[batch.valid]).backward()
    optimizer.step()
    optimizer.zero_grad()
    return logits.detach()


def rows(model: Captioner, batch: CaptionBatch) -> Recorder:
    return Recorder(["text.*.cross"])


def statistics(model: Captioner, batch: CaptionBatch) -> StatisticsRecorder:
    recorder = StatisticsRecorder(grid=model.vision.grid, prefix=model.vision.prefix)
    recorder.valid = batch.valid
    return recorder


def drawing_seconds(task: CaptioningTask, data: CaptionDataModule, repeats: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        callback, trainer = AttentionLogger(folder), OneStep(data)
        callback.setup(trainer, task, "fit")  # type: ignore[arg-type]

        def draw() -> None:
            trainer.global_step += 1  # a step is drawn once
            callback.on_validation_epoch_end(trainer, task)  # type: ignore[arg-type]

        return interleaved({"draw": draw}, repeats)["draw"]


def models(run: str | None) -> Iterator[tuple[str, CaptioningTask, CaptionDataModule]]:
    """Yield the model of a run, or those of `VARIANTS`, untrained."""
    if run is not None:
        found = load_run(run)
        task, data = captioning_run(found)
        yield found.folder.name, task.train(), data
        return
    for name, overrides in VARIANTS.items():
        torch.manual_seed(0)
        yield name, *build(overrides)


def training(device: str, repeats: int, run_folder: str | None) -> None:
    for name, task, data in models(run_folder):
        task.to(device)
        batch = next(iter(data.train_dataloader())).to(device)
        optimizer = torch.optim.AdamW(task.parameters(), lr=0.0, fused=True)

        def run(make=None, task=task, batch=batch, optimizer=optimizer) -> Tensor:
            return step(task, batch, optimizer, make and make(task.model, batch))

        sides = {"plain": None, "recording": rows, "statistics": statistics}
        runs = {side: lambda m=make, r=run: r(m) for side, make in sides.items()}
        seconds = interleaved(runs, repeats)
        memory = {side: memory_use(run, device)[0] / MB for side, run in runs.items()}
        drawing = drawing_seconds(task, data, repeats)
        plain = seconds["plain"]
        print(f"{name}: batch of {len(batch.keys)}, {torch.get_num_threads()} threads, {device}")
        print(f"  plain step {1000 * plain:.1f} ms, {memory['plain']:.1f} MB")
        for side in ("recording", "statistics"):
            more = memory[side] - memory["plain"]
            print(f"  {side:10} {seconds[side] / plain:.3f} x a plain step, {more:+.1f} MB")
        print(
            f"  drawing    {1000 * drawing:.0f} ms; every 100 steps {drawing / (100 * plain):+.2%}"
        )
        same = [torch.equal(run(), run(make)) for make in (rows, statistics)]
        print(f"  outputs with and without both: {'bit-identical' if all(same) else 'DIFFERENT'}")


@torch.no_grad()
def kernel(device: str, repeats: int) -> None:
    call = image_attention(4, 12, 24, 64, device=device)

    def plain() -> None:
        F.scaled_dot_product_attention(call.q, call.k, call.v)

    def recorded(listener: Listener) -> None:
        plain()
        listener.take("vision.0.self", call)

    seconds = interleaved(
        {
            "attention": plain,
            "class token's row": lambda: recorded(Recorder("*", rows=[0])),
            "statistics": lambda: recorded(StatisticsRecorder(grid=(24, 24), prefix=1)),
            "every row": lambda: recorded(Recorder("*")),
        },
        repeats,
    )
    print(f"attention of 4 images, 577 tokens, 12 heads: {1000 * seconds['attention']:.1f} ms")
    for side, value in list(seconds.items())[1:]:
        print(f"  and {side:18} {value / seconds['attention']:.3f} x")


def hf_model(side: int, dim: int, heads: int, depth: int, attention: str) -> Any:
    config = ViTConfig(
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        image_size=16 * side,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ViTModel._from_config(config, attn_implementation=attention, add_pooling_layer=False)
    assert model.config._attn_implementation == attention
    return model


def peers(side: int, dim: int, heads: int, depth: int) -> tuple[Any, Any, VisionTransformer]:
    """Return Hugging Face's ViT with fused and with eager attention, and ours: equal weights."""
    fused, eager = (hf_model(side, dim, heads, depth, how) for how in ("sdpa", "eager"))
    eager.load_state_dict(fused.state_dict())
    size, block = (16 * side, 16 * side), BlockOptions(heads=heads)
    ours = VisionTransformer(size, LinearPatches(16, dim), depth, block, class_token=True)
    ours.load_state_dict(our_weights(fused.state_dict(), depth))
    return fused, eager, ours


def our_weights(theirs: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return the weights of Hugging Face's ViT under our names."""
    table = theirs["embeddings.position_embeddings"][0]
    ours = {
        "prefix_tokens": theirs["embeddings.cls_token"][0] + table[:1],
        "position_table": table[1:],
    }
    names = {"layernorm": "norm", "embeddings.patch_embeddings.projection": "patches.project"}
    for i in range(depth):
        names |= {
            f"layers.{i}.{old}": f"blocks.{i}.{new}"
            for old, new in {
                "attention.q_proj": "self_attention.to_q",
                "attention.o_proj": "self_attention.to_out",
                "layernorm_before": "self_norm",
                "layernorm_after": "mlp_norm",
                "mlp.fc1": "mlp.up",
                "mlp.fc2": "mlp.down",
            }.items()
        }
    for part in ("weight", "bias"):
        ours |= {f"{new}.{part}": theirs[f"{old}.{part}"] for old, new in names.items()}
        for i in range(depth):
            k, v = (theirs[f"layers.{i}.attention.{name}_proj.{part}"] for name in "kv")
            ours[f"blocks.{i}.self_attention.to_kv.{part}"] = torch.cat([k, v])
    return ours


def peer(device: str, repeats: int, images: int) -> None:
    side, dim, heads, depth = 24, 384, 6, 12
    torch.manual_seed(0)
    fused, eager, ours = (m.to(device).eval() for m in peers(side, dim, heads, depth))
    pixels = torch.randn(images, 3, 16 * side, 16 * side, device=device)

    def listened(make: Callable[[], Listener]) -> Callable[[], Tensor]:
        return lambda: ours(pixels, make()).tokens

    def with_attentions() -> Tensor:
        out = eager(pixels, output_attentions=True)
        assert len(out.attentions) == depth
        return out.last_hidden_state

    sides: dict[str, Callable[[], Tensor]] = {
        "hf, fused, no maps": lambda: fused(pixels).last_hidden_state,
        "hf, eager, every map": with_attentions,
        "mmattn, no maps": lambda: ours(pixels).tokens,
        "mmattn, class token's rows": listened(lambda: Recorder("*", rows=[0])),
        "mmattn, statistics": listened(
            lambda: StatisticsRecorder("*", grid=(side, side), prefix=1)
        ),
        "mmattn, every map": listened(lambda: Recorder("*")),
    }
    with torch.no_grad():
        recorder = Recorder("*")
        tokens, theirs = ours(pixels, recorder).tokens, eager(pixels, output_attentions=True)
        maps = zip(recorder.maps.values(), theirs.attentions, strict=True)
        apart = max(float((a - b).abs().max()) for a, b in maps)
        output = float((tokens - theirs.last_hidden_state).abs().max())
        del maps, tokens, theirs, recorder
    print(f"ViT-S/16, {images} images of {16 * side} px, {device}: the same weights as hf's;")
    print(f"  largest difference of an output {output:.1e}, of a weight {apart:.1e}")
    for what in ("forward", "forward and backward"):
        backward = what != "forward"
        runs = {name: passes(run, backward) for name, run in sides.items()}
        seconds = interleaved(runs, repeats)
        print(f"  {what}")
        for name, run in runs.items():
            most, _ = memory_use(run, device)
            times = seconds[name] / seconds["mmattn, no maps"]
            print(f"    {name:28}{1000 * seconds[name]:8.0f} ms {times:6.2f} x{most / MB:8.1f} MB")


def passes(run: Callable[[], Tensor], backward: bool) -> Callable[[], None]:
    """Return a forward pass, with or without a backward pass whose gradients are dropped."""

    def both() -> None:
        with torch.set_grad_enabled(backward):
            out = run()
            if backward:
                out.square().mean().backward()

    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["training", "kernel", "peer"]
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="|".join(parts))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--images", type=int, default=2, help="of the peer's batch")
    parser.add_argument("--run", help="measure training on this run's model")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a run does
    wanted = arguments.parts or parts
    if "training" in wanted:
        training(arguments.device, arguments.repeats, arguments.run)
    if "kernel" in wanted:
        kernel(arguments.device, arguments.repeats)
    if "peer" in wanted:
        peer(arguments.device, arguments.repeats, arguments.images)


if __name__ == "__main__":
    main()
