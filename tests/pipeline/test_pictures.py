"""Whatever a user calls images: the same picture by every route, in order, by its name."""

import io
from collections import OrderedDict
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.errors import DataError
from mmattn.pipeline.pictures import Picture, picture_of_file, pictures


@pytest.fixture
def photo(photos):
    return photos[1]


@pytest.fixture
def path(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "owl.png")
    return tmp_path / "owl.png"


@pytest.fixture
def opened():
    """Open a file with PIL, until the test ends."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Image.open(path))


def listed(images, **options):
    """Return (name, place, pixels [h, w, 3]) of every picture."""
    return [
        (p.name, p.place, p.read().permute(1, 2, 0).numpy()) for p in pictures(images, **options)
    ]


def test_one_picture_is_the_same_by_every_route(photo, path, opened, monkeypatch):
    monkeypatch.chdir(path.parent)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    routes = [
        *(path, str(path), "owl.png", path.parent, "*.png", f"{path.parent}/**/o*"),
        *(opened(path), Image.fromarray(photo), photo, photo / 255, tensor, tensor / 255),
        *(photo[None], tensor[None], [photo], (path,), {str(path)}, iter([photo])),
        *((opened(name) for name in [path]), OrderedDict({path: 1}).keys()),
    ]
    for route in routes:
        ((_, place, found),) = listed(route)
        assert place == 0
        assert np.array_equal(found, photo)


def test_names_are_paths_or_places(photo, path, opened, monkeypatch):
    monkeypatch.chdir(path.parent)
    given = ["owl.png", photo, path, opened("owl.png"), opened(b"owl.png")]
    names = [picture.name for picture in pictures([*given, Image.fromarray(photo), photo[None]])]
    assert names == ["owl.png", "image-1", str(path), "owl.png", "owl.png", "image-5", "image-6"]


def test_order_and_places_are_those_of_the_mix(photos, folder):
    batch = np.stack([photos[0], photos[0] // 2])
    given = [
        photos[3],
        [folder / "photo 0.png", (photos[2], batch)],
        folder / "deep",
        "nowhere.jpg",
    ]
    found = list(pictures(given))
    assert [p.place for p in found] == list(range(9))
    below = [f"{folder}/deep/er/photo {i}.png" for i in (1, 3, 5)]
    assert [p.name for p in found[5:]] == [*below, "nowhere.jpg"]
    read = [p.read().permute(1, 2, 0).numpy() for p in found[:-1]]
    expected = [photos[3], photos[0], photos[2], *batch, photos[1], photos[3], photos[5]]
    assert all(np.array_equal(a, b) for a, b in zip(read, expected, strict=True))


def test_batches_of_tensors_and_arrays_of_more_dimensions():
    batch = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    assert [p[2].tolist() for p in listed(batch)] == batch.permute(0, 2, 3, 1).tolist()
    assert len(listed(batch[None])) == 2
    assert len(listed(batch.permute(0, 2, 3, 1).numpy()[None, None])) == 2
    assert listed(batch[:0]) == []
    assert listed([]) == []


def test_a_picture_keeps_its_name_and_its_place(photo):
    own = Picture("mine", lambda: torch.zeros(3, 2, 2, dtype=torch.uint8), 41)
    assert [(p.name, p.place) for p in pictures([photo, own, photo])] == [
        ("image-0", 0),
        ("mine", 41),
        ("image-2", 2),
    ]
    assert next(pictures(own)) is own


def test_what_an_iterator_yields_may_change_when_it_goes_on(photo, path):
    """As the frames of a video do, the pages of one file, and files that are closed again."""

    def frames():
        buffer = np.zeros((4, 4, 3), np.uint8)
        for value in range(3):
            buffer[:] = value
            yield buffer
            buffer[:] = 255

    def tensors():
        buffer = torch.zeros(3, 4, 4, dtype=torch.uint8)
        for value in range(3):
            buffer.fill_(value)
            yield [buffer]

    def opened():
        for _ in range(3):
            with Image.open(path) as image:
                yield image

    class Camera:
        def __iter__(self):
            return frames()

    for several in (frames(), tensors(), Camera(), [Camera()]):
        found = list(pictures(several))
        assert [set(p.read().flatten().tolist()) for p in found] == [{0}, {1}, {2}]
    assert all(np.array_equal(found, photo) for _, _, found in listed(opened()))


def test_the_frames_of_an_animation_by_an_iterator(tmp_path):
    first, *rest = [Image.new("L", (3, 3), value) for value in (10, 20, 30)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)

    def frames(image):
        for number in range(image.n_frames):
            image.seek(number)
            yield image

    with Image.open(tmp_path / "a.gif") as image:
        found = [int(picture.max()) for _, _, picture in listed(frames(image))]
    assert found == [10, 20, 30]
    ((_, _, alone),) = listed(tmp_path / "a.gif")  # of a file: the first
    assert alone.max() == 10


def test_a_bad_one_from_an_iterator_is_found_where_it_is_read(photo):
    first, bad, last = pictures(iter([photo, photo[..., :2], photo]))
    with pytest.raises(DataError, match=r"image-1: an array of shape .* is no image"):
        bad.read()
    assert torch.equal(first.read(), last.read())


def test_a_list_is_read_only_when_its_turn_comes(path, photo):
    pixels = photo.copy()
    first, second = pictures([path, pixels])
    path.write_bytes(b"something else")
    pixels[:] = 7
    with pytest.raises(DataError, match="is not an image"):
        first.read()
    assert set(second.read().flatten().tolist()) == {7}


def test_an_endless_iterator_is_not_read_to_its_end(photo):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield photo

    found = pictures(endless())
    assert [next(found).place for _ in range(3)] == [0, 1, 2]
    assert len(asked) == 3


def test_the_limit_of_pixels_is_for_files_and_pil_images(path, opened):
    for one in (path, opened(path), str(path), picture_of_file(path, 0, 659)):
        (found,) = pictures(one, max_pixels=659)
        with pytest.raises(DataError, match="20 x 33 = 660 pixels; the limit is 659"):
            found.read()
    for one in (path, opened(path)):
        (found,) = pictures(one, max_pixels=660)
        assert found.read().shape == (3, 33, 20)


def test_a_file_of_a_job_has_its_place_there(path):
    found = picture_of_file(path, 7, 10**6)
    assert (found.name, found.place, found.read().shape) == (str(path), 7, (3, 33, 20))


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (None, "NoneType"),
        (b"a.jpg", "bytes"),
        ({"a.jpg": 1}, "dict"),
        (5, "int"),
        ([[0.5]], "float"),
        (io.BytesIO(b"GIF89a"), "BytesIO"),
        (np.zeros(3, np.uint8), "ndarray"),
        (np.array(5), "ndarray"),
        (torch.zeros(3), "Tensor"),
        (torch.tensor(1.0), "Tensor"),
        (Path, "type"),
        ([partial(int)], "partial"),
    ],
)
def test_what_is_no_image_is_refused_by_its_kind(images, kind):
    with pytest.raises(DataError, match=f"^{kind} is no image: give paths, a folder, PIL images"):
        list(pictures(images))
