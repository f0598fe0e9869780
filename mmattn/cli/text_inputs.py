"""The texts of a command, and the images that stand with them, each with the place it was read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmattn.cli.inputs import STDIN, named_images, stdin_lines
from mmattn.data.captions import read_lines
from mmattn.data.labelled.json_values import read_jsonl
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.image_files import at_home
from mmattn.pipeline.questions import together


class Named(NamedTuple):
    """An input as a command names it, in values that JSON holds.

    images: paths, as they were given, but for a "~". text: a text or a list of its words; None
    without one. where: it was read, for messages. listed: whether its images stood with it in one
    line.
    """

    images: list[str]
    text: str | list[str] | None
    where: str
    listed: bool = False


def named_inputs(
    images: Sequence[str], typed: Sequence[str], texts: str | None, pictures: Path | None = None
) -> list[Named]:
    """Return the inputs that a command names.

    Args:
        images: see `named_images`; none where there are texts alone, or where these name theirs.
        typed: texts on the command line.
        texts: a file of texts, "-" for stdin; None for none.
        pictures: where a job writes some itself; see `named_images`.

    Raises:
        DataError: for images or a file of texts that are none.
        ConfigError: for numbers of images and texts that do not go together, and images twice.
    """
    found = [Named([], text, f"--text {i + 1}") for i, text in enumerate(typed)]
    found += [] if texts is None else read_texts(texts)
    if not images:
        return found
    paths = [str(path) for path in named_images(images, pictures)]
    if not found:
        return [Named([path], None, path) for path in paths]
    own = next((one for one in found if one.images), None)
    if own is not None:
        raise ConfigError(f"{own.where} has an image of its own: name no images beside it")
    return [
        Named([paths[i]], found[j].text, f"{paths[i]} with {found[j].where}")
        for i, j in together(len(paths), len(found))
    ]


def read_texts(source: str) -> list[Named]:
    """Return the texts of a file, or of stdin, which holds one a line.

    Raises:
        DataError: where it holds none, or a line of JSONL is no input.
    """
    path = Path(source).expanduser()
    if source != STDIN and path.suffix.lower() == ".jsonl":
        found = [json_input(value, f"{path}:{line}") for line, value in read_jsonl(path)]
    else:
        lines = stdin_lines() if source == STDIN else read_lines(path)
        name = "stdin" if source == STDIN else str(path)
        found = [
            Named([], line.strip(), f"{name}:{number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    if not found:
        raise DataError(f"{source}: holds no text: give one a line")
    return found


def texts_alone(source: str) -> list[str]:
    """Return the texts of a file. Raises DataError for lines that are more, or less, than texts."""
    found = []
    for one in read_texts(source):
        if one.images or not isinstance(one.text, str):
            raise DataError(f'{one.where}: give a "text" alone')
        found.append(one.text)
    return found


def json_input(value: dict[str, Any], where: str) -> Named:
    """Return what a line of JSONL names. Raises DataError where that is no input."""
    image, text = value.get("image"), value.get("text")
    images = [] if image is None else [image] if isinstance(image, str) else image
    if not is_texts(images):
        raise DataError(f'{where}: "image" is {image!r}: give a path, or a list of them')
    for image in images:
        if not Path(image).name:
            raise DataError(f'{where}: "image" is {image!r}, which names no file: give a path')
    if not (text is None or isinstance(text, str) or is_texts(text)):
        raise DataError(f'{where}: "text" is {text!r}: give a text, or a list of its words')
    if not images and text is None:
        raise DataError(f'{where}: neither an "image" nor a "text": give one')
    # What has no "~" stays as it is written: results call it so, and jobs go on by that.
    named = [str(at_home(image)) if image.startswith("~") else image for image in images]
    return Named(named, text, where, listed=True)


def is_texts(value: Any) -> bool:
    """Return whether this is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
