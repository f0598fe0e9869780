"""A joint model's folder: what is read is what was written, wherever a captioner is wanted, too."""

import pytest
import torch
from huggingface_hub import ModelCard

from mmattn.blocks import BlockOptions
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError
from mmattn.fusion import CoFusion
from mmattn.joint import JointModel
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.source import captioner_of

KINDS = {
    "with a fusion": {},
    "without": {"fusion": False, "temperature": 0.5, "embed_dim": 5, "bias": -3.0},
}
MISSING = ...  # see `set_at`


@pytest.fixture
def folder(make_joint, tmp_path):
    return write_folder(make_joint(), tmp_path / "model")


@torch.no_grad()
def computed(bundle):
    """What every part of a joint model makes of an image and a text."""
    model, text = bundle.model, bundle.tokenizer.encode("a dog runs")
    pixels = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[bundle.tokenizer.begin_id, *text]] * 2)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    image, hidden = model.vision(pixels), model.read(tokens, valid)
    found = [model(pixels, tokens[:, None]), model.image_embeddings(image)]
    found += [model.text_embeddings(hidden, valid), model.scale]
    if model.fusion is not None:
        found.append(model.match(image, torch.arange(2), hidden, valid))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_joint_model_comes_back_bit_for_bit(make_joint, tmp_path, kind):
    bundle = make_joint(**KINDS[kind])
    folder = write_folder(bundle, tmp_path / "model")
    read = read_folder(folder)
    assert isinstance(read, Bundle)
    assert type(read.model) is JointModel
    wanted, found = bundle.model.state_dict(), read.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    assert read.model.settings() == bundle.model.settings()
    pairs = zip(computed(read), computed(bundle), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert not read.model.training
    again = write_folder(read, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_the_classifier_inside_has_the_weights_that_were_read(folder):
    """Reading replaces parameters; those of the classifier of pairs are the model's own still."""
    model = read_folder(folder, dtype=torch.bfloat16).model
    assert isinstance(model, JointModel)
    assert model.matcher is not None
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in model.matcher.parameters()} <= own
    assert {parameter.dtype for parameter in model.matcher.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["task"], "caption", "does not fit Captioner"),
        (["task"], "classify", "heads is missing; format 2 has a dict"),
        (["task"], "joined", "task is 'joined'; this version knows caption, classify, joint"),
        (["decoding"], MISSING, "decoding is missing; format 2 has a dict"),
        (["preprocessing"], None, "preprocessing is None; format 2 has a dict"),
        (["heads"], {}, "format 2 has no key 'heads'"),
        (["max_length"], 13, "max_length is 13, and the model has positions for 12 tokens"),
        (["architecture", "text_encoder"], MISSING, "model has no section 'text_encoder'"),
        (["architecture", "text_encoder", "causal"], True, "text_encoder is an encoder: causal"),
        (["architecture", "text_encoder", "vocab_size"], 9, "both read the tokens of one tokeni"),
        (["architecture", "text_encoder", "dim"], 0, "cannot be built"),
        (["architecture", "text_encoder", "block"], 3, "text_encoder has no section 'block'"),
        (["architecture", "fusion"], MISSING, "model has no section 'fusion'"),
        (["architecture", "fusion", "kind"], "sum", "fusion.kind is 'sum'; known: cross"),
        (["architecture", "fusion", "kind"], "a/b", "fusion.kind is 'a/b', which is no name"),
        (["architecture", "fusion"], None, "does not fit JointModel"),
        (["architecture", "pool"], "max", "pool is 'max'"),
        (["architecture", "embed_dim"], 0, "embed_dim=0: both must be above 0"),
        (["architecture", "embed_dim"], 4, "does not fit JointModel"),
        (["architecture", "temperature"], "0.1", "temperature"),
        (["architecture", "heads"], 3, "model.heads: this version of mmattn has no such setting"),
    ],
)
def test_a_value_that_cannot_be_is_named(reconfigure, folder, place, value, said):
    reconfigure(folder, place, value)
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_encoder_of_shorter_texts_than_captions_is_named(make_joint, tmp_path):
    with pytest.raises(CheckpointError, match="positions for 11 tokens"):
        write_folder(make_joint(length=11), tmp_path / "model")


def test_a_users_own_class_is_named(make_joint, tmp_path):
    class Own(JointModel):
        """A user's class."""

    bundle = make_joint()
    bundle.model.__class__ = Own
    with pytest.raises(CheckpointError, match=r"the joint model is a .*Own: only JointModel"):
        write_folder(bundle, tmp_path / "model")


def test_another_fusion_is_written_too(make_joint, tmp_path):
    bundle = make_joint()
    model = bundle.model
    fusion = CoFusion(12, 1, BlockOptions(heads=2))
    options = {"text_encoder": model.text_encoder, "embed_dim": 8, "fusion": fusion}
    bundle.model = JointModel(model.vision, model.text, **options).eval()
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert isinstance(read.model, JointModel)
    assert type(read.model.fusion) is CoFusion


@pytest.mark.parametrize("kind", KINDS)
def test_its_card_says_what_it_is_and_its_parameters_add_up(make_joint, tmp_path, kind):
    bundle = make_joint(**KINDS[kind])
    folder = write_folder(bundle, tmp_path / "model", results={"test/image_recall@1": 0.75})
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict()["pipeline_tag"] == "image-to-text"
    assert "\n# Image captioner and retriever, " in card.text
    for said in ("model.embed(", "mmattn retrieve ", "| test/image_recall@1 | 0.75 |"):
        assert said in card.text
    assert ("belong together" in card.text) is (bundle.model.fusion is not None)
    section = card.text.split("## Architecture\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line][2:]
    numbers = {part: int(number.replace(",", "")) for part, _, number in cells}
    total = numbers.pop("all")
    assert total == sum(numbers.values()) == sum(p.numel() for p in bundle.model.parameters())


def test_an_export_gets_the_captioner_that_is_in_it(make_joint):
    bundle = make_joint()
    found = captioner_of(bundle, "there", "mmattn export")
    assert type(found.model) is Captioner
    pixels, tokens = torch.rand(1, 3, 16, 24), torch.ones(1, 1, 3, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(found.model(pixels, tokens), bundle.model(pixels, tokens))
    assert isinstance(bundle.model, JointModel)  # unchanged
