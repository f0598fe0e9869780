"""What decoding costs beside its peers and its bound, same weights and same tokens.

    uv run python benchmarks/decode.py small        # width 192, 4 layers, against Hugging Face
    uv run python benchmarks/decode.py base         # GPT-2 base, against Hugging Face and the bound
    uv run python benchmarks/decode.py bf16         # GPT-2 base in bfloat16 against our float32
    uv run python benchmarks/decode.py agreement --run RUN    # captions of a trained model in both
    uv run python benchmarks/decode.py coca         # CoCa ViT-B/32 against open_clip's own loop
    uv run python benchmarks/decode.py folder PHOTOS   # files against pictures that are in memory

Every model but RUN has random weights. A decoder's cost is that of 20 tokens from encoded images
on, the projection of the image's keys and values included; the encoder is left out. Hugging Face's
`generate` and ours read the same folder. The bound of a token at batch 1 is the time to read every
weight of the decoder once, measured as their sum. Times are medians of interleaved runs.
"""

import argparse
import json
import operator
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timing import interleaved
from tokenizers import Tokenizer, models

import mmattn
from mmattn.batch import ImageTokens
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.cli.load_run import captioning_run, load_run
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.greedy import Greedy
from mmattn.interop.foreign_captioner import read_captioner
from mmattn.pipeline.pictures import pictures
from mmattn.pipeline.pipeline import Pipeline
from mmattn.recorder import Recorder
from mmattn.taps import Listener

TOKENS = 20
CELLS = ((1, 1), (8, 1), (1, 4), (8, 4))  # images, beams
# width, layers, heads, vocabulary
SIZES = {
    "tiny": (32, 1, 2, 300),
    "small": (192, 4, 6, 4000),
    "base": (768, 12, 12, 50257),
}


def save_hugging_face(folder: Path, size: str) -> Any:
    """Write a random ViT + GPT-2 in Hugging Face's layout; return their model of it."""
    import transformers

    transformers.logging.set_verbosity_error()
    width, layers, heads, words = SIZES[size]
    vision = transformers.ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    text = transformers.GPT2Config(
        vocab_size=words,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=words - 1,
        initializer_range=0.1,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = (
        0,
        words - 1,
        words - 1,
    )
    model = transformers.VisionEncoderDecoderModel(config).eval()
    # The end token scores 0 everywhere, so others are better: all captions have 20 tokens.
    model.get_parameter("decoder.transformer.wte.weight").data[words - 1] = 0
    for name in ("decoder_start_token_id", "pad_token_id", "eos_token_id"):
        setattr(model.generation_config, name, getattr(config, name))
    model.save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    save_tokenizer(folder, words)
    return model


def save_tokenizer(folder: Path, words: int) -> None:
    """Write a tokenizer of so many words; none is spoken here."""
    names = {f"w{i}": i for i in range(words)}
    Tokenizer(models.WordLevel(names, unk_token="w1")).save(str(folder / "tokenizer.json"))


def encoded(model: Captioner, images: int) -> ImageTokens:
    """Return random image tokens: what they are does not matter to the time."""
    width, (rows, columns) = model.vision.dim, model.vision.grid
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(images, model.vision.prefix + rows * columns, width, generator=generator)
    return ImageTokens(tokens, (rows, columns), model.vision.prefix)


def ours(
    bundle: Bundle, image: ImageTokens, beams: int, listener: Callable[[], Listener] | None = None
) -> Decoded:
    """Decode 20 tokens."""
    bundle.model.requires_grad_(False)  # as `mmattn.load` has it: packed weights are kept
    limits = Limits(bundle.tokenizer.begin_id, bundle.tokenizer.end_id, TOKENS)
    method = Greedy() if beams == 1 else BeamSearch(beams=beams)
    return method(bundle.model, image, limits, (), None if listener is None else listener())


def theirs(model: Any, image: ImageTokens, beams: int) -> torch.Tensor:
    """Do the same with Hugging Face's generate; return the tokens without the begin token."""
    from transformers.modeling_outputs import BaseModelOutput

    found = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=image.tokens.clone()),
        num_beams=beams,
        do_sample=False,
        max_new_tokens=TOKENS,
    )
    return found[:, 1:]


