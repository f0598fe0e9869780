"""CoCa in our own blocks gives open_clip's outputs, captions and maps; the rest is refused."""

import copy
import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from open_clip.coca_model import CoCa
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mmattn import Recorder
from mmattn.batch import CaptionBatch
from mmattn.bundle import Bundle
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import forbid
from mmattn.errors import CheckpointError
from mmattn.interop.open_clip.coca import read_coca
from mmattn.maps.gradient_methods import AttentionGradient, Chefer, LeGrad
from mmattn.maps.methods import RawAttention, Rollout, ValueNorm

PAD = 0
# Words of two and three letters of a vocabulary of 512 + 34 + 2 tokens.
MERGES = [f"{a} {b}" for a in "stn" for b in "aeiou"] + [f"{a}a {b}</w>" for a in "s" for b in "nt"]
MERGES += [f"{a} {b}</w>" for a in "dfm" for b in "aeiou"] + ["sa ta", "i s</w>"]
SMALL = 512 + len(MERGES) + 2
WHOLE = 49408

CONFIGS: dict[str, dict[str, Any]] = {
    "like the published ones": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 12, "layers": 2, "width": 24, "head_width": 8}
        | {"patch_size": 4, "attentional_pool": True, "attn_pooler_heads": 4}
        | {"attn_pooler_queries": 7, "output_tokens": True},
        "text_cfg": {"context_length": 9, "vocab_size": SMALL, "width": 16, "heads": 4}
        | {"layers": 2, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 9, "vocab_size": SMALL, "width": 16, "heads": 4}
        | {"layers": 2, "attn_pooler_heads": 4},
        "custom_text": True,
    },
    "quick, scaled, wide": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": [8, 12], "layers": 1, "width": 24, "head_width": 12}
        | {"patch_size": 4, "attentional_pool": True, "attn_pooler_heads": 2}
        | {"output_tokens": True, "ls_init_value": 0.5, "no_ln_pre": True, "pool_type": "avg"}
        | {"patch_dropout": 0.3},
        "text_cfg": {"context_length": 11, "vocab_size": WHOLE, "width": 24, "heads": 2}
        | {"layers": 1, "embed_cls": True, "output_tokens": True, "ls_init_value": 0.7},
        "multimodal_cfg": {"context_length": 11, "width": 24, "heads": 2, "layers": 3}
        | {"ls_init_value": 0.3},
        "init_logit_bias": -10.0,
        "custom_text": True,
    },
    "other options": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 10, "layers": 3, "width": 20, "head_width": 4}
        | {"patch_size": 5, "attentional_pool": True, "attn_pooler_heads": 3}
        | {"attn_pooler_queries": 5, "output_tokens": True, "pool_type": "none"}
        | {"pos_embed_type": "sin_cos_2d", "qk_norm": True, "mlp_ratio": 2.59}
        | {"norm_kwargs": {"eps": 1e-2}, "act_kwargs": {"approximate": "tanh"}},
        "text_cfg": {"context_length": 9, "vocab_size": SMALL, "width": 12, "heads": 3}
        | {"layers": 1, "embed_cls": True, "output_tokens": True, "block_type": "custom"},
        "multimodal_cfg": {"context_length": 7, "width": 12, "heads": 3, "layers": 2}
        | {"mlp_ratio": 9, "n_queries": 99},
        "custom_text": True,
    },
}
SEEDS = {"like the published ones": 0, "quick, scaled, wide": 3, "other options": 0}
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "resize_mode": "squash"}


class Pair(NamedTuple):
    """open_clip's model, and what was read from its folder."""

    theirs: CoCa
    ours: Bundle


def make(name: str) -> CoCa:
    """Return a random model of which every parameter matters, and which ends a text at times."""
    torch.manual_seed(SEEDS[name])
    config = copy.deepcopy(CONFIGS[name])
    config.pop("custom_text")
    model = CoCa(**config)
    end = config["text_cfg"]["vocab_size"] - 1
    with torch.no_grad():
        nn.init.zeros_(model.text_decoder.text_projection)  # open_clip leaves it as it is found
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.text_decoder.text_projection[:, end] *= 2.5
    return model.eval()


def write_vocabulary(folder: Path) -> Path:
    path = folder / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["#version: small", *MERGES]).encode()))
    return path


