"""Secrets in a configuration: neither config.yaml, nor a logger, nor the terminal gets them."""

import logging

import pytest
import wandb
from lightning.fabric.utilities.logger import _flatten_dict
from omegaconf import OmegaConf

from mmattn.cli import run
from mmattn.cli.build import build, build_trainer
from mmattn.cli.secrets import HIDDEN, hide_secrets, is_secret, shown

pytestmark = pytest.mark.fault("F23")
VALUE = "s3cr3t-0123456789"


@pytest.fixture
def variable(monkeypatch):
    monkeypatch.setenv("SOME_VARIABLE", VALUE)
    monkeypatch.setenv("MMATTN_DATA", "/data")
    monkeypatch.setenv("SOME_NUMBER", "7")


@pytest.mark.usefixtures("variable")
def test_what_came_from_the_environment_is_shown_as_its_variable():
    config = OmegaConf.create(
        {
            "plain": "${oc.env:SOME_VARIABLE}",
            "inside": "a/${oc.env:SOME_VARIABLE}/b",
            "again": "${plain}",
            "twice": {"removed": "${inside}"},
            "listed": ["x", "${oc.env:SOME_VARIABLE}"],
            "default": "${oc.env:UNSET_VARIABLE,other}",
            "nested": "${oc.env:UNSET_VARIABLE,${oc.env:SOME_VARIABLE}}",
            "ours": "${oc.env:MMATTN_DATA,data}",
            "number": "${oc.decode:${oc.env:SOME_NUMBER}}",
            "whole": "${twice}",
            "missing": "???",
            "none": None,
        }
    )
    assert shown(config) == {
        "plain": "${oc.env:SOME_VARIABLE}",
        "inside": "a/${oc.env:SOME_VARIABLE}/b",
        "again": "${plain}",
        "twice": {"removed": "${inside}"},
        "listed": ["x", "${oc.env:SOME_VARIABLE}"],
        "default": "other",
        "nested": "${oc.env:UNSET_VARIABLE,${oc.env:SOME_VARIABLE}}",
        "ours": "/data",
        "number": 7,
        "whole": {"removed": "${inside}"},
        "missing": "???",
        "none": None,
    }
    assert config.plain == VALUE  # the run itself still gets it
    # What was written can be read again where the variable is set.
    again = OmegaConf.to_container(OmegaConf.create(shown(config)), resolve=True)
    assert again["twice"]["removed"] == f"a/{VALUE}/b"


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "api_key",
        "APIKEY",
        "aws_secret_access_key",
        "token",
        "hf_token",
        "password",
        "client_secret",
        "passphrase",
        "credentials",
        "account_key",
    ],
)
def test_names_of_secrets(name):
    assert is_secret(name)
    assert shown(OmegaConf.create({"a": [{name: VALUE}]})) == {"a": [{name: HIDDEN}]}


@pytest.mark.parametrize(
    "name",
    [
        "keys",
        "image_key",
        "tokenizer",
        "pad_token",
        "tokens",
        "token_budget",
        "monitor",
        "max_token_length",
        "keyword",
        "authors",
        "begin_token",
    ],
)
def test_names_of_what_is_no_secret(name):
    assert shown(OmegaConf.create({name: "value"})) == {name: "value"}


def test_a_number_is_no_secret():
    assert shown(OmegaConf.create({"key": 3, "token": None})) == {"key": 3, "token": None}


def test_a_secret_in_the_configuration_is_blotted_out_of_what_hydra_wrote(tmp_path, caplog):
    run_folder = tmp_path / "0"
    names = [f"0/.hydra/{name}.yaml" for name in ("config", "overrides", "hydra")]
    files = [tmp_path / name for name in (*names, "multirun.yaml")]
    (run_folder / ".hydra").mkdir(parents=True)
    for path in files:
        path.write_text(f"- +logger.x.api_key={VALUE}\n")
    config = OmegaConf.create({"logger": {"x": {"api_key": VALUE, "token": "${oc.env:T}"}}})
    with caplog.at_level(logging.WARNING):
        hide_secrets(config, run_folder)
    for path in files:
        assert path.read_text() == f"- +logger.x.api_key={HIDDEN}\n"
    (line,) = caplog.messages
    assert line.startswith("logger.x.api_key: a secret in the configuration is seen by others")
    assert VALUE not in line


URL = f"https://user:{VALUE}@host:80/set?sig={VALUE}"


@pytest.mark.usefixtures("variable")
def test_what_opens_a_url_is_not_shown_whatever_its_key():
    config = OmegaConf.create(
        {
            "root": URL,
            "source": {"root": "${root}", "all": [URL]},
            "named": "https://${oc.env:SOME_VARIABLE}@host/x",
            "both": f"https://user:{VALUE}@host/${{oc.env:SOME_NUMBER}}",
        }
    )
    assert shown(config) == {
        "root": "https://…@host:80/set?…",
        "source": {"root": "https://…@host:80/set?…", "all": ["https://…@host:80/set?…"]},
        "named": "https://${oc.env:SOME_VARIABLE}@host/x",
        "both": "https://…@host/${oc.env:SOME_NUMBER}",
    }


def test_what_opens_a_url_is_blotted_out_of_what_hydra_wrote(tmp_path, caplog):
    (tmp_path / ".hydra").mkdir()
    written = tmp_path / ".hydra" / "overrides.yaml"
    written.write_text(f"- data.root={URL}\n- user=user\n")
    config = OmegaConf.create({"data": {"root": URL, "other": "https://${oc.env:T}@host"}})
    with caplog.at_level(logging.WARNING):
        hide_secrets(config, tmp_path)
    assert written.read_text() == "- data.root=https://…@host:80/set?…\n- user=user\n"
    (line,) = caplog.messages
    assert line.startswith("data.root: a secret in the configuration")


def test_without_a_secret_nothing_is_said(composed, tmp_path, caplog):
    hide_secrets(composed(), tmp_path)
    assert caplog.messages == []


@pytest.mark.usefixtures("variable")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_neither_config_yaml_nor_wandb_nor_the_terminal_gets_one(
    composed, tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = composed(
        *("trainer.accelerator=cpu", "logger=wandb", "logger.wandb.notes=${oc.env:SOME_VARIABLE}"),
        *("+data.source.token=literal-secret", "tags=[a,'${oc.env:SOME_VARIABLE}']"),
    )
    OmegaConf.update(config, "model.text.vocab_size", 3)
    model = build(config.model, "model")
    run.show_config(config, tmp_path)
    with run.logged(build_trainer(config), config, model):
        known = "\n".join(f"{k}={v}" for k, v in _flatten_dict(dict(wandb.run.config)).items())
    out, err = capfd.readouterr()
    assert not [line for line in known.splitlines() if VALUE in line]
    for text in (known, (tmp_path / "config.yaml").read_text(), out, err, caplog.text):
        assert VALUE not in text
        assert "literal-secret" not in text
    assert "${oc.env:SOME_VARIABLE}" in known