def against_hugging_face(size: str, repeats: int) -> None:
    """Print every cell, and at batch 1 the bound."""
    with tempfile.TemporaryDirectory() as scratch:
        peer = save_hugging_face(Path(scratch), size)
        bundle = read_captioner(Path(scratch))
    floor = interleaved({"read": partial(read_all, bundle.model)}, repeats)["read"] * 1e3
    print(f"{size}: reading all weights of the decoder once takes {floor:.2f} ms")
    for images, beams in CELLS:
        image = encoded(bundle.model, images)
        sides = {
            "ours": partial(ours, bundle, image, beams),
            "recorded": partial(ours, bundle, image, beams, partial(Recorder, ["text.*.cross"])),
            "theirs": partial(theirs, peer, image, beams),
        }
        same = (sides["ours"]().tokens[:, 0] == sides["theirs"]()).all(-1).float().mean()
        times = {k: v * 1e3 / TOKENS for k, v in interleaved(sides, repeats, warmup=1).items()}
        print(
            f"  {images} images, {beams} beams: ours {times['ours']:.2f} ms/token, Hugging Face "
            f"{times['theirs']:.2f} = {times['theirs'] / times['ours']:.2f} x; with all "
            f"cross-attention recorded {times['recorded'] / times['ours']:.3f} x; over the bound "
            f"{times['ours'] / floor:.2f} x; same captions {same:.0%}"
        )


def read_all(model: Captioner) -> None:
    """Read every weight that a token needs; not the embeddings, of which it needs one row."""
    text = model.text
    across = [text.blocks.get_submodule(f"{i}.cross_attention.to_kv") for i in text.cross_layers]
    unread = {text.embedding.weight, *(p for part in across for p in part.parameters())}
    if text.positions is not None:
        unread.update(text.positions.parameters())
    for parameter in {text.head_weight, *(p for p in text.parameters() if p not in unread)}:
        parameter.sum()


def half_precision(repeats: int) -> None:
    """Print bfloat16 beside float32."""
    with tempfile.TemporaryDirectory() as scratch:
        save_hugging_face(Path(scratch), "base")
        full, half = (read_captioner(Path(scratch)) for _ in range(2))
    half.model.to(torch.bfloat16)
    for size, beams in CELLS:
        image = encoded(full.model, size)
        rounded = image._replace(tokens=image.tokens.bfloat16())
        sides = {
            "float32": partial(ours, full, image, beams),
            "bfloat16": partial(ours, half, rounded, beams),
        }
        times = {k: v * 1e3 / TOKENS for k, v in interleaved(sides, repeats, warmup=1).items()}
        print(
            f"  {size} images, {beams} beams: float32 {times['float32']:.2f} ms/token, bfloat16 "
            f"{times['bfloat16']:.2f} = {times['float32'] / times['bfloat16']:.2f} x"
        )


def agreement(run: Path, images: int) -> None:
    """Print how many captions of a trained model's test images are the same in bfloat16."""
    data = captioning_run(load_run(run))[1]
    sides = [mmattn.load(run, dtype=dtype) for dtype in ("float32", "bfloat16")]
    for name, dataset in data.splits.test.items():
        count = min(images, len(dataset))
        pictures = [dataset.image(i) for i in range(count)]
        for beams in (1, 4):
            one, other = (
                [caption.text for caption in side.caption(pictures, beams=beams)] for side in sides
            )
            same = sum(map(operator.eq, one, other)) / count
            print(f"  {name}, {beams} beams: {same:.1%} of {count} captions are the same")


