"""Packing a set and reading it back: the same samples, the same batches, the same bytes."""

import io
import json
import pickle
import shutil
import tarfile

import fsspec
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.dataset import CaptionDataset, CaptionSource, Splits, by_split
from mmattn.data.flickr import Flickr8k, Photos
from mmattn.data.glyphs.source import Glyphs
from mmattn.data.image_cache import ImageCache
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.shards import pack as packing
from mmattn.data.shards import tar
from mmattn.data.shards.index import index_name
from mmattn.data.shards.pack import pack, write_index
from mmattn.data.shards.source import Shards
from mmattn.data.shards.storage import LocalFolder
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError, ReadError

SHARD = 2 * 10240


def photos(folder, names, size=(40, 30)):
    """Photos of noise, some of them no JPEG, with one to three captions."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(len(names))
    for name in names:
        pixels = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(folder / name)
    texts = [
        tuple(f"ünïcode {n} of {name}" for n in range(1 + i % 3)) for i, name in enumerate(names)
    ]
    return Photos(folder, tuple(names), tuple(texts))


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    train = photos(folder, [*(f"a/{i} b.c.jpg" for i in range(12)), "x.png", "y.bmp", "z.webp"])
    val, test = photos(folder, ["v.jpg", "v2.gif"]), photos(folder, ["t.tif"])
    return Splits(train, val, {"": test, "far/off": photos(folder, ["w.jpg", "w2.gif"])})


@pytest.fixture(scope="module")
def packed(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "new"
    pack(splits, folder, SHARD)
    return folder


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(root, **options):
    with pytest.raises(DataError) as caught:
        Shards(root, **options).splits()
    return str(caught.value)


def same(first: Splits, second: Splits):
    sets, others = by_split(first), by_split(second)
    assert list(sets) == list(others)
    for name, dataset in sets.items():
        other: CaptionDataset = others[name]
        assert len(dataset) == len(other)
        for i in range(len(dataset)):
            assert dataset.key(i) == other.key(i)
            assert dataset.captions(i) == other.captions(i)
            assert torch.equal(dataset.image(i), other.image(i))


def test_what_is_read_is_what_was_packed(splits, packed):
    source: CaptionSource = Shards(packed)
    read = source.splits()
    same(splits, read)
    assert read.notes == ()
    travelled = pickle.loads(pickle.dumps(read.train))
    assert torch.equal(travelled.image(3), splits.train.image(3))


def test_shards_are_tar_files_that_webdataset_reads(splits, packed):
    shards = sorted(packed.glob("train/*.tar"))
    assert len(shards) > 2
    assert all(shard.stat().st_size <= SHARD for shard in shards)
    assert not (packed / "unfinished.json").exists()
    members = []
    for shard in shards:
        with tarfile.open(shard) as opened:
            members += opened.getmembers()
    assert [m.name for m in members[:4]] == [
        "000000000.jpg",
        "000000000.json",
        "000000001.jpg",
        "000000001.json",
    ]
    assert {(m.mtime, m.uid, m.uname, m.mode) for m in members} == {(0, 0, "", 0o644)}
    with tarfile.open(shards[0]) as shard:
        image, text = (shard.extractfile(f"000000000.{e}").read() for e in ("jpg", "json"))
    assert image == splits.train.path(0).read_bytes()
    assert json.loads(text) == {"key": "a/0 b.c.jpg", "captions": list(splits.train.captions(0))}


def test_the_same_data_give_the_same_bytes(splits, packed, tmp_path):
    pack(splits, tmp_path / "again", SHARD)
    assert files(tmp_path / "again") == files(packed)


def test_a_call_that_was_stopped_goes_on(splits, packed, tmp_path, monkeypatch):
    class Stopped(BaseException):
        pass

    def stop(shard):
        if shard == "train/00001.tar":
            raise Stopped

    with pytest.raises(Stopped):
        pack(splits, tmp_path / "new", SHARD, done=stop)
    assert "dataset.json" not in files(tmp_path / "new")
    assert "mmattn pack writes it when it is done" in refused(tmp_path / "new")
    (tmp_path / "new" / "train" / "00001.index.json").unlink()  # stopped between its two files
    written = []
    write = packing._write_shard
    monkeypatch.setattr(
        packing, "_write_shard", lambda path, *rest: written.append(rest[1]) or write(path, *rest)
    )
    pack(splits, tmp_path / "new", SHARD)
    assert files(tmp_path / "new") == files(packed)
    assert 0 not in written[:1]  # the first shard was not written again


def test_a_shard_has_no_more_members_than_a_reader_takes(splits, tmp_path, monkeypatch):
    for module in (packing, tar):
        monkeypatch.setattr(module, "MAX_MEMBERS", 11)
    found = pack(splits, tmp_path / "new", 1 << 20)
    assert found.shards["train"] == [f"train/0000{n}.tar" for n in range(3)]  # 5 of 15 in each
    same(splits, Shards(tmp_path / "new").splits())


@pytest.mark.parametrize("when", ["at once", "later"])
def test_what_a_killed_call_left_half_written_is_removed(splits, packed, tmp_path, when):
    folder, left = tmp_path / "new", f".{'0a' * 16}.tmp"
    if when == "later":
        with pytest.raises(ZeroDivisionError):
            pack(splits, folder, SHARD, done=lambda shard: 1 / 0)
        (folder / "train" / left).write_bytes(b"half a shard")
    folder.mkdir(exist_ok=True)
    (folder / left).write_bytes(b"half a claim")
    pack(splits, folder, SHARD)
    assert files(folder) == files(packed)


def test_a_shard_that_a_loss_of_power_took_is_written_anew(splits, packed, tmp_path):
    with pytest.raises(ZeroDivisionError):
        pack(splits, tmp_path / "new", SHARD, done=lambda shard: 1 / 0)
    (tmp_path / "new" / "train" / "00000.tar").unlink()
    pack(splits, tmp_path / "new", SHARD)
    assert files(tmp_path / "new") == files(packed)


def test_other_data_do_not_go_on_in_the_same_folder(splits, packed, tmp_path):
    with pytest.raises(ConfigError, match="is packed already: give a new one"):
        pack(splits, packed, SHARD)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="is no empty folder"):
        pack(splits, tmp_path / "full")
    with pytest.raises(ConfigError, match="shards of 0 bytes"):
        pack(splits, tmp_path / "new", 0)
    with pytest.raises(ZeroDivisionError):
        pack(splits, tmp_path / "new", SHARD, done=lambda shard: 1 / 0)
    with pytest.raises(ConfigError, match="begun with other data, or other sizes"):
        pack(splits, tmp_path / "new", 2 * SHARD)


@pytest.mark.fault("F13")
def test_a_file_that_is_no_image_is_not_packed(splits, tmp_path):
    bad = photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    bad.path(1).write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"b\.jpg is not an image"):
        pack(Splits(bad, splits.val, {}), tmp_path / "packed")
    assert [name for name in files(tmp_path / "packed") if not name.endswith(".json")] == []


@pytest.mark.fault("F16")
def test_a_text_that_no_file_can_hold_is_not_packed(splits, tmp_path):
    torn = Photos(splits.train.folder, splits.train.names[:1], (("\ud800",),))
    with pytest.raises(DataError, match=r"'a/0 b\.c\.jpg': .* half a surrogate pair \('\\ud800'"):
        pack(Splits(torn, splits.val, {}), tmp_path / "packed")


def test_pictures_that_are_drawn_are_packed_without_loss(tmp_path):
    splits = Glyphs(
        16, ["DejaVuSans", "DejaVuSansMono"], ["DejaVuSerif"], ["GREEK"], ["Lu"]
    ).splits()
    pack(splits, tmp_path / "glyphs")
    same(splits, Shards(tmp_path / "glyphs").splits())


def module(source, **options):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    augmented = [v2.RandomResizedCrop((24, 24), antialias=True), v2.RandomHorizontalFlip()]
    return CaptionDataModule(
        source=source,
        image_size=(24, 24),
        train_transform=v2.Compose([*augmented, ToNormalised(mean, std)]),
        eval_transform=v2.Compose([v2.Resize((24, 24), antialias=True), ToNormalised(mean, std)]),
        tokenizer=TokenizerOptions(path=None, vocab_size=300),
        loader=LoaderOptions(batch_size=4, eval_batch_size=4, captions_per_image=2, **options),
        max_length=64,
        seed=3,
    )


def equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.keys, one.references) == (other.keys, other.references)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.tokens, other.tokens)


class Given:
    def __init__(self, splits):
        self._splits = splits

    def splits(self):
        return self._splits


def test_training_batches_are_the_same_bit_for_bit(splits, packed):
    loose, shards = module(Given(splits)), module(Shards(packed, open_files=1))
    for data in (loose, shards):
        data.read()
    first, second = loose.train_dataloader(), shards.train_dataloader()
    equal([*first, *first], [*second, *second])  # two epochs
    equal(list(loose.val_dataloader()), list(shards.val_dataloader()))


@pytest.mark.slow
@pytest.mark.fault("F2")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_the_same_and_a_run_goes_on_in_the_middle_of_an_epoch(splits, packed):
    whole = module(Given(splits)).train_dataloader()
    expected = [*whole, *whole]
    data = module(Shards(packed), num_workers=2)
    loader = data.train_dataloader()
    batches = iter(loader)
    begun = [next(batches), next(batches)]
    state = loader.state_dict()
    del batches, loader, data
    later = module(Shards(packed), num_workers=2)
    later.load_state_dict(state)
    rest = later.train_dataloader()
    equal([*begun, *rest, *rest], expected)


# ------------------------------------------------------------- shards of other programs


def foreign(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))


@pytest.fixture
def webdataset(tmp_path, splits):
    """Three shards as img2dataset writes them, whose numbers begin anew in each."""
    image = splits.train.path(0).read_bytes()
    for n in range(3):
        members = [
            member
            for i in range(4)
            for member in (
                (f"{i:09}.jpg", image),
                (f"{i:09}.json", b'{"url": "x", "key": "%09d"}' % i),
                (f"{i:09}.txt", f"Caption {i} of {n}".encode()),
            )
        ]
        foreign(tmp_path / "wds" / f"{n:05}.tar", members)
    return tmp_path / "wds"


def test_shards_of_other_programs(webdataset):
    for shard in webdataset.glob("*.tar"):
        write_index(shard)
    patterns = {"train": "{00000..00001}.tar", "test": ["00002.tar"]}
    read = Shards(webdataset, splits=patterns, val_fraction=0.25, lower_case=True).splits()
    assert [len(read.train), len(read.val), len(read.test[""])] == [6, 2, 4]
    assert read.test[""].key(0) == "00002/000000000"
    assert read.test[""].captions(1) == ("caption 1 of 2",)
    assert read.test[""].image(3).shape == (3, 40, 30)
    assert "divided here with seed 0" in read.notes[0]


def test_at_a_url(webdataset, packed, splits):
    fs = fsspec.filesystem("memory")
    fs.put(str(packed), "/packed", recursive=True)
    same(splits, Shards("memory://packed").splits())
    listed = Shards("memory://packed", splits={"train": "train/*.tar", "val": "val/*.tar"}).splits()
    assert len(listed.train) == len(splits.train)
    fs.rm("/packed", recursive=True)


def test_every_shard_without_an_index_is_named(webdataset):
    write_index(webdataset / "00001.tar")
    message = refused(webdataset, splits={"train": "*.tar"})
    assert "split train) has 2 problems" in message
    assert f"Write it: mmattn pack --index {webdataset}/00000.tar" in message
    assert "00002" in message


def test_the_remedy_at_a_url_is_to_index_a_copy(webdataset):
    fs = fsspec.filesystem("memory")
    fs.put(str(webdataset), "/wds", recursive=True)
    message = refused("memory://wds", splits={"train": "00000.tar"})
    fs.rm("/wds", recursive=True)
    assert "mmattn pack --index 00000.tar, and upload the 00000.index.json that this" in message


@pytest.mark.fault("F18")
def test_samples_of_other_programs_are_told_apart_by_their_shards(webdataset, tmp_path):
    root, (first, second) = tmp_path / "both", [tmp_path / "both" / f"{k}/00000.tar" for k in "ab"]
    for shard in (first, second):
        shard.parent.mkdir(parents=True)
        shutil.copy(webdataset / "00000.tar", shard)
        write_index(shard)
    read = Shards(root, {"train": "a/00000.tar", "val": "b/00000.tar"}).splits()
    keys = [each.key(0) for each in (read.train, read.val)]
    assert keys == ["a/00000/000000000", "b/00000/000000000"]
    alone = Shards(first.parent, {"train": "00000.tar"}, val_fraction=0.25).splits()
    assert {alone.train.key(0).partition("/")[0], alone.val.key(0).partition("/")[0]} == {"00000"}


@pytest.mark.fault("F20")
@pytest.mark.fault("F21")
def test_a_shard_with_something_forbidden_gets_no_index(tmp_path):
    foreign(tmp_path / "x.tar", [("1.jpg", b"x"), ("1.pyd", b"x"), ("../2.jpg", b"x")])
    with pytest.raises(DataError) as caught:
        write_index(tmp_path / "x.tar")
    assert "is a pickle" in str(caught.value)
    assert "holds '..'" in str(caught.value)
    assert not (tmp_path / "x.index.json").exists()
    foreign(tmp_path / "y.tar", [("README", b"")])
    with pytest.raises(DataError, match="holds no image"):
        write_index(tmp_path / "y.tar")
    for name in ("x.tar.gz", "x.zip"):
        with pytest.raises(ConfigError, match=r"unpack it to a \.tar|ends in \.tar"):
            write_index(tmp_path / name)
    with pytest.raises(DataError, match=r"absent\.tar cannot be read"):
        write_index(tmp_path / "absent.tar")


def test_samples_without_captions_are_left_out_and_told(tmp_path, splits):
    image = splits.train.path(0).read_bytes()
    foreign(tmp_path / "x.tar", [("1.jpg", image), ("2.jpg", image), ("2.txt", b" ")])
    foreign(
        tmp_path / "y.tar",
        [(f"{i}.{e}", d) for i in "12" for e, d in (("jpg", image), ("txt", b"c"))],
    )
    for name in "xy":
        write_index(tmp_path / f"{name}.tar")
    read = Shards(tmp_path, {"train": ["x.tar", "y.tar"]}, val_fraction=0.5).splits()
    assert len(read.train) + len(read.val) == 2
    assert read.notes[0] == (
        "Split train: images without a caption, left out: 2 (x.tar:1.jpg, x.tar:2.jpg)"
    )
    assert "has no image with a caption" in refused(tmp_path, splits={"train": "x.tar"})


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (
            {"train": "*.tar", "val": "00000.tar"},
            "00000.tar:000000002.jpg: '00000/000000002' is in split val, and in train (00000.tar:",
        ),
        ({"train": ["00000.tar", "00000.tar"]}, "'00000/000000000' again, first 00000.tar:"),
        ({"train": ["./00000.tar", "00000.tar"]}, "'00000/000000000' again, first ./00000.tar:"),
    ],
)
def test_a_shard_in_two_splits_or_twice_in_one(webdataset, chosen, said):
    for shard in webdataset.glob("*.tar"):
        write_index(shard)
    message = refused(webdataset, splits=chosen)
    assert f"{webdataset} has 4 problems:" in message
    assert said in message


def test_test_sets_may_share_a_shard(webdataset):
    for shard in webdataset.glob("*.tar"):
        write_index(shard)
    chosen = {"train": "00000.tar", "test": "{00001..00002}.tar", "test_hard": "00002.tar"}
    read = Shards(webdataset, splits=chosen, val_fraction=0.25).splits()
    assert [len(each) for each in read.test.values()] == [8, 4]


# --------------------------------------------------------------------------- damage


@pytest.mark.fault("F20")
def test_a_shard_that_changed_after_it_was_indexed(copy):
    shard = copy / "train" / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    Shards(copy).splits()
    message = refused(copy, verify=True)
    assert "train/00000.tar has the SHA-256 sum" in message
    shard.write_bytes(data + bytes(512))
    assert "bytes and had" in refused(copy)
    train = Shards(copy, splits={"train": "train/00001.tar", "val": "val/*.tar"}).splits().train
    (copy / "train" / "00001.tar").write_bytes(data[:600])
    with pytest.raises(DataError, match="cut short or changed"):
        train.image(0)


def test_storage_that_fails_is_no_fault_of_a_shard(copy, monkeypatch):
    def fail(self, name):
        raise ReadError(f"{name}: reset")

    monkeypatch.setattr(LocalFolder, "read", fail)
    source = Shards(copy, splits={"train": "train/*.tar"})
    with pytest.raises(ReadError, match=r"^train/0000.\.index\.json: reset$"):
        source.splits()


@pytest.mark.fault("F20")
def test_a_damaged_image_is_named_with_its_shard(copy):
    shard = copy / "val" / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[512:612] = bytes(100)
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"val/00000\.tar:000000000\.jpg is not an image"):
        Shards(copy).splits().val.image(0)


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(format=2), "format 2, and this version of mmattn reads 1"),
        (lambda v: v.pop("bytes"), "no field 'bytes'"),
        (lambda v: v["samples"][0].update(key=3), "samples[0]: 'key' is an integer"),
        (lambda v: v["samples"][0].update(captions=["a", 3]), "samples[0]: 'captions' holds"),
        (lambda v: v["samples"][0].update(key="\ud800"), "samples[0]: 'key' is '\\ud800', which"),
        (lambda v: v["samples"][0].update(key=None, member="README"), "names no sample"),
        (lambda v: v["samples"][0].update(offset=-5), "samples[0]: "),
        (lambda v: v["samples"][0].update(size=1 << 40), "bytes from offset"),
        (lambda v: v["samples"][0].update(captions=["\ud800"]), "half a surrogate pair"),
        (lambda v: v["samples"].append(v["samples"][0] | {"member": "2"}), "again, first train/"),
        (lambda v: v["samples"].append([]), "a list, where an object"),
    ],
)
def test_an_index_that_was_altered(copy, change, said):
    index = copy / "train" / "00000.index.json"
    value = json.loads(index.read_text())
    change(value)
    index.write_text(json.dumps(value))
    message = refused(copy)
    assert said in message
    remedies = "mmattn pack --index", "Pack these shards anew", "belongs to one split"
    assert any(remedy in message for remedy in remedies)


@pytest.mark.fault("F15")
@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 bytes|no JSON"),
        ("[", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"format": 1}', "no field 'splits'"),
        ('{"format": 9, "splits": {}}', "format 9"),
        ('{"format": 1, "splits": {"train": "a.tar"}}', "must give each split a list"),
        ('{"format": 1, "splits": {"train": [3]}}', "must give each split a list"),
        ('{"format": 1, "splits": {"val": ["a.tar"]}}', "and no train"),
        ('{"format": 1, "splits": {"train": ["../../x.tar"]}}', r"holds '\.\.'"),
        ('{"format": 1, "splits": {"train": ["/etc/x.tar"]}}', "is absolute"),
        ('{"format": 1, "splits": {"train": ["pipe:touch x"]}}', r"ends in \.tar"),
    ],
)
def test_a_list_of_shards_that_was_altered(copy, text, said):
    (copy / "dataset.json").write_text(text)
    with pytest.raises((DataError, ConfigError), match=said):
        Shards(copy).splits()


def test_the_index_lies_beside_its_shard():
    assert index_name("a/b.tar") == "a/b.index.json"


# ------------------------------------------------------------------- the real photos


def test_images_of_shards_are_kept_decoded_until_their_shard_changes(copy, splits, tmp_path):
    cache = ImageCache(tmp_path / "cache", short_side=1000)
    kept = cache(Shards(copy).splits().train)
    assert all(torch.equal(kept.image(i), splits.train.image(i)) for i in range(len(kept)))
    assert len(list((tmp_path / "cache").glob("*.rgb"))) == 1
    changed = photos(tmp_path / "others", [f"{i}.png" for i in range(len(kept))])
    shutil.rmtree(copy)
    pack(Splits(changed, splits.val, splits.test), copy, SHARD)
    kept = cache(Shards(copy).splits().train)
    assert all(torch.equal(kept.image(i), changed.image(i)) for i in range(len(kept)))


@pytest.mark.slow
def test_a_part_of_the_real_flickr8k(data_root, tmp_path):
    root = data_root / "flickr8k"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    whole = Flickr8k(root).splits()
    part = {
        split: Photos(each.folder, each.names[:60], each.texts[:60])
        for split, each in by_split(whole).items()
    }
    splits = Splits(part["train"], part["val"], {"": part["test"]})
    found = pack(splits, tmp_path / "packed", 1 << 18)
    assert len(found.shards["train"]) > 1
    same(splits, Shards(tmp_path / "packed", verify=True).splits())
