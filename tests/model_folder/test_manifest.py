"""The manifest finds what no format of weights does: one flipped bit."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmattn.errors import CheckpointError
from mmattn.model_folder.layout import CARD, MANIFEST, VOUCHED
from mmattn.model_folder.manifest import check_manifest, write_manifest


def list_also(folder, name):
    """Let the manifest name one more file."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    content["files"][name] = {"size": 6, "sha256": "0" * 64}
    path.write_text(json.dumps(content))


def test_a_folder_as_it_was_written_is_vouched_for(folder):
    assert check_manifest(folder) == set(VOUCHED)


@pytest.mark.fault("F31")
@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.sampled_from(VOUCHED), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_every_flipped_bit_is_found(folder, name, place, bit):
    path = folder / name
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} was altered: it has another SHA-256"):
        check_manifest(folder)
    path.write_bytes(whole)
    check_manifest(folder)


@pytest.mark.fault("F31")
def test_a_file_that_was_cut_off_is_told_by_both_sizes(folder):
    path = folder / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=f"it has {size - 10:,} bytes, {size:,} were written"):
        check_manifest(folder)


def test_all_that_is_wrong_stands_in_one_line_with_remedies(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "two\nlines").mkdir()
    with pytest.raises(CheckpointError) as caught:
        check_manifest(folder)
    said = str(caught.value)
    assert "\n" not in said
    for part in ("tokenizer.json is missing", "config.json was altered", "'two\\nlines'"):
        assert part in said
    assert "'pytorch_model.bin' is not in manifest.json" in said
    assert "copy the folder again" in said
    assert "move what is not of this model elsewhere" in said


def test_many_foreign_files_are_counted(folder):
    for i in range(9):
        (folder / f"{i}.txt").touch()
    with pytest.raises(
        CheckpointError, match=r"'3\.txt' is not in manifest\.json and 5 more: move"
    ):
        check_manifest(folder)


def test_foreign_files_may_be_let_be_but_altered_ones_never(folder):
    (folder / "example.png").touch()
    assert check_manifest(folder, alone=False) == set(VOUCHED)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json was altered"):
        check_manifest(folder, alone=False)


def test_the_card_may_be_edited_or_left_out(folder):
    (folder / CARD).write_text("my own words")
    check_manifest(folder)
    (folder / CARD).unlink()
    check_manifest(folder)


def test_what_version_control_and_downloads_leave_is_no_foreign_file(folder):
    (folder / ".git").mkdir()
    (folder / ".gitattributes").touch()
    (folder / ".cache").mkdir()
    check_manifest(folder)


def test_a_copy_through_links_is_the_same(folder, tmp_path):
    """As the hub's cache stores files."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    assert check_manifest(copy) == set(VOUCHED)


@pytest.mark.fault("F31")
@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", "", ".git", CARD]
)
def test_only_names_of_files_in_the_folder_are_followed(folder, name):
    (folder.parent / "secret").write_text("secret")
    list_also(folder, name)
    with pytest.raises(CheckpointError, match="is no name of a file in this folder"):
        check_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{",
        '{"files": 3}',
        '{"files": {"a": 3}}',
        '{"files": {"a": {}}}',
        "[" * 99999,
    ],
)
def test_what_is_no_manifest_is_named(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: not the manifest of a model fold"):
        check_manifest(folder)


def test_a_manifest_of_other_bytes_is_no_manifest(folder):
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not the manifest"):
        check_manifest(folder)


def test_a_folder_in_the_place_of_a_file_is_missing(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        check_manifest(folder)


def test_the_same_files_have_the_same_manifest(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = (folder / MANIFEST).read_bytes()
    write_manifest(copy)
    assert (copy / MANIFEST).read_bytes() == before
