import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmattn.cli import schema
from mmattn.cli.suggest import explain, known_keys, one_line

CONF = schema.config_dir()


@pytest.fixture(autouse=True)
def _registered():
    schema.register()


def complaint(*overrides):
    """What the command says about these overrides."""
    hydra = initialize_config_dir(str(CONF), version_base="1.3")
    with hydra, pytest.raises((HydraException, ValueError)) as caught:
        compose("train", list(overrides))
    return explain(caught.value, CONF, overrides)


@pytest.mark.fault("F27")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.max_epoch=1", "trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        ("optmizer.lr=1", "optmizer.lr: no such key; did you mean optimizer.lr?"),
        ("trainer.lr=1", "trainer.lr: no such key; did you mean optimizer.lr?"),
        ("model.vison.depth=1", "model.vison.depth: no such key; did you mean model.vision.depth?"),
        ("seeed=1", "seeed: no such key; did you mean seed?"),
        ("paths.logdir=x", "paths.logdir: no such key; did you mean paths.log_dir?"),
        ("dta=glyphs", "dta: no such key; did you mean data?"),
        ("data=glyps", "data=glyps: no such option; did you mean glyphs?"),
        ("data=zzz", "data=zzz: no such option; there are: caption_table, class_folders"),
        ("model/vision=vit_smal", "model/vision=vit_smal: no such option; did you mean vit_small?"),
        ("+callbacks=ema", "for both, callbacks=[default,ema]"),
        ("scheduler=null", "scheduler=null: a group takes the name of an option"),
        ("seed=abc", "seed=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("train=maybe", "train=maybe: Value 'maybe' is not a valid bool"),
        ("model.text.depth=[1", "[1"),
        ("nonsense", "Error parsing override 'nonsense'"),
    ],
)
def test_one_line_says_what_is_wrong_and_what_was_meant(override, said):
    line = complaint(override)
    assert said in line
    assert "\n" not in line


def test_a_key_that_the_file_does_not_list_can_be_added():
    line = complaint("model.text.block.dropout=0.1")
    assert line.endswith("(+model.text.block.dropout=… adds a new key)")


def test_suggestions_come_from_the_options_that_were_chosen():
    assert "data.root" not in known_keys(CONF)
    assert "data.root" in known_keys(CONF, ["data=flickr8k"])
    assert "did you mean data.root?" in complaint("data=flickr8k", "data.rooot=x")


def test_and_from_the_users_own_folder(tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("_target_: torch.optim.SGD\nspeed: 1\n")
    keys = known_keys(CONF, ["--config-dir", str(tmp_path), "optimizer=mine"])
    assert "optimizer.speed" in keys
    assert "optimizer.betas" not in keys


def test_an_interpolation_that_fails_names_its_key():
    config = OmegaConf.create({"size": 32, "data": {"height": "${size[0]}"}})
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(config, resolve=True)
    line = explain(caught.value, CONF)
    assert line.startswith("data.height: Error trying to access size[0]")
    assert "\n" not in line


def test_lines_are_joined_and_the_key_comes_first():
    assert (
        one_line("Wrong\n    full_key: a.b\n    object_type=dict\n  twice") == "a.b: Wrong: twice"
    )
    assert one_line("a.b is wrong\nfull_key: a.b") == "a.b is wrong"
    assert one_line("plain") == "plain"
