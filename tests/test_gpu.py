"""On a GPU, whose kernels are others: the same maps, the same bits, and the commands users type."""

import importlib
import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmattn.attention import attend, padding_mask
from mmattn.batch import CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.loader import StatefulLoader
from mmattn.gradient_recorder import GradientRecorder
from mmattn.interop.foreign_attention import record
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder, attention_weights
from mmattn.statistics import StatisticsRecorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ROOT = Path(__file__).resolve().parent.parent
HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def capture():
    """The benchmark of the recorder, whose cases are tested here on the GPU's kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("capture")


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, kv_heads=2, qk_norm="rms")
    vision = VisionTransformer(
        (32, 48), LinearPatches(8, 64), 2, block, class_token=True, registers=2, position="rotary"
    )
    text = TextTransformer(50, 64, 2, block, max_length=16, context_dim=64, position="rotary")
    return Captioner(vision, text).cuda()


@pytest.fixture
def batch(model) -> CaptionBatch:
    tokens = torch.randint(3, 50, (3, 2, 9), device="cuda")
    valid = (
        torch.arange(9, device="cuda") < torch.tensor([[9, 4], [1, 9], [5, 5]]).cuda()[..., None]
    )
    images = torch.randn(3, 3, 32, 48, device="cuda")
    return CaptionBatch(("a", "b", "c"), images, tokens, tokens, valid, ((), (), ()))


class Places:
    """Three samples that are their own places."""

    def __len__(self):
        return 3

    def __getitems__(self, items):
        return [index for _, index in items]


def test_a_loader_that_pins_gives_batches_in_page_locked_memory(batch):
    whole, order = batch.to("cpu"), {"shuffle": False, "drop_last": False}
    loader = StatefulLoader(
        Places(), batch_size=2, seed=0, collate_fn=whole.select, pin_memory=True, **order
    )
    for found, rows in zip(loader, ([0, 1], [2]), strict=True):
        for part in (found.images, found.tokens, found.labels, found.valid):
            assert part.is_pinned()
        assert torch.equal(found.to("cuda").tokens, batch.tokens[rows])


@pytest.mark.parametrize(
    ("dtype", "within"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), *((dtype, 2e-5) for dtype in HALF)],
)
def test_what_is_recorded_is_the_softmax_of_what_the_kernel_got(capture, dtype, within):
    errors = {name: capture.exactness(name, dtype, "cuda") for name in capture.CASES}
    assert max(errors.values()) <= within, errors


KERNELS = {
    "math": (SDPBackend.MATH, torch.float32, True),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, torch.float32, True),
    "efficient, bfloat16": (SDPBackend.EFFICIENT_ATTENTION, torch.bfloat16, True),
    "flash": (SDPBackend.FLASH_ATTENTION, torch.bfloat16, False),  # it takes no mask
    "cudnn": (SDPBackend.CUDNN_ATTENTION, torch.bfloat16, True),
    "as torch chooses": (None, torch.float32, True),
    "as torch chooses, bfloat16": (None, torch.bfloat16, True),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_times_values_are_the_output_of_every_kernel(kernel):
    backend, dtype, masks = KERNELS[kernel]
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, 16, 32, device="cuda", dtype=dtype) for _ in range(3))
    lengths = torch.tensor([[16], [7], [0]], device="cuda")  # the last may attend to nothing
    mask = padding_mask(torch.arange(16, device="cuda") < lengths) if masks else None
    with sdpa_kernel(backend) if backend else nullcontext():
        out = attend(q, k, v, mask)
    expected = attention_weights(q, k, mask) @ v.float()
    within = 2e-6 if dtype == torch.float32 else 1e-2  # the kernel rounds its output
    torch.testing.assert_close(out.float(), expected, atol=within, rtol=0)
    if masks:
        assert torch.equal(out[2], torch.zeros_like(out[2]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_may_attend_to_nothing_leave_every_gradient_finite(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, 16, 32, device="cuda", dtype=dtype) for _ in range(3))
    lengths = torch.tensor([[16], [7], [0]], device="cuda")
    mask = padding_mask(torch.arange(16, device="cuda") < lengths)

    def gradients(q, k, v, mask):
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        attend(*inputs, mask, causal=True).float().square().sum().backward()
        return [x.grad for x in inputs]

    found = gradients(q, k, v, mask)
    on_cpu = gradients(*(x.float().cpu() for x in (q, k, v)), mask.cpu())
    for gradient, expected in zip(found, on_cpu, strict=True):
        within = 1e-4 if dtype == torch.float32 else 0.1
        torch.testing.assert_close(gradient.float().cpu(), expected, atol=within, rtol=0.05)
        assert torch.equal(gradient[2], torch.zeros_like(gradient[2]))


@pytest.fixture
def deterministic(monkeypatch):
    """Without this two equal backward passes differ: some kernels add in any order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [None, *HALF])
