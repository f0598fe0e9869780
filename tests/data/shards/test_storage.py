"""Parts of files, here and at a URL, from several processes, and every failure named."""

import multiprocessing
import pickle
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from mmattn.data.shards import storage as module
from mmattn.data.shards.storage import LocalFolder, RemoteFolder, storage
from mmattn.errors import ConfigError, DataError, ReadError

OPEN = Path("/proc/self/fd")  # of Linux: a link for each open file
DATA = bytes(range(256)) * 8


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/x.tar", "a/y.tar", "z.tar"):
        (tmp_path / name).write_bytes(DATA)
    return tmp_path


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    for name in ("a/x.tar", "a/y.tar", "z.tar"):
        fs.pipe(f"/set/{name}", DATA)
    yield "memory://set"
    fs.rm("/set", recursive=True)


@pytest.fixture
def served():
    """A web server that gives parts of files, or, for /whole, does not."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked = self.headers.get("Range", "").removeprefix("bytes=").split("-")
            part = len(asked) == 2 and "whole" not in self.path
            body = DATA[int(asked[0]) : int(asked[1]) + 1] if part else DATA
            self.send_response(404 if "absent" in self.path else 206 if part else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


SERVED = pytest.param("served", marks=pytest.mark.slow)  # the web's client takes long to import


@pytest.mark.parametrize("kind", ["folder", "file", "memory", SERVED])
def test_all_kinds_give_the_same(kind, request):
    name = "folder" if kind == "file" else kind
    root = request.getfixturevalue(name)
    there = storage(f"file://{root}" if kind == "file" else root)
    assert there.read_range("a/x.tar", 3, 5) == DATA[3:8]
    assert there.read_range("a/x.tar", 2040, 8) == DATA[-8:]
    assert there.read("z.tar") == DATA
    assert there.size("z.tar") == len(DATA)
    with there.open("z.tar") as file:
        assert file.read() == DATA
    if kind != "served":
        assert there.names("a/*.tar") == ["a/x.tar", "a/y.tar"]
        assert there.names("*.tar") == ["z.tar"]
    other = pickle.loads(pickle.dumps(there))
    assert other.read_range("a/y.tar", 0, 2) == DATA[:2]


@pytest.mark.fault("F20")
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_failures_name_the_file(kind, folder, memory, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    there = storage({"folder": folder, "memory": memory}[kind])
    with pytest.raises(DataError, match=r"a/absent\.tar cannot be read"):
        there.read_range("a/absent.tar", 0, 1)
    with pytest.raises(DataError, match=r"a/x\.tar gave 8 bytes where 9 from offset 2,040"):
        there.read_range("a/x.tar", 2040, 9)
    for name in ("../secret", "/etc/passwd", "a\0"):
        with pytest.raises(DataError, match=r"holds|absolute"):
            there.read(name)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="has 2,048 bytes; the limit is 100"):
        there.read("z.tar")


@pytest.mark.slow
def test_a_server_that_does_not_give_parts_is_told(served):
    with pytest.raises(DataError, match=r"gave 2,048 bytes where 5 .* does not give parts"):
        storage(served).read_range("whole.tar", 3, 5)
    with pytest.raises(DataError, match=r"absent\.tar cannot be read"):
        storage(served).read_range("absent.tar", 3, 5)


class ForbiddenError(Exception):
    status = 403


def test_what_is_refused_is_not_asked_for_again(memory, monkeypatch):
    there, asked = storage(memory), []

    def refuse(self, path, **options):
        asked.append(path)
        raise ForbiddenError("403, message='Forbidden'")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(DataError, match=r"z\.tar cannot be read: 403") as caught:
        there.read_range("z.tar", 0, 2)
    assert not isinstance(caught.value, ReadError)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ConnectionRefusedError("refused"), ReadError),
        (ForbiddenError("403"), DataError),
        (KeyError("z.tar"), DataError),
    ],
)
def test_a_file_that_is_not_there_is_told_from_a_server_that_is_not(
    memory, monkeypatch, cause, kind
):
    def fail(self, path, **options):
        raise FileNotFoundError(path) from cause

    monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "size", fail)
    with pytest.raises(DataError) as caught:
        storage(memory).size("z.tar")
    assert type(caught.value) is kind


@pytest.mark.slow
def test_a_server_that_is_down_may_come_back(monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with socket.socket() as taken:  # nobody listens at its port
        taken.bind(("127.0.0.1", 0))
        there = storage(f"http://user:s3cr3t@127.0.0.1:{taken.getsockname()[1]}/set")
        for read in (there.size, lambda name: there.read_range(name, 0, 4)):
            with pytest.raises(ReadError) as caught:
                read("x.tar")
            assert "s3cr3t" not in str(caught.value)


@pytest.mark.fault("F13")
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_an_open_file_that_fails_is_told_like_any_other():
    there = storage("/proc/self")  # nothing is mapped at address 0
    with pytest.raises(ReadError, match=r"/mem cannot be read: Input/output error"):
        there.read_range("mem", 0, 4)
    with pytest.raises(ReadError, match=r"/mem cannot"), there.open("mem") as file:
        file.read(4)


def test_a_remote_file_that_fails_while_it_is_read_is_told(memory):
    there = storage(memory)
    with pytest.raises(ReadError, match=r"set/z\.tar cannot be read: reset"), there.open("z.tar"):
        raise OSError("reset")


def test_a_request_that_fails_is_made_again(memory, monkeypatch):
    there, failures = storage(memory), [OSError("reset"), OSError("reset")]
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    cat = type(fsspec.filesystem("memory")).cat_file

    def flaky(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return cat(self, *arguments, **options)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", flaky)
    assert there.read_range("z.tar", 0, 2) == DATA[:2]
    assert waited == [0.5, 1.0]
    failures += [OSError("reset")] * 3
    with pytest.raises(ReadError, match=r"z\.tar cannot be read: reset"):
        there.read_range("z.tar", 0, 2)


@pytest.mark.fault("F19")
def test_links_that_leave_the_folder(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(DATA)
    (folder / "link.tar").symlink_to(secret)
    with pytest.raises(DataError, match="leaves the folder"):
        storage(folder).read_range("link.tar", 0, 1)


@pytest.mark.fault("F21")
def test_commands_and_unknown_protocols_are_refused(tmp_path):
    marker = tmp_path / "ran"
    with pytest.raises(ConfigError, match="commands are not run"):
        storage(f"pipe:touch {marker}")
    assert not marker.exists()
    for url, said in {"nosuch://x": "Protocol not known: nosuch", "s3://x": "s3fs"}.items():
        with pytest.raises(ConfigError, match=said):
            storage(url)
    with pytest.raises(ConfigError, match="open_files=0"):
        storage(tmp_path, open_files=0)


@pytest.mark.skipif(not OPEN.is_dir(), reason="needs /proc")
def test_few_files_stay_open(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.tar").write_bytes(DATA)
    there = LocalFolder(tmp_path, open_files=3)
    for i in [*range(10), 0, 9]:
        there.read_range(f"{i}.tar", i, 4)

    def mine():
        links = [link for link in list(OPEN.iterdir()) if link.is_symlink()]
        paths = [str(link.readlink()) for link in links]
        return sorted(path for path in paths if path.startswith(str(tmp_path)))

    assert mine() == [str(tmp_path / f"{i}.tar") for i in (0, 8, 9)]
    del there
    assert mine() == []


def read_all(there, queue):
    queue.put([there.read_range(name, 3, 5) for name in ("a/x.tar", "z.tar")])


@pytest.mark.parametrize("kind", ["folder", SERVED])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_was_forked_opens_files_of_its_own(kind, request):
    there = storage(request.getfixturevalue(kind))
    assert there.read_range("a/x.tar", 3, 5) == DATA[3:8]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=read_all, args=(there, queue))
    process.start()
    assert queue.get(timeout=60) == [DATA[3:8]] * 2
    process.join(60)
    assert there.read_range("z.tar", 3, 5) == DATA[3:8]


@pytest.mark.fault("F23")
def test_no_message_says_what_opens_a_url(memory, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    there = storage("memory://user:s3cr3t@set")
    assert there.root == "memory://…@set"

    def refuse(self, path, **options):
        raise OSError("403, url='https://user:s3cr3t@host/x?sig=s3cr3t'")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(DataError) as caught:
        there.read_range("z.tar", 0, 1)
    assert "memory://…@set/z.tar cannot be read: 403, url='https://…@host/" in str(caught.value)
    for text in (str(caught.value), repr(there)):
        assert "s3cr3t" not in text
    with pytest.raises(ConfigError) as refused:
        storage("nosuch://user:s3cr3t@host")
    assert str(refused.value).startswith("nosuch://…@host: ")


def test_a_root_has_no_query():
    with pytest.raises(ConfigError) as caught:
        storage("https://host/set?sig=s3cr3t")
    assert str(caught.value).startswith(
        "https://host/set?…: names of shards are put after the root"
    )
    assert "FSSPEC_PROTOCOL_OPTION" in str(caught.value)


def test_a_remote_root_may_end_in_a_slash(memory):
    assert RemoteFolder(f"{memory}/").read_range("a/x.tar", 0, 1) == DATA[:1]