def write(folder: Path, name: str, model: CoCa, *, pickled: bool = False) -> Path:
    """Write a folder as open_clip's push_to_hf_hub does, with the vocabulary if it is small."""
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": CONFIGS[name], "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    if pickled:
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    else:
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    if CONFIGS[name]["text_cfg"]["vocab_size"] == SMALL:
        write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory) -> Pair:
    model = make(request.param)
    folder = tmp_path_factory.mktemp("coca")
    return Pair(model, read_coca(write(folder, request.param, model)))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    name = "like the published ones"
    return write(tmp_path_factory.mktemp("original"), name, make(name))


@pytest.fixture(scope="module")
def published(original) -> Pair:
    return Pair(make("like the published ones"), read_coca(original))


@pytest.fixture
def folder(original, tmp_path) -> Path:
    """A folder that a test may change."""
    return shutil.copytree(original, tmp_path / "coca")


def images_of(pair: Pair, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *pair.ours.model.vision.image_size, generator=generator)


def texts_of(pair: Pair, length: int, count: int = 4) -> Tensor:
    """Texts without the id of padding, which means something else to open_clip."""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(1, pair.ours.model.text.vocab_size, (count, length), generator=generator)


@torch.no_grad()
def their_logits(model: CoCa, images: Tensor, texts: Tensor) -> Tensor:
    return model(images, texts, output_labels=False)["logits"]


@torch.no_grad()
def test_image_tokens_equal_open_clips(pair):
    images = images_of(pair)
    ours, theirs = pair.ours.model.encode(images), pair.theirs(images)["image_embs"]
    assert theirs.abs().mean() > 0.1
    torch.testing.assert_close(ours.tokens, theirs, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, None])
def test_logits_equal_open_clips(pair, length):
    length = length or pair.ours.max_length
    images, texts = images_of(pair), texts_of(pair, length)
    theirs = their_logits(pair.theirs, images, texts)
    ours = pair.ours.model(images, texts[:, None])[:, 0]
    assert theirs.std() > 0.3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


