"""What every map method promises, and the methods that need a forward pass alone."""

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mmattn.backbones import TimmPatches
from mmattn.batch import IGNORE, CaptionBatch, ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.maps.gradient_methods import AttentionGradient, Chefer, LeGrad
from mmattn.maps.methods import RawAttention, Rollout, ValueNorm, evaluating, layers_of, on_grid
from mmattn.maps.rollout import decoder_rollout, rollout
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

METHODS = [
    RawAttention(),
    Rollout(),
    Rollout("max", layer=-1),
    ValueNorm(),
    ValueNorm(None, per_head=True),
    AttentionGradient(),
    AttentionGradient([0, -1], signed=True),
    LeGrad(),
    Chefer(at_once=4),
]
EACH = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title)
DROPOUT = {"dropout": 0.2, "attention_dropout": 0.2, "drop_path": 0.2}


def make_captioner(
    patches=None, depth=1, size=(8, 12), class_token=True, registers=2, **options
) -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(**{"heads": 4, "kv_heads": 2} | options)
    patches = patches or LinearPatches(4, 16)
    vision = VisionTransformer(
        size, patches, depth, block, class_token=class_token, registers=registers
    )
    text = TextTransformer(11, 16, 3, block, max_length=8, context_dim=16)
    return Captioner(vision, text).eval()


def make_batch(images=None, seed=0) -> CaptionBatch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 11, (2, 3, 5), generator=generator)
    labels = tokens.roll(-1, -1)
    labels[0, 1, 3:] = IGNORE
    labels[1, 2] = IGNORE
    if images is None:
        images = torch.randn(2, 3, 8, 12, generator=generator)
    return CaptionBatch(("a", "b"), images, tokens, labels, labels != IGNORE, (("x",), ("y",)))


@pytest.fixture
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture
def batch() -> CaptionBatch:
    return make_batch()


def part(batch: CaptionBatch, image: int, caption: int) -> CaptionBatch:
    """One caption of one image."""
    texts = {name: getattr(batch, name) for name in ("tokens", "labels", "valid")}
    cut = {name: text[image, caption][None, None] for name, text in texts.items()}
    return replace(
        batch,
        keys=(batch.keys[image],),
        references=(batch.references[image],),
        images=batch.images[image][None],
        **cut,
    )


def assert_same(found, expected):
    scale = max(1e-6, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=2e-5 * scale, rtol=0)


@EACH
def test_maps_have_the_patch_grid_and_zeros_without_a_label(method, captioner, batch):
    maps = method(captioner, batch)
    assert maps.shape == (2, 3, 5, 2, 3)
    assert not maps.requires_grad
    labelled = batch.labels != IGNORE
    assert bool(maps.isfinite().all())
    assert bool((maps.flatten(3).abs().amax(-1) > 0).eq(labelled).all())
    assert bool((maps < 0).any()) == method.signed


@EACH
def test_a_batch_is_its_captions_one_by_one(method, captioner, batch):
    together = method(captioner, batch)
    for image, caption in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        alone = method(captioner, part(batch, image, caption))
        assert_same(alone[0, 0], together[image, caption])


@EACH
def test_a_map_does_not_know_of_later_words(method, captioner, batch):
    tokens, labels = batch.tokens.clone(), batch.labels.clone()
    tokens[:, :, 3:] = (tokens[:, :, 3:] + 1) % 11
    labels[:, :, 3:] = IGNORE
    before, after = method(captioner, batch), replace(batch, tokens=tokens, labels=labels)
    assert_same(method(captioner, after)[:, :, :3], before[:, :, :3])


@EACH
def test_pictures_need_not_be_square_and_no_prefix_token_is_a_patch(method):
    model = make_captioner(LinearPatches(16, 16), size=(224, 384), heads=2, kv_heads=1)
    batch = make_batch(torch.randn(2, 3, 224, 384))
    short = replace(
        batch,
        tokens=batch.tokens[:, :1, :2],
        labels=batch.labels[:, :1, :2],
        valid=batch.valid[:, :1, :2],
    )
    assert method(model, short).shape == (2, 1, 2, 14, 24)


