"""`mmattn data check` and `mmattn pack` as typed: what is printed, and the exit codes."""

import json
import tarfile

import pytest
from PIL import Image

from mmattn.cli import data, data_config, pack
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    rows = []
    for i, split in enumerate(["train", "train", "val", "test"]):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,picture {i},{split}")
    (folder / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    return folder


def chosen(root):
    return ["data=caption_table", f"data.root={root}"]


def test_a_sound_set_ends_with_0(call_command, root):
    code, out, err = call_command(data, "check", *chosen(root), "--fast")
    assert (code, err) == (0, "")
    assert out.startswith("train: 2 images, 2 texts, tokens p50 ")
    assert out.endswith("8 x 8 to 8 x 8 pixels\nno problems\n")


@pytest.mark.fault("F15")
def test_problems_end_with_2_and_json_has_them_all(call_command, root):
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:-30])
    (root / "0.png").write_bytes(b"")
    code, out, err = call_command(data, "check", *chosen(root))
    assert code == 2
    assert "problem: train: 1.png: " in err
    assert "captions.csv:2: " in err
    assert out.endswith("2 problems\n")
    code, out, err = call_command(data, "check", "--json", *chosen(root))
    assert (code, err) == (2, "")
    assert len(json.loads(out)["problems"]) == 2


@pytest.mark.fault("F15")
def test_problems_that_are_too_many_to_list_are_counted(call_command, root, monkeypatch):
    monkeypatch.setattr(Problems, "kept", 1)
    for i in range(4):
        (root / f"{i}.png").unlink()
    code, out, err = call_command(data, "check", *chosen(root))
    assert code == 2
    assert err.endswith("problem: and 3 more\n")
    assert out.endswith("\n4 problems\n")
    assert json.loads(call_command(data, "check", "--json", *chosen(root))[1])["unlisted"] == 3


def test_mistakes_are_one_line(call_command, root, tmp_path):
    for command, arguments, said in [
        (data, ["check", "data=caption_tabel"], "data=caption_tabel: no such option; did you mean"),
        (data, ["check", "data.rot=x"], "data.rot: no such key"),
        (data, ["check", "--threads", "0"], "--threads 0: give 1 or more"),
        (
            data,
            ["check", "data.source._target_=os.system"],
            "data.source._target_='os.system' is not on the list",
        ),
        (data, ["check", "data.source.sise=3"], "data.source.sise: no such key"),
        (pack, chosen(root), "give the folder to write with --out"),
        (pack, [*chosen(root), "--out", tmp_path / "x", "--shard-size", "1T"], "--shard-size 1T"),
        (pack, [*chosen(root), "--out", "s3://bucket/x"], "s3://bucket/x: mmattn pack reads and"),
        (pack, ["--index", "https://u:p@host/x.tar"], "https://…@host/x.tar: mmattn pack reads"),
        (pack, ["--index", root, "--out", "x"], "--index takes shards and folders"),
        (pack, ["--index", root], "holds no .tar file"),
        (pack, [*chosen(root / "absent"), "--out", tmp_path / "x"], "is not a folder"),
        (pack, ["data=manifest", "--out", tmp_path / "x"], "is not a folder"),
    ]:
        code, out, err = call_command(command, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert said in err
        assert err.count("\n") == 1


def test_short_names_of_keys_are_those_of_training():
    config = data_config.compose_config(["data=coco", "data.num_workers=4"])
    assert config.data.loader.num_workers == 4


@pytest.mark.fault("F22")
def test_packages_are_allowed_on_the_command_line_only(tmp_path):
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\nallow_targets: [mypkg]\ndata:\n  _target_: mypkg.Module\n"
    (tmp_path / "experiment" / "own.yaml").write_text(own)
    with pytest.raises(ConfigError, match="counts on the command line only"):
        data_config.build_data(["experiment=own"], tmp_path)


def test_pack_then_check_then_index(call_command, root, tmp_path):
    packed = tmp_path / "packed"
    code, out, err = call_command(pack, *chosen(root), "--out", packed, "--shard-size", "20K")
    assert (code, err) == (0, "")
    assert "train/00000.tar\n" in out
    assert f"mmattn train data=shards data.root={packed}" in out
    before = {path: path.read_bytes() for path in packed.rglob("*.json")}
    for path in packed.rglob("*.index.json"):
        path.unlink()
    assert call_command(data, "check", "data=shards", f"data.root={packed}")[0] == 2
    code, out, err = call_command(pack, "--index", packed)
    assert (code, err) == (0, "")
    assert f"{packed}/val/00000.tar: 1 images\n" in out
    assert before == {path: path.read_bytes() for path in packed.rglob("*.json")}
    code, out, err = call_command(data, "check", "data=shards", f"data.root={packed}")
    assert (code, err) == (0, "")
    assert out.startswith("train: 2 images, 2 texts")


def test_an_index_is_the_same_whether_its_shard_or_a_folder_is_named(call_command, root, tmp_path):
    shard = tmp_path / "wds" / "a" / "00000.tar"
    shard.parent.mkdir(parents=True)
    with tarfile.open(shard, "w") as opened:
        for i in range(4):
            opened.add(root / f"{i}.png", f"{i}.png")
            opened.add(root / "captions.csv", f"{i}.txt")
    written = []
    for place in (shard, shard.parent, tmp_path / "wds"):
        assert call_command(pack, "--index", place)[0] == 0
        written.append(shard.with_name("00000.index.json").read_bytes())
        shard.with_name("00000.index.json").unlink()
    assert written[0] == written[1] == written[2]


def test_sets_with_labels_are_not_packed(call_command, root, tmp_path):
    splits = ["train", "train", "val", "test"]
    rows = [f"{i}.png,is it {i}?,{s},{'yes' if i else 'no'}" for i, s in enumerate(splits)]
    (root / "data.csv").write_text("\n".join(["image,text,split,label", *rows]))
    code, _, err = call_command(pack, "data=manifest", f"data.root={root}", "--out", tmp_path / "x")
    assert code == 2
    assert "Manifest has labels, and shards hold images with captions only" in err
    assert not (tmp_path / "x").exists()
