"""huggingface_hub itself against a hub that cuts, alters and hides: a stub server in this process.

What downloads is one process of its own, since the library reads its address when it is imported.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.fault("F31"), pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
COMMITS = {"main": "1" * 40, "v1": "2" * 40}
PROGRAM = """
import json, sys
from mmattn.model_folder.source import read_source
for repo, revision in json.loads(sys.argv[1]):
    try:
        said = type(read_source(repo, revision=revision).model).__name__
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([repo, revision, said]), flush=True)
"""


class Hub(ThreadingHTTPServer):
    """Serves the folder of each repository; `cut` names a file that breaks off once."""

    def __init__(self, folders):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folders, self.asked, self.cut = folders, [], {"good/model": "model.safetensors"}


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = urlsplit(self.path).path.strip("/").split("/")
        repo = "/".join(path[2:4] if path[0] == "api" else path[:2])
        folder = self.server.folders.get(repo)
        if folder is None:
            self.give(b"{}", {"X-Error-Code": "RepoNotFound"}, body, 404)
        elif path[0] == "api" and path[4] == "revision":
            commit = COMMITS.get(path[5], path[5])
            self.give(json.dumps({"id": repo, "sha": commit, "siblings": []}).encode(), {}, body)
        elif path[0] == "api":  # the tree
            files = [p for p in folder.iterdir() if p.is_file()]
            listed = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": tag(p)}
                for p in files
            ]
            self.give(json.dumps(listed).encode(), {}, body)
        else:
            _, _, _, commit, name = path
            self.server.asked.append((repo, commit, name))
            file = folder / name
            cut = body and self.server.cut.get(repo) == name
            if cut:
                del self.server.cut[repo]
            headers = {"ETag": f'"{tag(file)}"', "X-Repo-Commit": commit}
            self.give(file.read_bytes(), headers, body, cut=cut)

    def give(self, content, headers, body, status=200, cut=False):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = True

    def log_message(self, *_):
        pass


def tag(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def model(make_captioner, tmp_path_factory):
    from mmattn.model_folder.format import write_folder

    return write_folder(make_captioner(), tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture(scope="module")
def downloads(model, tmp_path_factory):
    """What the process said of every repository, and what it asked the hub for."""
    folder = tmp_path_factory.mktemp("download")
    folders = {"good/model": model}
    for name in ("flipped", "code", "foreign"):
        folders[f"bad/{name}"] = place = folder / name
        place.mkdir()
        for path in model.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
    weights = bytearray((folder / "flipped" / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "flipped" / "model.safetensors").write_bytes(weights)
    for name in ("pytorch_model.bin", "modeling.py", "model.pkl"):
        (folder / "code" / name).write_bytes(b"anything that would run")
    (folder / "foreign" / "manifest.json").unlink()
    hub = Hub(folders)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    wanted = [["good/model", "v1"], ["good/model", "3" * 40], ["bad/flipped", None]]
    wanted += [["bad/code", None], ["bad/foreign", None], ["no/where", None]]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HF_"))}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(wanted)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    hub.shutdown()
    hub.server_close()
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {(repo, revision): text for repo, revision, text in said}, hub


def test_a_download_that_breaks_off_is_gone_on_with(downloads):
    said, hub = downloads
    assert said["good/model", "v1"] == "Captioner"
    asked = [name for repo, commit, name in hub.asked if commit == COMMITS["v1"]]
    assert asked.count("model.safetensors") >= 2
    assert hub.cut == {}


def test_a_revision_is_what_is_downloaded(downloads):
    """A tag is looked up once; a commit cannot be moved, and is asked for by its own name."""
    said, hub = downloads
    assert said["good/model", "3" * 40] == "Captioner"
    commits = {commit for repo, commit, _ in hub.asked if repo == "good/model"}
    assert commits == {COMMITS["v1"], "3" * 40}


def test_weights_that_were_altered_are_named(downloads):
    said, _ = downloads
    assert said["bad/flipped", None].startswith("CheckpointError: ")
    assert "model.safetensors was altered: it has another SHA-256" in said["bad/flipped", None]


def test_nothing_but_plain_values_is_asked_for(downloads):
    said, hub = downloads
    assert said["bad/code", None] == "Captioner"
    names = {name for repo, _, name in hub.asked}
    assert names <= {
        *("README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json"),
    }


def test_what_is_no_model_folder_is_named(downloads):
    said, _ = downloads
    assert said["bad/foreign", None].startswith("CheckpointError: bad/foreign on the hub is no")


def test_what_is_not_there_is_one_line(downloads):
    said, _ = downloads
    text = said["no/where", None]
    assert text.startswith("ConfigError: there is no folder no/where here, and no/where cannot be")
    assert "\n" not in text
