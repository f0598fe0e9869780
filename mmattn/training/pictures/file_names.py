"""Names of files that are told by what a data set calls its samples."""

from collections.abc import Sequence

LONGEST_NAME = 80  # characters, a few bytes each


def file_names(keys: Sequence[str]) -> list[str]:
    """Return samples' keys as file names: plain, short, and each another one."""
    names: list[str] = []
    for key in keys:
        name = "".join(c if c.isalnum() or c in "+-_." else "-" for c in key).removesuffix(".jpg")
        name = short = name[-LONGEST_NAME:]
        number = len(names)
        while name in names:
            name, number = f"{short}-{number}", number + 1
        names.append(name)
    return names
