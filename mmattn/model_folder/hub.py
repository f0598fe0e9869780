"""Model folders on the Hugging Face hub, where huggingface_hub is installed (extra `hub`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mmattn.errors import CheckpointError, ConfigError, one_line
from mmattn.model_folder.layout import MANIFEST, NAMES, library_version
from mmattn.model_folder.manifest import check_manifest
from mmattn.model_folder.recognise import locate

# "name/name" in the letters that the hub allows.
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def is_hub_id(text: str | Path) -> bool:
    """Whether a text means a repository of the hub: `name/name`, and no path that exists here.

    A `Path` never does.
    """
    return isinstance(text, str) and bool(HUB_ID.fullmatch(text)) and not Path(text).exists()


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a model with mmattn",
) -> str:
    """Upload a model folder in one commit; return the address of its repository.

    Args:
        folder: a model folder, or a run directory that has one; checked against its manifest first.
        repo_id: `name/name`; made if it does not exist.
        private: whether a repository that is made is private; one that exists stays as it is.
        token: of the hub's user; the one that `hf auth login` keeps if None.
        revision: the branch; the main one if None.
        message: of the commit.

    Raises:
        CheckpointError: for a folder that is not whole.
        ConfigError: for an id that is none, without huggingface_hub, or where the hub refuses.
    """
    place = locate(folder)
    check_manifest(place)
    hub = hub_library(repo_id)
    about = {"library_name": "mmattn", "library_version": library_version()}
    with refusals(f"{repo_id} cannot be uploaded to", token):
        api = hub.HfApi(token=token, **about)
        address = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="model",
            folder_path=place,
            allow_patterns=list(NAMES),
            revision=revision,
            commit_message=message,
        )
    return str(address)


def fetch(repo_id: str, revision: str | None = None, *, token: str | None = None) -> Path:
    """Return a local copy of a model folder on the hub, of which only changes are downloaded.

    Nothing but the files of a model folder is asked for. They lie in huggingface_hub's own cache,
    maybe beside files that another program fetched: read them with `read_folder(…, alone=False)`.

    Args:
        repo_id: `name/name`.
        revision: a branch, tag or commit; the main branch if None.
        token: of the hub's user, for private repositories; the one that is kept if None.

    Raises:
        CheckpointError: where it is no model folder, or was altered.
        ConfigError: for an id that is none, without huggingface_hub, or where it cannot be had.
    """
    hub = hub_library(repo_id)
    with refusals(f"{repo_id} cannot be had from", token):
        copy = hub.snapshot_download(
            repo_id,
            revision=revision,
            token=token,
            allow_patterns=list(NAMES),
            library_name="mmattn",
            library_version=library_version(),
        )
    place = Path(copy)
    if not (place / MANIFEST).is_file():
        raise CheckpointError(
            f"{repo_id} on the hub is no model folder of mmattn: it has no {MANIFEST}; download it "
            "and try `mmattn import SOURCE DEST`"
        )
    check_manifest(place, alone=False)
    return place


def hub_library(repo_id: str) -> ModuleType:
    """Return the library. Raises ConfigError without it, and for what is no id."""
    if not HUB_ID.fullmatch(repo_id):
        raise ConfigError(f"{repo_id!r} is no id of the hub: give owner/name")
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            f"{repo_id} on the Hugging Face hub needs huggingface_hub: pip install 'mmattn[hub]'"
        ) from None
    return huggingface_hub


@contextmanager
def refusals(what: str, token: str | None) -> Iterator[None]:
    """Make one line of whatever the hub or the way there has to say; it never shows the token."""
    try:
        yield
    except Exception as error:  # of HTTP, of the network, of ids: of several libraries
        reason = one_line(error)
        if token:
            reason = reason.replace(token, "…")
        raise ConfigError(f"{what} the Hugging Face hub: {reason}") from None
