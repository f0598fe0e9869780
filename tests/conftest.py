"""What every test shares: no network, no screen, one thread, and shapes checked at every call."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# Before the libraries that read them are imported; processes that a test starts inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import hypothesis
import jaxtyping
import pytest
import torch

# Before mmattn is imported: from here on each annotated call of it is checked by beartype.
jaxtyping.install_import_hook("mmattn", "beartype.beartype")

torch.set_num_threads(1)

# Tracing (export, compile) registers a GPU that is not there. From the next backward pass on,
# autograd has a thread for it, and no forked process can go backward: `in_two_processes` forks.
if not torch.cuda.is_available():
    setattr(torch._C, "_ensureCUDADeviceGuardSet", lambda: None)  # noqa: B010

# A shell that runs tests in the background lets them ignore Ctrl-C, and what they start would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example pays for what torch sets up lazily, and machines are shared: no deadline.
hypothesis.settings.register_profile("mmattn", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("mmattn")


# The plugin beside this file; tests are no package that it could be imported from.
_spec = spec_from_file_location("fault_table", Path(__file__).with_name("fault_table.py"))
fault_table = module_from_spec(_spec)
_spec.loader.exec_module(fault_table)
pytest_addoption = fault_table.pytest_addoption
pytest_configure = fault_table.pytest_configure
pytest_runtest_setup = fault_table.pytest_runtest_setup


@pytest.fixture(scope="session")
def make_captioner():
    """Make a random captioner of pictures of 16 x 24 pixels, as a bundle.

    Its captions, words and pieces of words, have 0 to 12 tokens and differ from picture to picture.
    """
    from mmattn.blocks import BlockOptions
    from mmattn.bundle import Bundle
    from mmattn.captioner import Captioner
    from mmattn.data.preprocessing import Preprocessing
    from mmattn.data.tokenizer import CaptionTokenizer
    from mmattn.patches import LinearPatches
    from mmattn.text import TextTransformer
    from mmattn.vision import VisionTransformer

    captions = ["a dog runs over the grass", "a cat sleeps on a mat", "two dogs and a cat"]
    captions += ["a red ball", "the ball's on the grass", "an old man's café"]
    trained = CaptionTokenizer.train(captions * 3, 330, 2)
    plain = Preprocessing((16, 24), (16, 24), None, "bilinear", (0.5,) * 3, (0.25,) * 3)

    def make(seed=0, end=5.0, pooler=None, preprocessing=plain, tokenizer=trained, **options):
        torch.manual_seed(seed)
        block = BlockOptions(heads=2)
        vision = VisionTransformer(
            (16, 24), LinearPatches(4, 16), 1, block, registers=1, pooler=pooler
        )
        text = TextTransformer(
            tokenizer.vocab_size,
            16,
            2,
            block,
            max_length=12,
            context_dim=16,
            tie_embeddings=False,
            head_bias=True,
        )
        with torch.no_grad():
            for parameter in [*vision.parameters(), *text.parameters()]:
                parameter.add_(torch.randn_like(parameter) * 0.5)
            for layer in text.blocks:  # pictures matter
                layer.cross_attention.to_out.weight *= 3
            text.head_bias.zero_()
            text.head_bias[259:] = 3.0  # what is more than a single byte
            text.head_bias[tokenizer.end_id] = end
        return Bundle(Captioner(vision, text), tokenizer, preprocessing, 12, options)

    return make


@pytest.fixture(scope="session")
def make_classifier():
    """Make a random classifier, as a bundle: of pictures of 16 x 24 pixels, texts, or both.

    Its parts can be left out (vision=False, text=False); options are those of `Classifier`.
    """
    from mmattn.blocks import BlockOptions
    from mmattn.bundle import ClassifierBundle
    from mmattn.classifier import Classifier
    from mmattn.data.labelled.classes import Classes
    from mmattn.data.preprocessing import Preprocessing
    from mmattn.data.tokenizer import CaptionTokenizer
    from mmattn.fusion import CrossFusion
    from mmattn.patches import LinearPatches
    from mmattn.text import TextTransformer
    from mmattn.vision import VisionTransformer

    asked = ["is it a dog?", "which colour has the ball?", "a cat sleeps on a mat", "is it red?"]
    tokenizer = CaptionTokenizer.train(asked * 3, 300, 2)
    plain = Preprocessing((16, 24), (16, 24), None, "bilinear", (0.5,) * 3, (0.25,) * 3)
    answer = {"answer": Classes("single", ("no", "perhaps", "yes"))}

    def make(seed=0, classes=answer, vision=True, text=True, temperature=None, **options):
        torch.manual_seed(seed)
        block = BlockOptions(heads=2)
        seeing, reading = None, None
        if vision:
            seeing = VisionTransformer((16, 24), LinearPatches(8, 16), 1, block)
        if text:
            size = tokenizer.vocab_size
            reading = TextTransformer(size, 16, 1, block, max_length=16, causal=False)
        model = Classifier(
            {head: len(each.names) for head, each in classes.items()},
            vision=seeing,
            text=reading,
            fusion=CrossFusion(16, 1, block) if vision and text else None,
            word_heads=[head for head, each in classes.items() if each.kind == "words"],
            **options,
        )
        with torch.no_grad():
            for parameter in model.parameters():  # pictures and words matter
                parameter.add_(torch.randn_like(parameter) * 0.3)
        return ClassifierBundle(
            model=model.eval(),
            tokenizer=tokenizer if text else None,
            preprocessing=plain if vision else None,
            max_length=16,
            classes=classes,
            temperature=temperature or {},
            source="made by a test",
        )

    return make


@pytest.fixture(scope="session")
def make_joint(make_captioner):
    """Make a random joint model of pictures of 16 x 24 pixels, as a bundle.

    It is `make_captioner`'s with a text encoder and, unless fusion=False, a fusion; options are
    those of `JointModel`.
    """
    from dataclasses import replace

    from mmattn.blocks import BlockOptions
    from mmattn.fusion import CrossFusion
    from mmattn.joint import JointModel
    from mmattn.text import TextTransformer

    def make(seed=0, fusion=True, length=12, **options):
        bundle, block = make_captioner(seed), BlockOptions(heads=2)
        size = bundle.tokenizer.vocab_size
        options = {"embed_dim": 8, **options}
        model = JointModel(
            bundle.model.vision,
            bundle.model.text,
            text_encoder=TextTransformer(size, 12, 1, block, max_length=length, causal=False),
            fusion=CrossFusion(12, 1, block) if fusion else None,
            **options,
        )
        new = (name for name, _ in model.named_children() if name not in ("vision", "text"))
        with torch.no_grad():
            for name in new:  # words matter, and pictures to the fusion
                for parameter in model.get_submodule(name).parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        return replace(bundle, model=model.eval(), source="made by a test")

    return make


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets that the environment variable MMATTN_DATA names."""
    value = os.environ.get("MMATTN_DATA")
    if not value:
        pytest.skip(
            "needs real data: set MMATTN_DATA to the folder that holds flickr8k/ and others"
        )
    root = Path(value)
    if not root.is_dir():
        pytest.fail(f"MMATTN_DATA is {value!r}, which is not a folder: correct it or unset it")
    return root


