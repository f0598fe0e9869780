"""Flickr8k: 8,000 photos with five captions each, and the official train, val and test split.

Hodosh, Young, Hockenmaier, "Framing Image Description as a Ranking Task", JAIR 47, 2013.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.dataset import Splits
from mmattn.data.findings import identical_files, some
from mmattn.data.images import check_images, inside, read_image
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import ConfigError, DataError

TOKEN_FILE = "Flickr8k.token.txt"
SPLIT_FILES: Mapping[str, str] = MappingProxyType(
    {
        "train": "Flickr_8k.trainImages.txt",
        "val": "Flickr_8k.devImages.txt",
        "test": "Flickr_8k.testImages.txt",
    }
)
# "Flicker8k" is the spelling of the authors' archive.
IMAGE_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset")
HOW_TO_GET = (
    "Flickr8k comes in two archives, Flickr8k_Dataset.zip (photos) and Flickr8k_text.zip (captions "
    "and split lists), free for non-commercial research: ask for them by the form on "
    "http://nlp.cs.illinois.edu/HockenmaierGroup/8k-pictures.html or take them from the release "
    "'Flickr8k' of https://github.com/jbrownlee/Datasets; unpack both and give the folder as root. "
    "A copy with captions.txt instead of Flickr8k.token.txt lacks the official split lists."
)

_TAG = re.compile(r"[^/\\\t]*[^/\\\t\s]#[0-9]+")


@dataclass(frozen=True)
class Photos:
    """A `CaptionDataset` of photo files: names in `folder`, each with its captions."""

    folder: Path
    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.names)

    def key(self, index: int) -> str:
        """Return the photo's file name."""
        return self.names[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the photo's captions in the order of the caption file."""
        return self.texts[index]

    def path(self, index: int) -> Path:
        """Return the photo's file. Raises `DataError` if it lies outside the folder."""
        return inside(self.folder, self.names[index])

    def image(self, index: int) -> Tensor:
        """Read the photo: uint8 RGB [3, height, width]. Raises `DataError` if it is damaged."""
        return read_image(self.path(index))


class Flickr8k:
    """The `CaptionSource` that reads Flickr8k as its authors distribute it.

    `root` is the folder with everything. `token_file`, `image_folder` and the values of `splits`
    (split lists by split: train, val, test) are paths inside it; without `image_folder`, the one
    folder of `IMAGE_FOLDERS` that exists is taken. `lower_case` writes captions small.
    """

    def __init__(
        self,
        root: str | Path,
        token_file: str = TOKEN_FILE,
        image_folder: str | None = None,
        splits: Mapping[str, str] = SPLIT_FILES,
        lower_case: bool = True,
        encoding: str = "utf-8",
    ):
        if set(splits) != set(SPLIT_FILES):
            raise ConfigError(f"splits needs the keys train, val and test, not {sorted(splits)}.")
        self.root = Path(root).expanduser().absolute()
        self.token_file = token_file
        self.image_folder = image_folder
        self.split_files = dict(splits)
        self.lower_case = lower_case
        self.encoding = encoding

    def splits(self) -> Splits:
        """Read captions and lists and check them, and the header of every photo that is used.

        Raises `DataError` for what would make results wrong (a listed photo without a file, a photo
        in two splits, a malformed line); what is only odd is left out and told in `notes`.
        """
        try:
            folder = self._find_files()
            files = {path.name for path in folder.iterdir() if path.is_file()}
        except OSError as error:
            raise DataError(
                f"{self.root} cannot be read: {error}. Check names and rights."
            ) from error
        notes: list[str] = []
        gathered = Gathered()
        captions = self._captions(gathered, notes)
        lists = {
            split: self._list(file, gathered, notes) for split, file in self.split_files.items()
        }
        self._check_one_split(lists, gathered)
        self._check_files(lists, files, folder, gathered)
        notes += _left_out(captions, lists, files)
        chosen = {
            split: [n for n in names if captions.get(n) and n in files]
            for split, names in lists.items()
        }
        if not gathered:
            self._check_not_empty(chosen)
        paths = _paths(folder, chosen, gathered)
        notes += identical_files(paths, {name: split for split in chosen for name in chosen[split]})
        sets = {
            split: Photos(folder, tuple(names), tuple(tuple(captions[n]) for n in names))
            for split, names in chosen.items()
        }
        splits = Splits(sets["train"], sets["val"], {"": sets["test"]}, tuple(notes))
        gathered.raise_if_any(splits)
        return splits

    def _captions(self, gathered: Gathered, notes: list[str]) -> dict[str, list[str]]:
        """Return photo name -> captions, as far as the file can be read."""
        captions: dict[str, list[str]] = {}
        with gathered.step():
            path = self.root / self.token_file
            _read_captions(captions, path, self.encoding, self.lower_case, notes)
        return captions

    def _list(self, file: str, gathered: Gathered, notes: list[str]) -> dict[str, int]:
        """Return photo name -> line number; nothing where the file cannot be read."""
        with gathered.step():
            return _read_list(self.root / file, self.encoding, notes)
        return {}

    def _find_files(self) -> Path:
        """Return the image folder, or raise one `DataError` naming everything that is missing."""
        if not self.root.is_dir():
            raise DataError(f"root={str(self.root)!r} is not a folder. {HOW_TO_GET}")
        wanted = {"token_file": self.token_file}
        wanted |= {f"splits.{split}": file for split, file in self.split_files.items()}
        missing = [
            f"  {key}={file}{_nearest(self.root, file)}"
            for key, file in wanted.items()
            if not (self.root / file).is_file()
        ]
        folders = self._image_folders()
        if not folders:
            missing.append(f"  image_folder={self.image_folder or ' or '.join(IMAGE_FOLDERS)}")
        if missing:
            empty = "" if any(self.root.iterdir()) else " (the folder is empty)"
            lines = "\n".join([f"{self.root} lacks{empty}:", *missing])
            raise DataError(f"{lines}\nPoint root or these keys to the right place. {HOW_TO_GET}")
        if len(folders) > 1:
            names = [folder.name for folder in folders]
            raise DataError(
                f"{self.root} has {' and '.join(names)}: choose one, as in image_folder={names[0]}."
            )
        return folders[0]

    def _image_folders(self) -> list[Path]:
        """Return the image folders that exist, each once where the system ignores case."""
        names = [self.image_folder] if self.image_folder else IMAGE_FOLDERS
        folders = [self.root / name for name in names if (self.root / name).is_dir()]
        return [f for i, f in enumerate(folders) if not any(map(f.samefile, folders[:i]))]

    def _check_one_split(self, lists: Mapping[str, dict[str, int]], gathered: Gathered) -> None:
        """Gather the photos that are in two lists."""
        for first, second in combinations(lists, 2):
            problems = Problems(self.root / self.split_files[second])
            for name, line in lists[second].items():
                if name in lists[first]:
                    other = f"{self.split_files[first]}:{lists[first][name]}"
                    problems.add(line, f"{excerpt(name)} is also in split {first} ({other})")
            with gathered.step():
                problems.raise_if_any(
                    "A photo belongs to one split: delete it from the other list."
                )

    def _check_files(
        self,
        lists: Mapping[str, dict[str, int]],
        files: Collection[str],
        folder: Path,
        gathered: Gathered,
    ) -> None:
        """Gather the listed photos that have no file in `folder`."""
        for split, names in lists.items():
            problems = Problems(self.root / self.split_files[split])
            for name, line in names.items():
                if name not in files:
                    problems.add(line, f"{excerpt(name)} is no file in {folder.name}")
            with gathered.step():
                problems.raise_if_any(
                    f"Files in {folder}: {some(sorted(files))}. Unpack the photos again, set "
                    f"image_folder, or delete these lines."
                )

    def _check_not_empty(self, chosen: Mapping[str, list[str]]) -> None:
        """Raise `DataError` if a split has no captioned photo."""
        for split, names in chosen.items():
            if not names:
                raise DataError(
                    f"Split {split} has no photo with a caption: {self.split_files[split]} and "
                    f"{self.token_file} in {self.root} do not belong together. Check both files."
                )


def _paths(folder: Path, chosen: Mapping[str, list[str]], gathered: Gathered) -> dict[str, Path]:
    """Return photo name -> file of those that are images and lie in the folder."""
    paths: dict[str, Path] = {}
    problems = Problems(folder)
    for name in (name for names in chosen.values() for name in names):
        try:
            paths[name] = inside(folder, name)
        except DataError as error:
            problems.note(str(error))
    with gathered.step():
        problems.raise_if_any("Put the photos themselves into the folder.")
    with gathered.step():
        check_images(paths.values())
    return paths


def _read_captions(
    captions: dict[str, list[str]],
    path: Path,
    encoding: str,
    lower_case: bool,
    notes: list[str],
) -> None:
    """Fill photo name -> captions; a photo whose captions are all empty keeps an empty list."""
    problems = Problems(path)
    seen: dict[str, int] = {}
    empty: list[str] = []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip():
            continue
        tag, _, text = line.partition("\t")
        fault = _fault(line, tag, seen)
        if fault:
            problems.add(number, fault)
            continue
        seen[tag] = number
        kept = captions.setdefault(tag.rpartition("#")[0], [])
        caption = clean_caption(text.lower() if lower_case else text)
        if caption is None:
            empty.append(f"line {number}")
        else:
            kept.append(caption)
    if empty:
        notes.append(f"{path.name}: empty captions, left out: {some(empty)}")
    problems.raise_if_any("Each line must read NAME#NUMBER, a tab, and the caption.")


def _fault(line: str, tag: str, seen: Mapping[str, int]) -> str | None:
    """Return what is wrong with a line of the caption file that begins with `tag`, or None."""
    if tag == line:
        return f"no tab between name and caption: {excerpt(line)}"
    if not _TAG.fullmatch(tag):
        return f"no image name with #number before the tab: {excerpt(tag)}"
    if tag in seen:
        return f"{excerpt(tag)} again, first on line {seen[tag]}"
    return None


def _read_list(path: Path, encoding: str, notes: list[str]) -> dict[str, int]:
    """Return photo name -> line number, in the order of the list, each name once."""
    names: dict[str, int] = {}
    repeated = []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        name = line.strip()
        if name in names:
            repeated.append(name)
        elif name:
            names[name] = number
    if repeated:
        notes.append(f"{path.name}: repeated lines, left out: {some(repeated)}")
    return names


def _left_out(
    captions: Mapping[str, list[str]], lists: Mapping[str, Collection[str]], files: set[str]
) -> list[str]:
    """Return a note for each kind of name that no split can use."""
    listed = {name for names in lists.values() for name in names}
    captioned = {name for name, texts in captions.items() if texts}
    kinds = {
        "Names with captions but no image file": captioned - files,
        "Captioned images in no split list": (captioned & files) - listed,
        "Listed images without a caption": listed - captioned,
        "Other files in the image folder without a caption": files - captioned - listed,
    }
    return [f"{kind}, left out: {some(sorted(names))}" for kind, names in kinds.items() if names]


def _nearest(root: Path, file: str) -> str:
    """Return a hint at text files in `root` or one folder below whose names resemble `file`."""
    found = [*sorted(root.glob("*/*.txt")), *root.glob("*.txt")]
    paths = {path.name: path.relative_to(root).as_posix() for path in found}
    names = difflib.get_close_matches(Path(file).name, paths, n=2)
    return f" (there is {' and '.join(paths[name] for name in names)})" if names else ""
