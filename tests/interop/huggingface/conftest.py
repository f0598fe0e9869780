"""Hugging Face folders of small random models, made by transformers itself."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["a", "dog", "cat", "man", "runs", "sits", "over", "the", "on", "grass", "mat"]
SPECIAL = {"pad": 0, "begin": 1, "end": 2}  # then the words
VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 16,
}
GPT2 = {"n_positions": 24, "n_embd": 24, "n_layer": 2, "n_head": 2}


def word_tokenizer() -> Tokenizer:
    """A tokenizer of few whole words, so that random captions end early now and then."""
    tokens = [f"<|{name}|>" for name in SPECIAL] + WORDS
    vocab = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([f"<|{name}|>" for name in SPECIAL])
    return backend


@pytest.fixture(scope="session")
def vision_encoder_decoder():
    """Make a random `VisionEncoderDecoderModel`, save it to a folder, return it.

    encoder, decoder: what differs from VIT and GPT2. top: settings of the model as a whole.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    def make(folder, encoder=(), decoder=(), *, kind="vit", top=(), seed=0):
        kinds = {"vit": transformers.ViTConfig, "deit": transformers.DeiTConfig}
        tokenizer = word_tokenizer()
        encoder_config = kinds[kind](**{**VIT, **dict(encoder)})
        decoder_config = transformers.GPT2Config(
            vocab_size=tokenizer.get_vocab_size(), **{**GPT2, **dict(decoder)}
        )
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            encoder_config, decoder_config, **dict(top)
        )
        torch.manual_seed(seed)
        model = transformers.VisionEncoderDecoderModel(config=config).eval()
        disturb(model)
        chosen = model.generation_config
        chosen.decoder_start_token_id = chosen.bos_token_id = SPECIAL["begin"]
        chosen.eos_token_id, chosen.pad_token_id = SPECIAL["end"], SPECIAL["pad"]
        model.save_pretrained(folder)
        size = encoder_config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        processor = transformers.ViTImageProcessor(size={"height": height, "width": width})
        processor.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        model.set_attn_implementation("eager")
        return model

    return make


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Give every parameter a value that matters: biases, norms, tokens and positions too."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.25)
