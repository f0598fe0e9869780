import pytest
from PIL import Image

from mmattn.data.dataset import CaptionDataset
from mmattn.data.folder import ImageFolder
from mmattn.errors import DataError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name, colour in (("b.png", "red"), ("a.JPG", "blue"), ("below/c.webp", "green")):
        Image.new("RGB", (6, 4), colour).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_all_images_below_a_folder_in_order(photos):
    images = ImageFolder(photos)
    assert isinstance(images, CaptionDataset)
    assert [images.key(i) for i in range(len(images))] == ["a.JPG", "b.png", "below/c.webp"]
    assert images.captions(0) == ()
    assert images.image(1).shape == (3, 4, 6)
    assert images.image(1)[:, 0, 0].tolist() == [255, 0, 0]


def test_a_link_out_of_the_folder_is_not_followed(photos, tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "secret.png")
    (photos / "z.png").symlink_to(tmp_path / "secret.png")
    (photos / "y.png").symlink_to(photos / "b.png")
    images = ImageFolder(photos)
    assert [images.key(i) for i in range(len(images))][-2:] == ["below/c.webp", "y.png"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(tmp_path / "absent")