class Search:
    """Plain decoding of one image: open_clip's model over the whole text for every token.

    Ids of padding are left out, which open_clip masks inside a text.
    """

    def __init__(self, pair: Pair, image: Tensor, max_length: int):
        self.model, self.max_length = pair.theirs, max_length
        self.begin, self.end = pair.ours.tokenizer.begin_id, pair.ours.tokenizer.end_id
        with torch.no_grad():
            encoded = pair.theirs(image[None])
        self.latent, self.tokens = encoded["image_features"], encoded["image_embs"]

    @torch.no_grad()
    def log_probs(self, written: list[int]) -> Tensor:
        """Return the log-probabilities [V] of what follows, those of padding taken out."""
        text = torch.tensor([[self.begin, *written]])
        found = self.model(
            None, text, image_latent=self.latent, image_embs=self.tokens, output_labels=False
        )
        log_probs = found["logits"][0, -1].log_softmax(-1)
        log_probs[PAD] = -math.inf
        return log_probs

    def greedy(self) -> list[int]:
        written: list[int] = []
        while len(written) < self.max_length and self.end not in written:
            written.append(int(self.log_probs(written).argmax()))
        return written

    def beam_search(self, beams: int) -> list[tuple[float, list[int]]]:
        """Return the best finished captions with their ranks, best first: see `BeamSearch`."""
        running: list[tuple[float, list[int]]] = [(0.0, [])]
        finished: list[tuple[float, list[int]]] = []
        for length in range(1, self.max_length + 1):
            scores = torch.stack([score + self.log_probs(written) for score, written in running])
            best = scores.flatten().topk(2 * beams)
            candidates = [
                (float(score), [*running[place // scores.shape[1]][1], place % scores.shape[1]])
                for score, place in zip(best.values, best.indices.tolist(), strict=True)
            ]
            last = length == self.max_length
            ended = [c for c in candidates[:beams] if last or c[1][-1] == self.end]
            finished += [(score / length, written) for score, written in ended]
            finished = sorted(finished, key=lambda found: -found[0])[:beams]
            running = [c for c in candidates if c[1][-1] != self.end][:beams]
            if len(finished) == beams and running[0][0] / length <= finished[-1][0]:
                break
        return finished


def until_end(tokens: Tensor, end_id: int) -> list[int]:
    ids = tokens.tolist()
    return ids[: ids.index(end_id) + 1] if end_id in ids else ids


def without_padding(scores: Tensor, written: Tensor) -> Tensor:
    return forbid(scores, [PAD])


@torch.no_grad()
def captions(pair: Pair, method, images: Tensor):
    tokenizer, model = pair.ours.tokenizer, pair.ours.model
    limits = Limits(tokenizer.begin_id, tokenizer.end_id, pair.ours.max_length)
    decoded = method(model, model.encode(images), limits, [without_padding])
    return decoded, [
        [until_end(tokens, limits.end_id) for tokens in found] for found in decoded.tokens
    ]


def test_greedy_captions_equal_a_plain_loop_over_open_clips_model(pair):
    images = images_of(pair, 6)
    expected = [Search(pair, image, pair.ours.max_length).greedy() for image in images]
    _, found = captions(pair, Greedy(), images)
    assert [texts[0] for texts in found] == expected
    assert len({tuple(text) for text in expected}) > 2  # the images matter


def test_captions_of_four_beams_equal_a_plain_search_over_open_clips_model(pair):
    images = images_of(pair, 6)
    decoded, found = captions(pair, BeamSearch(beams=4, returned=4), images)
    lengths = set()
    for b, image in enumerate(images):
        expected = Search(pair, image, pair.ours.max_length).beam_search(4)
        assert found[b] == [written for _, written in expected]
        assert decoded.scores[b].tolist() == pytest.approx([s for s, _ in expected], abs=1e-4)
        lengths |= {len(written) for _, written in expected}
    assert len(lengths) > 1  # some ended by themselves


def test_a_caption_reads_as_open_clip_reads_it(pair, tmp_path):
    images, tokenizer = images_of(pair), pair.ours.tokenizer
    small = pair.ours.model.text.vocab_size == SMALL
    reference = SimpleTokenizer(str(write_vocabulary(tmp_path))) if small else SimpleTokenizer()
    _, found = captions(pair, Greedy(), images)
    for (ids,) in found:
        ours = ids[:-1] if ids[-1] == reference.eot_token_id else ids
        assert tokenizer.decode(ids) == reference.decode(ours).strip()
    assert tokenizer.special == (PAD, reference.sot_token_id, reference.eot_token_id)


class Calls:
    """What the attentions of a model were called with, and the weights that they then report."""

    def __init__(self, attentions: list[nn.MultiheadAttention]):
        self.weights: list[Tensor] = []
        self.hooks = [
            attention.register_forward_pre_hook(self.keep, with_kwargs=True)
            for attention in attentions
        ]

    def keep(self, attention: nn.MultiheadAttention, inputs, keywords) -> None:
        weights = type(attention).forward(
            attention,
            *inputs,
            attn_mask=keywords.get("attn_mask"),
            need_weights=True,
            average_attn_weights=False,
        )[1]
        assert weights is not None
        self.weights.append(weights)

    def __enter__(self) -> "Calls":
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


@torch.no_grad()
def test_cross_attention_maps_equal_open_clips(pair):
    images, texts = images_of(pair), texts_of(pair, pair.ours.max_length)
    with Calls([block.attn for block in pair.theirs.text_decoder.cross_attn]) as calls:
        their_logits(pair.theirs, images, texts)
    recorder = Recorder(["text.*.cross"])
    pair.ours.model(images, texts[:, None], recorder)
    assert len(recorder.maps) == len(calls.weights) > 1
    for maps, weights in zip(recorder.maps.values(), calls.weights, strict=True):
        assert weights.std() > 1e-3
        torch.testing.assert_close(maps, weights, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_poolers_maps_equal_open_clips(pair):
    images = images_of(pair)
    with Calls([pair.theirs.visual.attn_pool.attn]) as calls:
        pair.theirs(images)
    recorder = Recorder(["vision.pool"])
    pair.ours.model.encode(images, recorder)
    ours, theirs = recorder.maps["vision.pool"], calls.weights[0]
    left_out = theirs.shape[2] - ours.shape[2]  # the contrastive query, where there is one
    assert left_out == (0 if pair.theirs.visual.pool_type == "none" else 1)
    torch.testing.assert_close(ours, theirs[:, :, left_out:], atol=1e-5, rtol=0)


def batch_of(pair: Pair) -> CaptionBatch:
    images, tokens = images_of(pair), texts_of(pair, pair.ours.max_length)[:, None]
    labels, valid = tokens.roll(-1, -1), torch.ones_like(tokens, dtype=torch.bool)
    names = tuple(str(i) for i in range(len(images)))
    return CaptionBatch(names, images, tokens, labels, valid, (("",),) * len(images))


def test_raw_attention_follows_the_pooler_to_the_patches(pair):
    batch = batch_of(pair)
    attentions = [pair.theirs.visual.attn_pool.attn, pair.theirs.text_decoder.cross_attn[-1].attn]
    with Calls(attentions) as calls:
        their_logits(pair.theirs, batch.images, batch.tokens[:, 0])
    pooled, crossed = (weights.mean(1) for weights in calls.weights)
    pooled = pooled[:, pooled.shape[1] - crossed.shape[2] :, 1:]  # neither query nor class token
    maps = RawAttention()(pair.ours.model, batch)
    assert maps.shape[-2:] == pair.ours.model.vision.grid
    torch.testing.assert_close(maps[:, 0].flatten(-2), crossed @ pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Rollout(), "attention rollout, .* is defined for blocks with both attentions"),
        (Chefer(), "relevance .* is defined for blocks with both attentions"),
        (ValueNorm(), "pooled tokens, which are of no place"),
        (AttentionGradient(), "pooled tokens, which are of no place"),
        (LeGrad(), "pooled tokens, which are of no place"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_methods_that_cannot_follow_the_pooler_say_so(pair, method, said):
    # Of the "other options" the pooled tokens are as many as those of the image.
    with pytest.raises(ValueError, match=said):
        method(pair.ours.model, batch_of(pair))


@torch.no_grad()
def test_no_token_sees_the_class_token_and_the_decoder_not_the_contrastive_query(published):
    images, texts = images_of(published), texts_of(published, 9)
    before = published.theirs(images, texts, output_labels=False)
    changed = copy.deepcopy(published.theirs)
    changed.text.cls_emb[0].add_(1.0)
    changed.text.positional_embedding[-1, 1].add_(1.0)
    changed.visual.attn_pool.query[0, 0].add_(1.0)
    after = changed(images, texts, output_labels=False)
    assert torch.equal(after["logits"], before["logits"])
    for contrastive in ("image_features", "text_features"):
        assert (after[contrastive] - before[contrastive]).abs().max() > 1e-3


@torch.no_grad()
def test_an_id_of_padding_inside_a_text_matters_only_behind_it(published):
    images, texts = images_of(published), texts_of(published, 6)
    texts[:, 3] = PAD
    theirs = their_logits(published.theirs, images, texts)
    ours = published.ours.model(images, texts[:, None])[:, 0]
    torch.testing.assert_close(ours[:, :4], theirs[:, :4], atol=1e-4, rtol=0)
    assert (ours[:, 4:] - theirs[:, 4:]).abs().amax() > 1e-2


def picture(height: int, width: int) -> Image.Image:
    """Smooth and rough parts, so that a wrong filter shows."""
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    values[: height // 2] = np.linspace(0, 255, width)[None, :, None]
    return Image.fromarray(values.astype(np.uint8))


PREPROCESSINGS = [
    {"resize_mode": "shortest"},
    {"resize_mode": "squash", "interpolation": "bilinear"},
    {"resize_mode": "squash", "interpolation": "random", "mean": 0.4, "std": 0.3},
    {"interpolation": "bilinear", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "size": 99},
    {"interpolation": None, "resize_mode": None, "mean": None, "std": None},
    {},
]


@pytest.mark.parametrize("settings", PREPROCESSINGS, ids=str)
def test_preprocessing_equals_open_clips_to_one_grey_level(folder, settings):
    config = {"model_cfg": CONFIGS["like the published ones"], "preprocess_cfg": settings}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    ours = read_coca(folder).preprocessing
    # As open_clip's factory merges them: the network's size counts.
    merged = merge_preprocess_dict(PreprocessCfg(), {**settings, "size": (12, 12)})
    reference = image_transform_v2(PreprocessCfg(**merged), is_train=False)
    for size in ((40, 61), (53, 37), (7, 9), (12, 12), (200, 90)):
        image = picture(*size)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        difference = ours.transform()(pixels) - reference(image)
        grey = difference * torch.tensor(ours.std)[:, None, None] * 255
        assert grey.abs().max() < 1.01


def test_what_is_read_besides_the_model(published, pair):
    assert published.ours.max_length == 9
    assert published.ours.decoding == {"beams": 2, "min_length": 4, "max_length": 9}
    assert published.ours.preprocessing.mean == (0.4, 0.5, 0.6)
    assert published.ours.source.startswith("open_clip CoCa, original")
    assert not any(module.training for module in pair.ours.model.modules())
    texts, images = texts_of(pair, pair.ours.max_length), images_of(pair)
    assert pair.ours.model(images, texts[:, None]).shape[2] == pair.ours.max_length


# The section, the key and its value, and what is said of them.
REFUSED = [
    ("model_cfg", "surprise", 1, "'surprise' is 1; it must be left out: this version .* not know"),
    ("model_cfg", "vision_cfg", None, "has no 'vision_cfg'"),
    ("model_cfg", "multimodal_cfg", None, "has no 'multimodal_cfg': this is not a CoCa model"),
    ("model_cfg", "embed_dim", 24, "'width' is 16; it must be 24, the 'embed_dim'"),
    ("model_cfg", "embed_dim", "16", "'embed_dim' is '16'; it must be a whole number"),
    ("vision_cfg", "timm_model_name", "vit", "'timm_model_name' is 'vit'; .* do not express"),
    ("vision_cfg", "attentional_pool", "parallel", "'attentional_pool' is 'parallel'"),
    ("vision_cfg", "attentional_pool", "cascade", "other ways to pool are not supported"),
    ("vision_cfg", "attentional_pool", False, "'attentional_pool' is False; it must be true"),
    ("vision_cfg", "pool_type", "map", "'pool_type' is 'map'; it must be one of tok, avg, none"),
    ("vision_cfg", "layers", [1, 1, 1, 1], r"'layers' is \[1, 1, 1, 1\]; .* a whole number"),
    ("vision_cfg", "patch_size", [4, 2], "'patch_size' is .* must be square"),
    ("vision_cfg", "image_size", 13, "13x13 does not divide into patches of 4x4"),
    ("vision_cfg", "attn_pooler_heads", 3, "dim=16 does not divide by heads=3"),
    ("vision_cfg", "head_width", 25, "'head_width' is 25; it must be at most the width, 24"),
    ("multimodal_cfg", "gates", True, "'gates' is True; .* does not know it"),
    ("vision_cfg", "scale_fc", True, "'scale_fc' is True"),
    ("vision_cfg", "scaled_cosine_attn", True, "'scaled_cosine_attn' is True"),
    ("vision_cfg", "block_type", "other", "'block_type' is 'other'"),
    ("vision_cfg", "norm_kwargs", {"bias": 1}, "'bias' is 1; it must be left out"),
    ("vision_cfg", "act_kwargs", {"approximate": "x"}, "'approximate' is 'x'"),
    ("text_cfg", "hf_model_name", "roberta-base", "'hf_model_name' is 'roberta-base'"),
    ("text_cfg", "embed_cls", False, "'embed_cls' is False; it must be true"),
    ("text_cfg", "no_causal_mask", True, "'no_causal_mask' is True"),
    ("text_cfg", "qk_norm", True, "'qk_norm' is True"),
    ("text_cfg", "heads", 2, r"'heads' is 2; it must be that of the multimodal blocks \(4\)"),
    ("text_cfg", "width", 32, r"'width' is 32; it must be that of the multimodal blocks \(16\)"),
    ("text_cfg", "mlp_ratio", 2.0, r"'mlp_ratio' is 2.0; .* \(mlp_ratio 4.0\)"),
    ("text_cfg", "norm_kwargs", {"eps": 1e-6}, r"'norm_kwargs' is .* \(norm_eps 1e-05\)"),
    ("text_cfg", "act_kwargs", {"approximate": "tanh"}, r"'act_kwargs' .* \(activation gelu\)"),
    ("text_cfg", "ls_init_value", 0.1, r"'ls_init_value' is 0.1; .* \(layer_scale None\)"),
    ("text_cfg", "tokenizer_kwargs", {"clean": "canonicalize"}, "'tokenizer_kwargs' is"),
    ("preprocess_cfg", "resize_mode", "longest", "'longest'; it must be one of shortest, squash"),
    ("preprocess_cfg", "mode", "L", "'mode' is 'L'; it must be one of RGB"),
    ("preprocess_cfg", "interpolation", "nearest", "'interpolation' is 'nearest'"),
    (
        "preprocess_cfg",
        "mean",
        [0.1, 0.2],
        r"open_clip_config.json: preprocess_cfg: .* three numbers",
    ),
    ("preprocess_cfg", "std", [1, 1, "x"], "'std' is 'x'; it must be a number"),
]


def altered(section: str, key: str, value: Any) -> dict[str, Any]:
    name = "like the published ones"
    config = copy.deepcopy({"model_cfg": CONFIGS[name], "preprocess_cfg": PREPROCESS})
    place = config if section.endswith("ess_cfg") or section == "model_cfg" else config["model_cfg"]
    place[section][key] = value
    return config


@pytest.mark.parametrize(("section", "key", "value", "said"), REFUSED)
def test_what_our_blocks_do_not_express_is_refused_by_name(folder, section, key, value, said):
    config = altered(section, key, value)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        read_coca(folder)


def test_quick_gelu_takes_no_keywords_and_shortest_needs_a_square(folder):
    config = altered("vision_cfg", "act_kwargs", {"approximate": "tanh"})
    config["model_cfg"]["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="left out: quick_gelu takes none"):
        read_coca(folder)
    wide = write(folder / "wide", "quick, scaled, wide", make("quick, scaled, wide"))
    text = (wide / "open_clip_config.json").read_text().replace("squash", "shortest")
    (wide / "open_clip_config.json").write_text(text)
    with pytest.raises(CheckpointError, match="must be 'squash' for pictures of 8 x 12"):
        read_coca(wide)


def test_options_that_are_switched_off_change_nothing(folder):
    config = altered("vision_cfg", "from_a_later_version", False)
    config["model_cfg"]["text_cfg"] |= {"use_pad_mask": True, "correct_cls_mask": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert read_coca(folder).model.text.layout == ("self", "self", *("self", "cross") * 2)


@torch.no_grad()
def test_a_pickle_of_weights_gives_the_same_also_of_a_parallel_run(tmp_path, published):
    name = "like the published ones"
    folder = write(tmp_path / "coca", name, published.theirs, pickled=True)
    images, texts = images_of(published), texts_of(published, 5)[:, None]
    expected = published.ours.model(images, texts)
    assert torch.equal(read_coca(folder).model(images, texts), expected)
    state = {f"module.{name}": value for name, value in published.theirs.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, folder / "open_clip_pytorch_model.bin")
    assert torch.equal(read_coca(folder).model(images, texts), expected)


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_no_code_of_a_pickle_is_run(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": Malicious()}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot read these weights safely"):
        read_coca(folder)
    assert not (tmp_path / "ran").exists()


def changed_weights(folder: Path, change) -> None:
    state = make("like the published ones").state_dict()
    change(state)
    save_file(state, folder / "open_clip_model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("visual.attn_pool.query"), r"the weights lack visual\.attn_pool\.query$"),
        (lambda s: s.pop("visual.ln_post.bias"), r"the weights lack visual\.ln_post\.bias$"),
        (
            lambda s: s.pop("text_decoder.cross_attn.1.attn.in_proj_bias"),
            r"lack .*\.cross_attn\.1\.attn\.in_pr",
        ),
        (
            lambda s: s.update({"text.transformer.resblocks.2.ln_1.bias": torch.zeros(16)}),
            r"1 of .* no counterpart here: text\.transformer\.resblocks\.2\.ln_1\.bias$",
        ),
        (
            lambda s: s.update({"visual.attn_pool_contrastive.query": torch.zeros(1, 16)}),
            r"1 of .* no counterpart here: visual\.attn_pool_contrastive\.query$",
        ),
        (
            lambda s: s.update({"visual.attn_pool.query": torch.zeros(9, 16)}),
            r"visual\.attn_pool\.query is \(9, 16\), but by the configuration it is \(7, 16\)",
        ),
        (
            lambda s: s.update({"text.positional_embedding": torch.zeros(9, 16)}),
            r"text\.positional_embedding is \(9, 16\), but by .* it is \(10, 16\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, said):
    changed_weights(folder, change)
    with pytest.raises(CheckpointError, match=said):
        read_coca(folder)


def test_missing_and_damaged_files_are_named(folder):
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights; looked for open_clip_model\.safe"):
        read_coca(folder)
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json: cannot be read as JSON"):
        read_coca(folder)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no 'model_cfg'"):
        read_coca(folder)
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json: no such file"):
        read_coca(folder)


def test_a_vocabulary_of_another_model_is_refused(folder):
    (folder / "bpe_simple_vocab_16e6.txt.gz").unlink()  # the installed one takes its place
    with pytest.raises(CheckpointError, match=f"has {WHOLE} tokens, but the model {SMALL}"):
        read_coca(folder)
    (folder / "open_clip_config.json").write_text(
        json.dumps(altered("text_cfg", "hf_tokenizer_name", "somebody/else"))
    )
    with pytest.raises(CheckpointError, match=r"no vocabulary; put .* beside the weights$"):
        read_coca(folder)
