import pytest
import torch

from mmattn.batch import CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.maps.methods import RawAttention, layers_of
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block, registers=2)
    text = TextTransformer(11, 16, 3, block, max_length=8, context_dim=16)
    return Captioner(vision, text).eval()


@pytest.fixture
def batch() -> CaptionBatch:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 11, (2, 3, 5), generator=generator)
    return CaptionBatch(
        ("a", "b"),
        torch.randn(2, 3, 8, 12, generator=generator),
        tokens,
        tokens.roll(-1, -1),
        torch.ones_like(tokens, dtype=torch.bool),
        (("x",), ("y",)),
    )


@pytest.mark.parametrize(
    ("method", "layers", "heads"),
    [
        (RawAttention(), [2], [0, 1, 2, 3]),
        (RawAttention(None), [0, 1, 2], [0, 1, 2, 3]),
        (RawAttention([0, -1], [3]), [0, 2], [3]),
    ],
)
def test_raw_attention_is_the_mean_of_what_is_recorded(captioner, batch, method, layers, heads):
    recorder = Recorder(["text.*.cross"])
    image = captioner.encode(batch.images)
    captioner.decode(image, batch.tokens, recorder)
    weights = recorder.stack("text.*.cross")[layers][:, :, heads].mean((0, 2)).detach()
    maps = method(captioner, batch)
    assert maps.shape == (2, 3, 5, 2, 3)
    torch.testing.assert_close(maps.flatten(1, 2).flatten(2), weights[..., 2:])


def test_titles_say_what_is_drawn():
    assert RawAttention().title == "cross-attention, layer -1, mean over heads"
    assert RawAttention(None, [0, 2]).title == "cross-attention, all layers, head 0, 2"


def test_a_layer_that_does_not_exist_is_named(captioner, batch):
    with pytest.raises(ValueError, match="layer 3 does not exist: there are 3, numbered 0 to 2 or"):
        RawAttention([3])(captioner, batch)
    assert layers_of(3, [-1, 0]) == [2, 0]


def test_a_batch_takes_other_captions(batch):
    other = batch.with_captions([[4, 5, 1], [7]], begin_id=0)
    assert other.tokens.tolist() == [[[0, 4, 5]], [[0, 0, 0]]]
    assert other.labels.tolist() == [[[4, 5, 1]], [[7, -100, -100]]]
    assert other.valid.tolist() == [[[True, True, True]], [[True, False, False]]]
    assert batch.with_captions([[], []], begin_id=0).valid.sum() == 0