def against_open_clip(repeats: int) -> None:
    """Print CoCa: our decoding, and a loop over open_clip's forward pass, as its generate is."""
    import open_clip
    from safetensors.torch import save_model

    torch.manual_seed(0)
    peer: Any = open_clip.create_model("coca_ViT-B-32").eval()
    config = open_clip.get_model_config("coca_ViT-B-32")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        about = {"model_cfg": config, "preprocess_cfg": open_clip.get_model_preprocess_cfg(peer)}
        (folder / "open_clip_config.json").write_text(json.dumps(about, default=list))
        save_model(peer, str(folder / "open_clip_model.safetensors"))
        bundle = read_captioner(folder)
    for images in (1, 8):
        pixels = torch.randn(images, 3, 224, 224)
        with torch.no_grad():
            image, (latent, tokens) = bundle.model.encode(pixels), peer._encode_image(pixels)

        def loop(latent: Any = latent, tokens: Any = tokens, images: int = images) -> torch.Tensor:
            text = torch.full((images, 1), bundle.tokenizer.begin_id)
            for _ in range(TOKENS):
                found = peer(None, text, latent, tokens, output_labels=False)
                text = torch.cat([text, found["logits"][:, -1].argmax(-1, keepdim=True)], 1)
            return text[:, 1:]

        with torch.no_grad():
            sides = {"ours": partial(ours, bundle, image, 1), "theirs": loop}
            same = (sides["ours"]().tokens[:, 0] == loop()).all(-1).float().mean()
            times = {k: v * 1e3 / TOKENS for k, v in interleaved(sides, repeats, 1).items()}
        print(
            f"  {images} images, greedy: ours {times['ours']:.2f} ms/token, open_clip "
            f"{times['theirs']:.2f} = {times['theirs'] / times['ours']:.2f} x; same captions "
            f"{same:.0%}"
        )


def from_files(folder: Path, size: str, count: int, repeats: int, batch_size: int) -> None:
    """Print images/s from files beside the same pictures read and preprocessed beforehand."""
    with tempfile.TemporaryDirectory() as scratch:
        save_hugging_face(Path(scratch), size)
        pipeline = Pipeline(read_captioner(Path(scratch)))
    found = list(islice(pictures(folder), count))
    pixels = torch.stack([pipeline.transform(one.read()) for one in found])
    batches = pixels.split(batch_size)
    files = partial(pipeline.results, found, batch_size=batch_size, max_length=TOKENS, beams=1)

    @torch.no_grad()
    def in_memory() -> None:
        for part in batches:
            ours(pipeline.bundle, pipeline.model.encode(part), 1)

    sides = {"files": lambda: list(files()), "memory": in_memory}
    times = interleaved(sides, repeats, warmup=0)
    rates = {name: len(found) / seconds for name, seconds in times.items()}
    print(
        f"  {len(found)} photos, {size}, batches of {batch_size}, greedy: {rates['files']:.1f} "
        f"images/s from files, {rates['memory']:.1f} of the model alone: "
        f"{rates['files'] / rates['memory']:.2f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["small", "base", "bf16", "agreement", "coca", "folder"])
    parser.add_argument("photos", type=Path, nargs="?", help="folder: of images")
    parser.add_argument("--size", choices=SIZES, default="base", help="folder: of the model")
    parser.add_argument("--run", type=Path, help="agreement: a trained model's run directory")
    parser.add_argument("--images", type=int, default=1000, help="agreement: the most of a set")
    parser.add_argument("--count", type=int, default=1000, help="folder: how many photos")
    parser.add_argument("--batch-size", type=int, default=8, help="folder: of both sides")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    if arguments.what in SIZES:
        against_hugging_face(arguments.what, arguments.repeats)
    elif arguments.what == "bf16":
        half_precision(arguments.repeats)
    elif arguments.what == "agreement":
        if arguments.run is None:
            parser.error("agreement needs --run")
        agreement(arguments.run, arguments.images)
    elif arguments.what == "coca":
        against_open_clip(arguments.repeats)
    elif arguments.photos is None:
        parser.error("folder needs the folder of photos")
    else:
        from_files(
            arguments.photos,
            arguments.size,
            arguments.count,
            arguments.repeats,
            arguments.batch_size,
        )


if __name__ == "__main__":
    main()
