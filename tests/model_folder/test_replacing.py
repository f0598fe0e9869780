"""An older model folder is replaced, and nothing of anybody else's is lost."""

import json

import pytest

from mmattn.errors import ConfigError
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.manifest import write_manifest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folders_above_are_made_and_nothing_is_left_beside(bundle, tmp_path):
    write_folder(bundle, tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]


def test_an_empty_folder_is_taken(bundle, tmp_path):
    (tmp_path / "model").mkdir()
    write_folder(bundle, tmp_path / "model")
    assert read_folder(tmp_path / "model").max_length == 12
    assert names(tmp_path) == ["model"]


def test_an_older_model_folder_is_replaced(folder, make_bundle):
    (folder / "README.md").unlink()
    newer = make_bundle(seed=1)
    newer.source = "newer"
    write_folder(newer, folder)
    assert read_folder(folder).source == "newer"
    assert names(folder.parent) == ["model"]
    assert "newer" in (folder / "README.md").read_text()


def test_one_of_another_format_is_replaced_with_all_its_files(folder, bundle):
    (folder / "adapters.safetensors").touch()
    write_manifest(folder)
    write_folder(bundle, folder)
    assert "adapters.safetensors" not in names(folder)
    read_folder(folder)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "photo.jpg"])
def test_a_folder_with_anything_else_in_it_is_left_alone(folder, bundle, name):
    (folder / name).write_text("precious")
    before = (folder / "config.json").read_bytes()
    bundle.source = "newer"
    with pytest.raises(ConfigError, match=rf"holds other files \('{name}'\)"):
        write_folder(bundle, folder)
    assert (folder / name).read_text() == "precious"
    assert (folder / "config.json").read_bytes() == before
    assert names(folder.parent) == ["model"]


@pytest.mark.parametrize("content", [None, "{}", json.dumps({"files": {"../x": {}}})])
def test_somebody_elses_folder_is_left_alone(bundle, tmp_path, content):
    """Also one with a manifest.json of another kind."""
    place = tmp_path / "site"
    place.mkdir()
    for i in range(6):
        (place / f"{i}.html").touch()
    if content is not None:
        (place / "manifest.json").write_text(content)
    before = names(place)
    with pytest.raises(ConfigError, match=r"'0\.html', .* …\), which would be lost"):
        write_folder(bundle, place)
    assert names(place) == before


def test_a_file_in_its_place_is_refused(bundle, tmp_path):
    (tmp_path / "model").write_text("precious")
    with pytest.raises(ConfigError, match="is a file: give an empty or a new"):
        write_folder(bundle, tmp_path / "model")
    assert (tmp_path / "model").read_text() == "precious"


def test_a_link_to_a_folder_is_followed(folder, bundle, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    bundle.source = "newer"
    write_folder(bundle, link)
    assert link.is_symlink()
    assert read_folder(folder).source == "newer"


@pytest.mark.parametrize("older", [False, True])
def test_an_error_half_way_leaves_what_was_there(bundle, tmp_path, monkeypatch, older):
    place = tmp_path / "model"
    if older:
        write_folder(bundle, place)
    before = {path.name: path.read_bytes() for path in place.iterdir()} if older else None

    def full(folder):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("mmattn.model_folder.format.write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder(bundle, place)
    assert names(tmp_path) == (["model"] if older else [])
    if older:
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
