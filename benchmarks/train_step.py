"""A training step with 5 captions an image, against Hugging Face's VisionEncoderDecoderModel.

    uv run python benchmarks/train_step.py --model small
    uv run python benchmarks/train_step.py --model base --images 2
    uv run python benchmarks/train_step.py --model base --images 32 --device cuda --bf16

Both sides are a ViT encoder and a GPT-2-like decoder of the same sizes, in float32 (or both under
bfloat16 autocast, as Lightning's `bf16-mixed`) with fused attention ("sdpa" at Hugging Face),
trained on the same captions by the same AdamW, in one process, taking turns. Hugging Face gets each
image once per caption, as its own data collators do; `hf, encoder shared` is what a user can do by
hand: encode once and repeat the encoder's output.
"""

import argparse

import torch
from captioning_step import (
    CAPTIONS,
    IGNORE,
    SIZES,
    Sizes,
    batch,
    optimiser,
    our_model,
    our_step,
    under,
)
from timing import interleaved, matmul_peak
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)


def hf_model(s: Sizes) -> VisionEncoderDecoderModel:
    vision = ViTConfig(
        hidden_size=s.dim,
        num_hidden_layers=s.encoder,
        num_attention_heads=s.heads,
        intermediate_size=4 * s.dim,
        image_size=s.image,
        patch_size=s.patch,
        hidden_dropout_prob=0.0,
    )
    text = GPT2Config(
        vocab_size=s.vocabulary,
        n_positions=64,
        n_embd=s.dim,
        n_layer=s.decoder,
        n_head=s.heads,
        add_cross_attention=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = VisionEncoderDecoderModel(
        encoder=ViTModel(vision, add_pooling_layer=False), decoder=GPT2LMHeadModel(text)
    )
    for part in (model.encoder, model.decoder):
        assert part is not None
        assert part.config._attn_implementation == "sdpa"
    return model


def hf_step(model: VisionEncoderDecoderModel, data: tuple[Tensor, Tensor, Tensor], shared: bool):
    images, tokens, labels = data
    optimizer = optimiser(model)
    mask = (labels != IGNORE).long().flatten(0, 1)

    def step() -> None:
        given = {"pixel_values": images.repeat_interleave(CAPTIONS, 0)}
        if shared:
            assert model.encoder is not None
            encoded = model.encoder(images).last_hidden_state
            given = {"encoder_outputs": (encoded.repeat_interleave(CAPTIONS, 0),)}
        logits = model(
            **given, decoder_input_ids=tokens.flatten(0, 1), decoder_attention_mask=mask
        ).logits
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["small", "base"], default="small")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under bfloat16 autocast")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes, device = SIZES[arguments.model], arguments.device
    data = batch(arguments.images, sizes, device)
    ours, theirs = our_model(sizes).to(device).train(), hf_model(sizes).to(device).train()
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    step = under(dtype, device, our_step(ours, data))
    seconds = interleaved(
        {
            "mmattn": step,
            "hf": under(dtype, device, hf_step(theirs, data, shared=False)),
            "hf, encoder shared": under(dtype, device, hf_step(theirs, data, shared=True)),
        },
        arguments.repeats,
    )
    with FlopCounterMode(display=False) as counter:
        step()
    peak = matmul_peak(device, dtype, 2048 if device == "cpu" else 8192)
    share = counter.get_total_flops() / seconds["mmattn"] / peak
    captions = arguments.images * CAPTIONS
    where = f"{arguments.threads} threads" if device == "cpu" else torch.cuda.get_device_name()
    print(f"{sizes}, {dtype}, {arguments.images} images x {CAPTIONS} captions, {where}")
    for name, value in seconds.items():
        ratio = seconds[name] / seconds["mmattn"]
        print(f"{name:20} {captions / value:8.1f} captions/s   mmattn is {ratio:.2f} x as fast")
    print(f"mmattn reaches {share:.0%} of this machine's torch.mm peak (matrix products alone)")


if __name__ == "__main__":
    main()
