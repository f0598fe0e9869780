"""What is asked of the hub, and what is said where it refuses; nothing is fetched here."""

import inspect
import logging
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError

from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.hub import fetch, is_hub_id, push_to_hub
from mmattn.model_folder.layout import library_version
from mmattn.model_folder.source import read_source

NAMES = ["README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
TOKEN = "hf_secretsecretsecret"
ADDRESS = "https://hub.example/somebody/model"


class Hub:
    """Stands for the hub: keeps what it was asked for, and hands out one folder."""

    def __init__(self, folder):
        self.folder, self.asked, self.refusal = folder, [], None
        self.signatures = {
            "snapshot_download": inspect.signature(huggingface_hub.snapshot_download),
            "HfApi": inspect.signature(huggingface_hub.HfApi),
            **{
                name: inspect.signature(getattr(huggingface_hub.HfApi(), name))
                for name in ("create_repo", "upload_folder")
            },
        }

    def call(self, name, *args, **kwargs):
        """Keep a call, which the library that is installed must be able to take."""
        self.asked.append((name, self.signatures[name].bind(*args, **kwargs).arguments))
        if self.refusal is not None:
            raise self.refusal

    def snapshot_download(self, *args, **kwargs):
        self.call("snapshot_download", *args, **kwargs)
        return str(self.folder)

    def HfApi(self, *args, **kwargs):  # noqa: N802 - huggingface_hub's name
        self.asked.append(("HfApi", self.signatures["HfApi"].bind(*args, **kwargs).arguments))
        return self

    def create_repo(self, *args, **kwargs):
        self.call("create_repo", *args, **kwargs)
        return ADDRESS

    def upload_folder(self, *args, **kwargs):
        self.call("upload_folder", *args, **kwargs)


@pytest.fixture
def hub(folder, monkeypatch):
    fake = Hub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", fake.HfApi)
    return fake


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder without anything in it."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.mark.fault("F31")
def test_fetching_asks_for_the_files_of_a_model_folder_only(hub, folder):
    assert fetch("somebody/model", "v1", token=TOKEN) == folder
    ((name, asked),) = hub.asked
    assert name == "snapshot_download"
    assert sorted(asked.pop("allow_patterns")) == NAMES
    assert asked == {
        "repo_id": "somebody/model",
        "revision": "v1",
        "token": TOKEN,
        "library_name": "mmattn",
        "library_version": library_version(),
    }


@pytest.mark.fault("F31")
def test_what_was_fetched_is_checked(hub, folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json was altered"):
        fetch("somebody/model")


@pytest.mark.fault("F31")
def test_a_repository_of_something_else_is_named(hub, folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"somebody/model on the hub is no model folder of"):
        fetch("somebody/model")


def test_a_model_is_uploaded_in_one_commit(hub, folder):
    address = push_to_hub(folder, "somebody/model", private=True, token=TOKEN, revision="dev")
    assert address == ADDRESS
    made, repository, upload = hub.asked
    about = {"library_name": "mmattn", "library_version": library_version()}
    assert made == ("HfApi", {"token": TOKEN, **about})
    assert repository == (
        "create_repo",
        {"repo_id": "somebody/model", "repo_type": "model", "private": True, "exist_ok": True},
    )
    assert upload[0] == "upload_folder"
    assert sorted(upload[1].pop("allow_patterns")) == NAMES
    assert upload[1] == {
        "repo_id": "somebody/model",
        "repo_type": "model",
        "folder_path": folder,
        "revision": "dev",
        "commit_message": "Upload a model with mmattn",
    }


def test_a_model_is_public_unless_it_is_said(hub, folder):
    push_to_hub(folder, "somebody/model")
    assert hub.asked[1][1]["private"] is False
    assert hub.asked[0][1]["token"] is None  # the one that is kept on this machine


def test_the_model_of_a_run_is_uploaded(hub, folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    folder.rename(tmp_path / "run" / "model")
    push_to_hub(tmp_path / "run", "somebody/model")
    assert hub.asked[2][1]["folder_path"] == tmp_path / "run" / "model"


@pytest.mark.parametrize("spoil", ["config.json", "photo.jpg"])
def test_a_folder_that_is_not_whole_or_holds_more_is_not_uploaded(hub, folder, spoil):
    (folder / spoil).write_text("{}")
    with pytest.raises(CheckpointError, match=spoil):
        push_to_hub(folder, "somebody/model")
    assert hub.asked == []


@pytest.mark.fault("F31")
@pytest.mark.parametrize("act", ["fetch", "push"])
@pytest.mark.parametrize(
    "refusal",
    [
        OSError(f"403 for {TOKEN}\nForbidden"),
        ValueError("somebody/model\nis no id"),
        RuntimeError(),
        RepositoryNotFoundError.__new__(RepositoryNotFoundError),
    ],
)
def test_a_refusal_is_one_line_without_the_token(hub, folder, caplog, act, refusal):
    hub.refusal = refusal
    where = ["somebody/model"] if act == "fetch" else [folder, "somebody/model"]
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError) as caught:
        (fetch if act == "fetch" else push_to_hub)(*where, token=TOKEN)
    said = str(caught.value)
    assert said.startswith(f"somebody/model cannot be {'had from' if act == 'fetch' else 'upl'}")
    assert "\n" not in said
    assert caught.value.__suppress_context__  # whose text could show the token
    assert TOKEN not in said + caplog.text


@pytest.mark.parametrize("repo_id", ["model", "a/b/c", "../model", "a/..", "/a/b", "a b/c", ""])
def test_what_is_no_id_is_refused_before_anything_is_asked(hub, folder, repo_id):
    for act in (lambda: fetch(repo_id), lambda: push_to_hub(folder, repo_id)):
        with pytest.raises(ConfigError, match="is no id of the hub: give owner/name"):
            act()
    assert hub.asked == []


def test_without_its_library_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: fetch("a/b"), lambda: push_to_hub(folder, "a/b")):
        with pytest.raises(
            ConfigError, match=r"needs huggingface_hub: pip install 'mmattn\[hub\]'"
        ):
            act()


@pytest.mark.usefixtures("elsewhere")
def test_an_id_is_owner_and_name_where_no_such_path_exists(tmp_path):
    assert is_hub_id("somebody/model-7.b_v2")
    for text in ("model", "./model", "a/b/c", "/a/b", "a/.hidden", "~/model", "a/", "../b"):
        assert not is_hub_id(text), text
    assert not is_hub_id(tmp_path / "somebody")
    (tmp_path / "empty" / "somebody" / "model-7.b_v2").mkdir(parents=True)
    assert not is_hub_id("somebody/model-7.b_v2")


@pytest.mark.fault("F31")
@pytest.mark.usefixtures("elsewhere")
def test_a_source_is_a_folder_here_or_an_id(hub, folder):
    assert read_source(folder).source == "made by a test"
    assert hub.asked == []
    (folder / "figure.png").touch()  # fetched by another program
    read = read_source("somebody/model", revision="v1", token=TOKEN, dtype=torch.bfloat16)
    assert read.model.text.embedding.weight.dtype == torch.bfloat16
    assert hub.asked[0][1]["revision"] == "v1"


@pytest.mark.usefixtures("elsewhere")
def test_a_source_that_is_nowhere_is_told_of_both_places(hub, tmp_path):
    hub.refusal = OSError("404")
    said = "there is no folder runs/model here, and runs/model cannot be had from the Hugging Face"
    with pytest.raises(ConfigError, match=said):
        read_source("runs/model")
    with pytest.raises(ConfigError, match="does not exist; give a model folder or a run directory"):
        read_source(str(tmp_path / "absent"))


def test_a_revision_of_a_folder_here_is_refused(folder):
    with pytest.raises(ConfigError, match=r"revision='v1' is of the hub, and .* is a folder here"):
        read_source(folder, revision="v1")