def test_a_row_is_laid_out_row_by_row_after_the_prefix_tokens():
    row = torch.arange(4 + 6.0).expand(2, 3, 10)
    image = ImageTokens(torch.zeros(2, 10, 8), (2, 3), 4)
    labels = torch.tensor([[[1, 2, 3]], [[1, IGNORE, 3]]])
    maps = on_grid(row, image, labels)
    assert maps[0, 0, 2].tolist() == [[4, 5, 6], [7, 8, 9]]
    assert maps[1, 0, 1].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert row[1, 1].tolist() == list(range(10))


@EACH
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_does_not_matter(method, mode, captioner, batch):
    expected = method(captioner, batch)
    with mode():
        grads = torch.is_grad_enabled()
        inside = replace(batch, images=batch.images.clone(), tokens=batch.tokens.clone())
        maps = method(captioner, inside)
        assert torch.is_grad_enabled() == grads
    assert torch.equal(maps, expected)


@EACH
def test_dropout_is_off_and_frozen_parts_are_seen_through(method, captioner, batch):
    expected = method(captioner, batch)
    training = make_captioner(**DROPOUT).train()
    assert_same(method(training, batch), expected)
    for frozen in (captioner.vision, captioner.text):
        frozen.requires_grad_(False)
        assert_same(method(captioner, batch), expected)


def state(model):
    """All that a method could leave behind."""
    modules, parameters = list(model.modules()), list(model.parameters())
    return (
        [module.training for module in modules],
        [sorted(vars(module)) for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [module.forward for module in modules],
        [parameter.requires_grad for parameter in parameters],
        [parameter.grad for parameter in parameters],
        [(name, tensor.tolist()) for name, tensor in model.state_dict().items()],
    )


@EACH
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_batch_are_left_as_they_were(method, fails, batch):
    model = make_captioner(**DROPOUT).train()
    model.vision.blocks[0].eval()
    model.text.blocks[1].requires_grad_(False)
    model.text.embedding.weight.grad = grad = torch.ones_like(model.text.embedding.weight)
    before, images, labels = state(model), batch.images.clone(), batch.labels.clone()
    if fails:
        model.text.norm.forward = raise_error
        before = state(model)
        with pytest.raises(RuntimeError, match="out of luck"):
            method(model, batch)
    else:
        method(model, batch)
    after = state(model)
    for was, now in zip(before, after, strict=True):
        assert was == now
    assert model.text.embedding.weight.grad is grad
    assert bool((grad == 1).all())
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)
    assert not batch.images.requires_grad


def raise_error(x):
    raise RuntimeError("out of luck")


@EACH
def test_an_encoder_may_have_no_layers(method, batch):
    maps = method(make_captioner(depth=0), batch)
    assert maps.shape == (2, 3, 5, 2, 3)
    assert maps.abs().sum() > 0


@EACH
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_kept_features_of_a_frozen_backbone_give_the_maps_of_the_pixels(method, mode):
    patches = TimmPatches("test_resnet", 16, (32, 64), frozen=True)
    model = make_captioner(patches, size=(32, 64))
    batch = make_batch(torch.randn(2, 3, 32, 64))
    expected = method(model, batch)
    with mode():
        cached = replace(batch, images=patches.features(batch.images), cached=True)
        assert_same(method(model, cached), expected)


@EACH
def test_a_configuration_can_name_a_method_and_its_plain_settings(method):
    kind = type(method)
    settings = {name: getattr(method, name) for name in method.__dataclass_fields__}
    config = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **settings}
    built = instantiate(OmegaConf.create(config), _convert_="all")
    assert built.title == method.title
    assert built.signed == method.signed


@pytest.mark.parametrize(
    "method",
    [RawAttention([3]), Rollout(layer=3), ValueNorm([3]), AttentionGradient([3]), LeGrad([3])],
)
def test_a_layer_that_does_not_exist_is_named(method, captioner, batch):
    with pytest.raises(ValueError, match="layer 3 does not exist: there are 3, numbered 0 to 2 or"):
        method(captioner, batch)
    assert layers_of(3, [-1, 0]) == [2, 0]


def test_titles_say_what_is_drawn():
    assert [method.title for method in METHODS] == [
        "cross-attention, layer -1, mean over heads",
        "attention rollout, all layers, mean over heads",
        "attention rollout, layer -1, max over heads",
        "value-weighted norm, layer -1, sum over heads",
        "value-weighted norm, all layers, mean over heads",
        "attention × gradient, layer -1, mean over heads",
        "attention × gradient, signed, layer 0, -1, mean over heads",
        "LeGrad, all layers",
        "relevance (Chefer et al. 2021), all layers",
    ]
    assert RawAttention(None, [0, 2]).title == "cross-attention, all layers, head 0, 2"


