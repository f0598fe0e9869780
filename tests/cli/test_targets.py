import re
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mmattn.cli import hydra_parts
from mmattn.cli.targets import check_targets
from mmattn.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
OURS = sorted(
    {
        target.partition("#")[0].strip()
        for path in CONF.rglob("*.yaml")
        for target in re.findall(r"_target_:(.*)", path.read_text("utf-8"))
    }
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's own, whose import leaves a mark."""
    folder = tmp_path / "mypkg"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from pathlib import Path\n"
        "from os import system\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
        "class Vision: pass\n"
        "def build(): pass\n"
        "value = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mypkg", None)


def test_everything_that_our_own_files_name_may_be_built():
    assert len(OURS) > 20
    # Some are Hydra's to build, whose own settings are checked by `check_hydra_parts`.
    hydras = (hydra_parts.OWN, f"{hydra_parts.SLURM}.")
    built = [target for target in OURS if not target.startswith(hydras)]
    check_targets({str(i): {"_target_": target} for i, target in enumerate(built)})


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.os.system",
        "torch.serialization.pickle.loads",
        "posix.system",
        "pathlib.Path.write_text",
        "shutil.copyfile",
        "pickle.loads",
        "yaml.unsafe_load",
        "timeit.timeit",
        "cProfile.run",
        "runpy.run_path",
        "ctypes.CDLL",
        "torch.hub.load",
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "hydra.utils.instantiate",
        "hydra.utils.get_method",
        "mmattn",
        "mmattn.cli.targets.importlib.import_module",
        "mmattn.cli.targets.resolve",  # ours, but it imports what it is told to
        "mmattn.cli.build.build",
        "mmattn.files.write_whole",  # ours, but it writes what it is told to
        "mmattn.training.results.write_results",
        "mmattn.weights.torch.load",
        "mmattn.files.shutil.rmtree",
        "mmattn.training.stopping.requeue.os",
        "mmattn.training.stopping.requeue.os.system",
        "mmattn.training.stopping.requeue.subprocess.Popen",
        "mmattn.training.stopping.stop_request.os._exit",
        "mmattn.weights.Tensor",  # reachable through us, and not ours
        "mmattn.errors",
        "mmattn.text.Cache",  # neither a class nor a function
        "torchvision.transforms.v2.functional.resize",  # a function of somebody else
        "torchvision.io.read_file",
        "torch.optim.lr_scheduler.warnings.warn",
        "lightning.pytorch.callbacks.model_checkpoint.get_filesystem",
        "lightning.pytorch.loggers.wandb.os.system",
        "lightning.pytorch.Callback",
        "lightning.fabric.utilities.cloud_io._load",
        "lightning.pytorch.Trainer.fit",
        "Trainer",
        "",
        ".",
        "mmattn..text",
        "mmattn.vision.VisionTransformer ",
        3,
        None,
        ["mmattn.vision.VisionTransformer"],
    ],
)
def test_everything_else_is_refused_with_its_key(target):
    with pytest.raises(ConfigError, match=r"model\.vision\._target_="):
        check_targets({"model": {"vision": {"_target_": target}}})


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    ("config", "key"),
    [
        (
            {"a": [{"_target_": "mmattn.captioner.Captioner", "x": {"_target_": "os.x"}}]},
            r"a\[0\]\.x",
        ),
        ({"a": [[{"_target_": "os.x"}]]}, r"a\[0\]\[0\]"),
        ({"a": {"b": {"c": {"_target_": "os.x", "_partial_": True}}}}, r"a\.b\.c"),
        ({"_target_": "os.x"}, ""),
        (
            {"a": {"_target_": "mmattn.captioner.Captioner", "_args_": [{"_target_": "os.x"}]}},
            r"a\._args_\[0\]",
        ),
    ],
)
def test_no_depth_hides_a_target(config, key):
    with pytest.raises(ConfigError, match=rf"^{key}\._target_='os\.x'"):
        check_targets(config)


@pytest.mark.fault("F22")
def test_no_interpolation_hides_a_target(monkeypatch):
    monkeypatch.setenv("WANTED", "os.system")
    for value in ("${other}", "${oc.env:WANTED}", "os.${oc.decode:system}"):
        config = OmegaConf.create({"other": "os.system", "part": {"_target_": value}})
        with pytest.raises(ConfigError, match=r"part\._target_='os\.system'"):
            check_targets(config)
    made = OmegaConf.create({"part": "${oc.create:{_target_:os.system}}"})
    with pytest.raises(ConfigError, match=r"part\._target_='os\.system'"):
        check_targets(made)


@pytest.mark.fault("F22")
def test_a_users_package_is_refused_and_not_even_imported(package):
    with pytest.raises(ConfigError, match=r"add allow_targets=\[mypkg\] to the command line"):
        check_targets({"_target_": "mypkg.Vision"})
    assert not (package / "imported").exists()


def test_a_users_package_may_be_allowed_for_what_it_defines(package):
    check_targets([{"_target_": "mypkg.Vision"}, {"_target_": "mypkg.build"}], ["mypkg"])
    assert (package / "imported").exists()
    for name, said in [
        ("system", "of posix|of nt"),
        ("value", "is a int"),
        ("nope", "has no nope"),
    ]:
        with pytest.raises(ConfigError, match=said):
            check_targets({"_target_": f"mypkg.{name}"}, ["mypkg"])
    with pytest.raises(ConfigError, match="not on the list"):
        check_targets({"_target_": "mypkgs.Vision"}, ["mypkg"])


def test_a_missing_package_says_how_to_be_found():
    with pytest.raises(ConfigError, match=r"install absent_pkg, or add its folder to PYTHONPATH"):
        check_targets({"_target_": "absent_pkg.Vision"}, ["absent_pkg"])


def test_nobody_is_told_to_allow_the_standard_library():
    with pytest.raises(ConfigError) as caught:
        check_targets({"_target_": "os.system"})
    assert "allow_targets" not in str(caught.value)
