"""A folder for every class: the oldest format of labelled images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from mmattn.data.findings import listing, nearest, some
from mmattn.data.folder import SUFFIXES
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.division import check_shares, divide, held_out_note
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.errors import DataError

SPLIT_FOLDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
)
HOW_TO_GET = (
    "It has to hold root/train/<class>/…, root/val/<class>/… and root/test/<class>/… with images "
    "in them, or root/<class>/… alone, of which validation and test sets are then held out."
)


class ClassFolders:
    """The `LabelledSource` that reads images from a folder for every class.

    The classes are the folders in root/train, and the folders in root where there is no such
    folder; images may lie at any depth in them. Names stay text, "10" too, and are sorted as text.
    Hidden files and folders, and __MACOSX, are ignored. Links to folders are refused.

    Args:
        root: the folder with everything.
        head: what the head is called.
        val_fraction: the share of every class of the training images that is held out for
            validation where there is no folder for it.
        test_fraction: the same for the test set, where there are training images alone; 0: none.
        seed: of what is held out.
        leave_out_bad: leave out images without a readable header instead of refusing them.

    Raises:
        ConfigError: for shares that leave nothing for training.
    """

    def __init__(
        self,
        root: str | Path,
        head: str = "label",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        leave_out_bad: bool = False,
    ):
        self.shares = {"val": val_fraction, "test": test_fraction}
        check_shares({f"{split}_fraction": share for split, share in self.shares.items()})
        self.root, self.head = absolute(root), head
        self.seed, self.leave_out_bad = seed, leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read the names of all images and the header of each.

        Raises:
            DataError: for a class without an image, a class that training lacks, a link out of the
                folder, and an image that cannot be used.
        """
        check_layout(self.root, HOW_TO_GET, {})
        notes: list[str] = []
        try:
            folders = self._split_folders(notes)
            found = {split: self._read(folder, notes) for split, folder in folders.items()}
        except OSError as error:
            raise DataError(f"{self.root} cannot be read: {error}. Check the rights.") from error
        classes = self._check_classes(found, folders, notes)
        heads = {self.head: HeadSpec("single", classes)}
        parts = {split: self._examples(names) for split, names in found.items()}
        parts = self._with_held_out(parts, notes)
        store = FolderStore(self.root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _split_folders(self, notes: list[str]) -> dict[str, Path]:
        """Return split -> its folder; root itself is that of "train" if there are none."""
        folders = {}
        for split, names in SPLIT_FOLDERS.items():
            found = [name for name in names if (self.root / name).is_dir()]
            if len(found) > 1:
                raise DataError(f"{self.root} has {' and '.join(found)}: keep one of them")
            if found:
                folders[split] = self.root / found[0]
        # A class may be called "train": then images lie in that folder, and not in folders in it.
        if "train" not in folders or not any(_folders(folders["train"])):
            if any(any(_folders(folder)) for folder in folders.values()):
                raise DataError(
                    f"{self.root} has {' and '.join(f.name for f in folders.values())} and no "
                    f"folder train with classes in it. {HOW_TO_GET}"
                )
            return {"train": self.root}
        others = [f.name for f in _folders(self.root) if f not in folders.values()]
        if others:
            notes.append(f"Folders beside the splits, left out: {some(others)}")
        return folders

    def _read(self, folder: Path, notes: list[str]) -> dict[str, list[str]]:
        """Return class -> the names of its images below root."""
        self._refuse_links(folder)
        stray = [path for path in _visible(folder) if path.is_file()]
        found = {}
        for class_folder in _folders(folder):
            files = list(_files(class_folder))
            images = [path for path in files if path.suffix.lower() in SUFFIXES]
            stray += [path for path in files if path.suffix.lower() not in SUFFIXES]
            found[class_folder.name] = [self._name(path) for path in images]
        if stray:
            names = [self._name(path) for path in stray]
            notes.append(f"Files that are no images in a class folder, left out: {some(names)}")
        return found

    def _refuse_links(self, folder: Path) -> None:
        """Raise `DataError` naming the folders that are links: they lead out, or images come twice.

        Links to single files are followed where they stay in root; see `FolderStore`.
        """
        links = [folder] if folder.is_symlink() and folder != self.root else []
        links += [path for path in _all(folder) if path.is_symlink() and path.is_dir()]
        if links:
            told = listing([f"{self._name(path)} -> {path.readlink()}" for path in links])
            raise DataError(
                f"{self.root} has {len(links)} links to folders, which are not followed:\n{told}\n"
                "Put the folders themselves there."
            )

    def _check_classes(
        self,
        found: Mapping[str, Mapping[str, list[str]]],
        folders: Mapping[str, Path],
        notes: list[str],
    ) -> tuple[str, ...]:
        """Return the classes, sorted, after checking that they are those of every split."""
        classes = tuple(sorted(found["train"]))
        where = folders["train"]
        if len(classes) < 2:
            inner = [f.name for name in classes for f in _folders(where / name)]
            hint = f" It holds {some(inner)}: is that the root?" if inner else ""
            raise DataError(
                f"{where} has {len(classes)} class folders ({', '.join(classes)}), and two or more "
                f"are needed.{hint} {HOW_TO_GET}"
            )
        empty = [f"{where / name} has no image" for name in classes if not found["train"][name]]
        strange = [
            f"{folders[split] / name} is no class of {where}{nearest(name, classes)}"
            for split, names in found.items()
            for name in names
            if name not in classes
        ]
        if empty or strange:
            raise DataError(
                f"{self.root}: {len(empty) + len(strange)} class folders are wrong:\n"
                f"{listing([*empty, *strange])}\nAdd images ({', '.join(sorted(SUFFIXES))}), "
                "rename these folders, or remove them."
            )
        return classes

    def _examples(self, found: Mapping[str, list[str]]) -> list[Example]:
        return [
            Example(name, {self.head: label}, images=(name,))
            for label in sorted(found)
            for name in found[label]
        ]

    def _with_held_out(
        self, parts: dict[str, list[Example]], notes: list[str]
    ) -> dict[str, list[Example]]:
        """Add the sets that have no folder: validation always, test where there are no splits."""
        wanted = {}
        if "val" not in parts:
            wanted["val"] = self.shares["val"]
        if len(parts) == 1:
            wanted["test"] = self.shares["test"]
        if not wanted:
            return parts
        divided = divide(parts["train"], wanted, self.seed, self.head)
        notes.append(held_out_note(divided, self.seed))
        return parts | divided

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without what is hidden."""
    names = sorted(path.name for path in folder.iterdir())
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _all(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is not hidden; folders that are links stay shut."""
    for path in _visible(folder):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _all(path)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _all(folder) if not path.is_dir())