def test_each_module_gets_its_own_mode_back(captioner):
    captioner.train()
    captioner.vision.blocks.eval()
    modes = [module.training for module in captioner.modules()]
    with evaluating(captioner):
        assert not any(module.training for module in captioner.modules())
    assert [module.training for module in captioner.modules()] == modes


@EACH
def test_autocast_rounds_the_model_and_not_the_maps(method, captioner, batch):
    expected = method(captioner, batch)
    with torch.autocast("cpu", torch.bfloat16):
        maps = method(captioner, batch)
    assert maps.dtype == torch.float32
    assert float((maps - expected).norm() / expected.norm()) < 0.05


def test_rollouts_rows_sum_to_one_under_autocast(batch):
    model = make_captioner(class_token=False, registers=0)
    with torch.autocast("cpu", torch.bfloat16):
        sums = Rollout(layer=-1)(model, batch)[batch.valid].sum((1, 2))
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)


def recorded(model, batch):
    """All maps of a pass, and the encoded image."""
    recorder = Recorder(["*"])
    image = model.encode(batch.images, recorder)
    model.decode(image, batch.tokens, recorder)
    return recorder, image


def patches_of(rows, image, batch):
    """Rows [B, N·T, P + S] without prefix tokens and padding, as [R, S]."""
    return rows[..., image.prefix :].reshape(*batch.labels.shape, -1)[batch.valid]


@pytest.mark.parametrize(
    ("method", "layers", "heads"),
    [
        (RawAttention(), [2], [0, 1, 2, 3]),
        (RawAttention(None), [0, 1, 2], [0, 1, 2, 3]),
        (RawAttention([0, -1], [3]), [0, 2], [3]),
    ],
)
def test_raw_attention_is_the_mean_of_what_is_recorded(captioner, batch, method, layers, heads):
    recorder, image = recorded(captioner, batch)
    weights = recorder.stack("text.*.cross")[layers][:, :, heads].mean((0, 2))
    maps = method(captioner, batch)[batch.valid].flatten(1)
    torch.testing.assert_close(maps, patches_of(weights, image, batch))


def test_rollout_of_one_layer_goes_on_into_the_encoder(batch):
    model = make_captioner(depth=2)
    recorder, image = recorded(model, batch)
    encoder = rollout(list(recorder.stack("vision.*.self").mean(2)))
    expected = recorder.maps["text.1.cross"].mean(1) @ encoder
    maps = Rollout(layer=1)(model, batch)[batch.valid].flatten(1)
    torch.testing.assert_close(maps, patches_of(expected, image, batch))


def test_rollout_of_all_layers_follows_the_words_too(batch):
    model = make_captioner(depth=2)
    recorder, image = recorded(model, batch)
    encoder = rollout(list(recorder.stack("vision.*.self").amin(2)))
    selves = recorder.stack("text.*.self").amin(2).unflatten(1, (2, 3))
    crosses = recorder.stack("text.*.cross").amin(2).unflatten(2, (3, 5))
    maps = Rollout("min")(model, batch)
    for b, n in [(0, 0), (1, 1)]:
        layers = [(selves[i, b, n][None], crosses[i, b, n][None] @ encoder[b]) for i in range(3)]
        expected = decoder_rollout(layers)[1][..., image.prefix :]
        torch.testing.assert_close(maps[b, n].flatten(1)[None], expected)


def test_value_norms_are_means_over_layers(captioner, batch):
    each = torch.stack([ValueNorm([layer])(captioner, batch) for layer in range(3)])
    torch.testing.assert_close(ValueNorm(None)(captioner, batch), each.mean(0))


def test_a_batch_takes_other_captions(batch):
    other = batch.with_captions([[4, 5, 1], [7]], begin_id=0)
    assert other.tokens.tolist() == [[[0, 4, 5]], [[0, 0, 0]]]
    assert other.labels.tolist() == [[[4, 5, 1]], [[7, -100, -100]]]
    assert other.valid.tolist() == [[[True, True, True]], [[True, False, False]]]
    assert batch.with_captions([[], []], begin_id=0).valid.sum() == 0
