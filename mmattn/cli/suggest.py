"""The nearest existing key or option for a mistyped one."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

KEY = re.compile(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in")
OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")


def explain(error: Exception, directory: Path) -> str:
    """Return Hydra's complaint in one line, with the nearest name that exists."""
    text = str(error)
    option = OPTION.search(text)
    if option:
        group, name = option.groups()
        return f"{group}={name}: no such option{_nearest(name, options(directory, group))}"
    key = KEY.search(text)
    if key:
        name = key.group(1) or key.group(2)
        return f"{name}: no such key{_nearest(name, known_keys(directory))}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def options(directory: Path, group: str) -> list[str]:
    """Return the options of a configuration group."""
    return sorted(path.stem for path in (directory / group).glob("*.yaml"))


def known_keys(directory: Path) -> list[str]:
    """Return every dotted key and every group of the default configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(directory), version_base="1.3"):
        config = compose("train")
    groups = {str(p.parent.relative_to(directory)) for p in directory.rglob("*.yaml")} - {"."}
    return sorted({*dotted(config), *groups})


def dotted(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys, without resolving any value."""
    for key in config:
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_interpolation(config, str(key)) or OmegaConf.is_missing(config, key):
            continue
        if OmegaConf.is_dict(config[key]):
            yield from dotted(config[key], f"{name}.")


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, 0.6)
    if not near:  # the right word in another place: trainer.lr for optimizer.lr
        last = name.rsplit(".", 1)[-1]
        near = [key for key in known if key.rsplit(".", 1)[-1] == last][:1]
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(known)}" if len(known) < 15 else ""
