"""What a run shows of its configuration, in config.yaml and to its loggers: no secrets.

A value that comes from the environment is shown as the name of its variable; what a key calls a
secret is not shown, nor are the user, the password and the query of a URL. Variables of our own
(MMATTN_…) name folders and are shown.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from mmattn.data.urls import HIDDEN, without_credentials

log = logging.getLogger(__name__)
# A key is the last word of a name only where it opens something: not that of an image in a file.
SECRET = re.compile(
    r"(.*_)?(token|secret|password|passwd|passphrase|credentials?|apikey)"
    r"|key|(.*_)?(api|access|account|auth|private|secret|encryption|sas)_?key",
    re.IGNORECASE,
)
# Tokens of a text and of its tokenizer open nothing.
TEXT = re.compile(
    r"(.*_)?(pad|bos|eos|sep|cls|mask|unk|begin|end|start|stop|image|text|word|special)_token",
    re.IGNORECASE,
)


def shown(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain values, without what came from elsewhere.

    Text that an interpolation took from the environment stays the interpolation, so that what was
    written can be read again where the variable is set; numbers are no secrets. Text under a key
    that means a secret becomes "…", as does what opens a URL.
    """
    with reads_noted() as read:
        return _shown(config, read)


def secrets(value: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, text, what may be shown of it) of each text that holds a secret.

    `value` is a plain configuration. An interpolation is no secret: it only names one.
    """
    if isinstance(value, str):
        visible = without_credentials(value, _is_literal)
        if value and is_secret(key.rpartition(".")[2]) and _is_literal(value):
            visible = HIDDEN
        if visible != value:
            yield key, value, visible
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from secrets(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from secrets(inner, f"{key}.{i}".removeprefix("."))


def is_secret(name: str) -> bool:
    """Whether the name of a key says that its value is a secret."""
    return bool(SECRET.fullmatch(name)) and not TEXT.fullmatch(name)


def hide_secrets(config: DictConfig, folder: Path) -> None:
    """Blot secrets that stand in the configuration out of what Hydra wrote, and warn of them."""
    raw = OmegaConf.to_container(config, resolve=False)
    found = list(secrets(raw))
    if not found:
        return
    for path in [*(folder / ".hydra").glob("*.yaml"), folder.parent / "multirun.yaml"]:
        text = written = path.read_text("utf-8") if path.exists() else ""
        for _, secret, visible in found:
            text = text.replace(secret, visible)
        if text != written:
            path.write_text(text, "utf-8")
    log.warning(
        "%s: a secret in the configuration is seen by others, and left out of the run's files; "
        "put it into an environment variable and write ${oc.env:NAME}",
        ", ".join(key for key, _, _ in found),
    )


def _shown(node: Any, read: list[str]) -> Any:
    if isinstance(node, DictConfig):
        return {str(name): _child(node, name, str(name), read) for name in node}
    if isinstance(node, ListConfig):
        return [_child(node, i, "", read) for i in range(len(node))]
    return node


def _child(parent: DictConfig | ListConfig, key: Any, name: str, read: list[str]) -> Any:
    if OmegaConf.is_missing(parent, key):
        return "???"
    read.clear()
    value = parent[key]
    if isinstance(value, (DictConfig, ListConfig)):
        return _shown(value, read)
    if isinstance(value, str) and read:
        written = OmegaConf.to_container(parent, resolve=False)[key]  # type: ignore[index]
        return without_credentials(written, _is_literal)
    if isinstance(value, str):
        return HIDDEN if value and is_secret(name) else without_credentials(value)
    return value


def _is_literal(text: str) -> bool:
    return "${" not in text


@contextmanager
def reads_noted() -> Iterator[list[str]]:
    """Note the names of the environment's variables that interpolations read in the block."""
    read: list[str] = []

    def noted(name: str, *default: Any) -> str | None:
        if name in os.environ and not name.startswith("MMATTN_"):
            read.append(name)
        return oc.env(name, *default)

    OmegaConf.register_new_resolver("oc.env", noted, replace=True)
    try:
        yield read
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
