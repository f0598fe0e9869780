"""Decoding equals Hugging Face's `generate`, which here runs our own model, one whole pass a token.

So it is the searches and rules that are compared, and no weights have to be carried over.
"""

import pytest
import torch
import transformers
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.decoded import Limits
from mmattn.decoding.options import DecodingOptions
from mmattn.decoding.sampling import Sampling
from mmattn.decoding.words import Words
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END, VOCABULARY, LONGEST = 0, 1, 12, 10
SAYS = [b"", b"", *(f" {letter}".encode() for letter in "abcdefghij")]
WORDS = Words(SAYS, lambda text: [[SAYS.index(b" " + w.encode()) for w in text.split()]])


class Foreign(transformers.PreTrainedModel, GenerationMixin):
    """Our captioner as a language model of Hugging Face's, with a picture a row."""

    config_class = transformers.PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, captioner: Captioner):
        config = transformers.PretrainedConfig(
            is_encoder_decoder=False, vocab_size=VOCABULARY, num_hidden_layers=1
        )
        super().__init__(config)
        self.captioner = captioner
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, images=None, **_):
        scores = self.captioner(images, input_ids[:, None])[:, 0]
        return CausalLMOutput(logits=scores)

    def prepare_inputs_for_generation(self, input_ids, images=None, **_):
        return {"input_ids": input_ids, "images": images}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=2)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block)
    text = TextTransformer(
        VOCABULARY, 16, 2, block, max_length=LONGEST, context_dim=16, tie_embeddings=False
    )
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 12, generator=torch.Generator().manual_seed(0))


CASES = {
    "greedy": ({}, {}),
    "greedy, penalty": ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
    "greedy, bigrams": ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
    "greedy, length": ({"min_length": 6}, {"min_new_tokens": 6}),
    "beams": ({"beams": 4, "returned": 4}, {"num_beams": 4, "num_return_sequences": 4}),
    "long": ({"beams": 3, "length_penalty": 2.0}, {"num_beams": 3, "length_penalty": 2.0}),
    "short": ({"beams": 3, "length_penalty": -1.0}, {"num_beams": 3, "length_penalty": -1.0}),
    "early": (
        {"beams": 3, "early_stopping": True, "returned": 2},
        {"num_beams": 3, "early_stopping": True, "num_return_sequences": 2},
    ),
    "beams and rules": (
        {"beams": 4, "no_repeat_ngram": 2, "repetition_penalty": 1.3, "min_length": 4},
        {"num_beams": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "min_new_tokens": 4},
    ),
    "forbidden": (
        {"beams": 4, "forbidden": ("c", "d e")},
        {"num_beams": 4, "bad_words_ids": [[4], [5, 6]]},
    ),
}


@torch.no_grad()
def generated(captioner: Captioner, images, begin: int, options) -> tuple[list, list]:
    """Return the captions of `generate`, and their scores where it searched with beams."""
    out = Foreign(captioner).generate(
        torch.full((len(images), 1), begin),
        images=images,
        max_new_tokens=LONGEST,
        do_sample=False,
        bos_token_id=begin,
        eos_token_id=END,
        pad_token_id=END,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    scores = getattr(out, "sequences_scores", None)
    return out.sequences[:, 1:].tolist(), [] if scores is None else scores.tolist()


def check(captioner, images, begin: int, case: str) -> list[list[int]]:
    """Compare with `generate`, and return the captions."""
    ours, theirs = CASES[case]
    limits = Limits(begin, END, LONGEST)
    method, rules = DecodingOptions(**ours).plan(WORDS, limits)
    with torch.no_grad():
        decoded = method(captioner, captioner.encode(images), limits, rules)
    expected, scores = generated(captioner, images, begin, theirs)
    found = decoded.tokens.flatten(0, 1).tolist()
    assert found == [caption[: len(found[0])] for caption in expected]
    if scores:
        assert decoded.scores.flatten().tolist() == pytest.approx(scores, rel=1e-5)
    return found


@pytest.mark.parametrize("case", CASES)
def test_captions_are_those_of_generate(captioner, images, case):
    found = check(captioner, images, BEGIN, case)
    assert len({tuple(caption) for caption in found}) > 1


@pytest.mark.parametrize("case", ["greedy, penalty", "beams", "beams and rules"])
def test_texts_that_begin_with_their_end_token_as_those_of_gpt2(captioner, images, case):
    found = check(captioner, images, END, case)
    assert len({tuple(caption) for caption in found}) > 1


def test_what_is_drawn_from_is_what_generate_draws_from():
    logits = torch.randn(200, 40, generator=torch.Generator().manual_seed(1)) * 3
    options = {"temperature": 1.4, "top_k": 20, "top_p": 0.8, "min_p": 0.06}
    warpers = [
        transformers.TemperatureLogitsWarper(options["temperature"]),
        transformers.TopKLogitsWarper(options["top_k"]),
        transformers.TopPLogitsWarper(options["top_p"]),
        transformers.MinPLogitsWarper(options["min_p"]),
    ]
    expected = logits
    for warper in warpers:
        expected = warper(None, expected)
        assert expected.isneginf().any() or warper is warpers[0]
    found = Sampling(**options).cut(logits / options["temperature"])
    assert torch.equal(found, expected)