def test_listening_changes_neither_output_nor_gradients_by_a_bit(
    model, batch, dtype, deterministic
):
    statistics = StatisticsRecorder(grid=model.vision.grid, prefix=3, registers=2)
    statistics.valid = batch.valid

    def run(listener=None) -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cuda", dtype) if dtype else nullcontext():
            logits = model(batch.images, batch.tokens, listener)
        logits.float().square().sum().backward()
        return [logits, *(p.grad for p in model.parameters() if p.grad is not None)]

    plain = run()
    for listener in (Recorder("*"), statistics):
        assert all(torch.equal(a, b) for a, b in zip(plain, run(listener), strict=True))


def test_statistics_and_maps_are_those_of_the_cpu(model, batch):
    def listened(device: str) -> tuple[Recorder, StatisticsRecorder]:
        maps, statistics = Recorder("*"), StatisticsRecorder(grid=(4, 6), prefix=3, registers=2)
        here = batch.to(device)
        statistics.valid = here.valid
        for listener in (maps, statistics):
            model.to(device)(here.images, here.tokens, listener)
        return maps, statistics

    (maps, sums), (expected_maps, expected_sums) = listened("cuda"), listened("cpu")
    for site, expected in expected_maps.maps.items():
        torch.testing.assert_close(maps.maps[site].cpu(), expected, atol=1e-5, rtol=0)
        close = {"atol": 1e-3, "rtol": 1e-4}
        torch.testing.assert_close(sums.sums[site].cpu(), expected_sums.sums[site], **close)


def test_gradients_are_those_through_weights_that_are_written_out(model, batch):
    recorder = GradientRecorder(["text.1.cross"])
    logits = model.eval()(batch.images, batch.tokens, recorder)
    recorder.differentiate(logits.square().sum())
    found = recorder.gradients("text.1.cross")

    calls = recorder._kept["text.1.cross"]
    weights = calls.weights.clone().requires_grad_()
    (weights @ calls.values).backward(recorder._output_gradients["text.1.cross"])
    torch.testing.assert_close(found, weights.grad, atol=1e-6, rtol=1e-5)


def test_cached_decoding_records_what_a_whole_pass_does(model, batch):
    model.eval()
    cached, whole = Recorder("text.*"), Recorder("text.*")
    with torch.no_grad():
        image = model.encode(batch.images)
        tokens, memory, cache = batch.tokens[:, 0], model.memory(image), None
        for t in range(tokens.shape[1]):
            _, cache = model.text.extend(tokens[:, t : t + 1], cache, memory, recorder=cached)
        model.decode(image, tokens[:, None], whole)
    for site, maps in whole.maps.items():
        torch.testing.assert_close(cached.maps[site], maps, atol=1e-5, rtol=0)


def test_maps_of_a_model_of_timm():
    torch.manual_seed(0)
    size = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": (32, 48)}
    network = timm.create_model("vit_tiny_patch16_224", **size).cuda().eval()
    images = torch.randn(2, 3, 32, 48, device="cuda")
    with torch.no_grad(), record(network) as recorder:
        network(images)
    with torch.no_grad(), record(network.cpu()) as expected:
        network(images.cpu())
    assert len(recorder.maps) == 2
    for site, maps in expected.maps.items():
        torch.testing.assert_close(recorder.maps[site].cpu(), maps, atol=1e-5, rtol=0)


def run(folder: Path, *command: str) -> str:
    """Run a command of a user's, in a process of its own; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": ""}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("options", [[], ["compile=true"]])
def test_a_run_and_its_report(tmp_path, options):
    small = [
        *("data.source.fonts=[DejaVuSans,DejaVuSerif]", "trainer=gpu", "trainer.max_epochs=1"),
        *("data.source.held_out_fonts=[DejaVuSans-Bold]", "trainer.limit_train_batches=8"),
        *("trainer.check_val_every_n_epoch=1", "callbacks.attention.test_images=2"),
    ]
    run(tmp_path, str(ROOT / "train.py"), *small, *options)
    (folder,) = tmp_path.glob("logs/caption/runs/*")
    results = json.loads((folder / "results.json").read_text())
    assert all(math.isfinite(value) for value in results.values())
    if options:  # a report is of the model as it was written
        return
    call = "from mmattn.cli.main import main; main()"
    report = ["attention-report", "--model", str(folder), "--limit", "12", "--perturbed", "2"]
    on = [run(tmp_path, "-c", call, *report, "--device", device) for device in ("cpu", "cuda")]
    assert all("NOT better than the controls" in said for said in on)