@pytest.fixture(scope="session")
def train():
    """Run train.py in a folder, in a process of its own as a user does; return what it printed."""
    repository = Path(__file__).resolve().parent.parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}

    def run(folder, *overrides, code=0):
        done = subprocess.run(
            [sys.executable, str(repository / "train.py"), *overrides],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(repository), "PYTHONWARNINGS": ""},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope="session")
def set_at():
    """Change one value of nested dictionaries and lists, in place.

    The place is dotted, or a sequence of keys; the value `...` takes the entry away.
    """

    def change(values, place, value):
        *parents, last = place.split(".") if isinstance(place, str) else place
        for key in parents:
            values = values[key]
        if value is ...:
            del values[last]
        else:
            values[last] = value

    return change


@pytest.fixture
def make_trainer(tmp_path):
    """Make a trainer that does what it is told to and nothing besides."""
    import lightning as L

    def make(*callbacks, **options):
        quiet = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "max_epochs": 1,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**(quiet | options), callbacks=list(callbacks))

    return make


def answer(work, rank, folder, argument):
    """Let one of the two do its work, and leave what it found as a file in `folder`."""
    # Where Lightning looks for what a launcher would have told it.
    os.environ.update(MASTER_ADDR="127.0.0.1", NODE_RANK="0", LOCAL_RANK=str(rank))
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{folder}/rendezvous"
    )
    found = work(rank, argument)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture
def in_two_processes(tmp_path):
    """Return what work(rank, argument), as JSON has it, finds in each of two processes."""

    def run(work, arguments, timeout=60):
        # Forked, since importing torch anew takes longer than a whole file of tests.
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=answer, args=(work, rank, tmp_path, arguments[rank]))
            for rank in range(2)
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "This process .* is multi-threaded", DeprecationWarning
            )
            for process in processes:
                process.start()
        for process in processes:
            process.join(timeout=timeout)
            process.kill()
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run
