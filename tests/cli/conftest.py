import sys
from importlib import import_module

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from mmattn.cli import schema


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """The configuration of a run in an empty folder."""
    schema.register()
    monkeypatch.chdir(tmp_path)

    def make(*overrides):
        with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
            return compose("train", [f"paths.output_dir={tmp_path}", *overrides])

    return make


@pytest.fixture(scope="session")
def small_run():
    """Overrides that make the default configuration a run of seconds."""
    return [
        "data.source.fonts=[DejaVuSans,DejaVuSerif]",
        "data.source.held_out_fonts=[DejaVuSans-Bold]",
        "data.source.categories=[Lu]",
        "model.vision.patches.dim=16",
        "model.vision.patches.channels_out=[4,4]",
        "model.text.dim=16",
        "model.text.depth=1",
        "model.text.context_dim=16",
    ]


@pytest.fixture(scope="session")
def small_questions():
    """Overrides that make questions about letters a run of seconds."""
    return [
        "experiment=glyphs_vqa",
        "controls=[]",
        "data.source.glyphs.fonts=[DejaVuSans,DejaVuSerif]",
        "data.source.glyphs.held_out_fonts=[DejaVuSans-Bold]",
        "data.source.glyphs.categories=[Lu]",
        "data.source.questions=[letter,mark]",
        "model.vision.patches.dim=16",
        "model.vision.patches.channels_out=[4,4]",
        "model.text.dim=16",
    ]


@pytest.fixture(scope="session")
def model(make_captioner, tmp_path_factory):
    """The folder of a small model."""
    from mmattn.model_folder.format import write_folder

    return write_folder(make_captioner(), tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="session")
def classifier(make_classifier, tmp_path_factory):
    """The folder of a small classifier of pictures and questions."""
    from mmattn.model_folder.format import write_folder

    return write_folder(make_classifier(), tmp_path_factory.mktemp("small") / "classifier")


@pytest.fixture(scope="session")
def joint(make_joint, tmp_path_factory):
    """The folder of a small joint model."""
    from mmattn.model_folder.format import write_folder

    return write_folder(make_joint(), tmp_path_factory.mktemp("small") / "joint")


@pytest.fixture(scope="session")
def gpt2_like(make_captioner, tmp_path_factory):
    """The folder of a model of which Hugging Face has the like."""
    from mmattn.blocks import BlockOptions
    from mmattn.captioner import Captioner
    from mmattn.model_folder.format import write_folder
    from mmattn.text import TextTransformer

    bundle, block = make_captioner(), BlockOptions(heads=2)
    options = {"max_length": 12, "context_dim": 16}
    text = TextTransformer(bundle.tokenizer.vocab_size, 16, 2, block, **options)
    bundle.model = Captioner(bundle.model.vision, text).eval()
    return write_folder(bundle, tmp_path_factory.mktemp("gpt2") / "model")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Makes the working folder one with eight images in photos/, two of them in a folder below."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (16 + i, 24, 3), np.uint8) // (1 + i % 3)
        Image.fromarray(pixels).save(f"photos/{'deep/' if i % 4 == 3 else ''}{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def call(monkeypatch, capfd):
    """Call a command by its module's name; returns the exit code and what it printed."""

    def called(command, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmattn", *map(str, arguments)])
        monkeypatch.delenv("MMATTN_TRACEBACK", raising=False)
        try:
            import_module(f"mmattn.cli.{command}").main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return called


@pytest.fixture
def call_command(monkeypatch, capsys):
    """Call a command; returns the exit code and what it printed."""

    def called(command, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmattn", *map(str, arguments)])
        try:
            command.main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return called
