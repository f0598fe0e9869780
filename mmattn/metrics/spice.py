"""SPICE, by its authors' own program where it is installed.

It parses captions into scene graphs with Stanford CoreNLP, whose models (about 0.5 GB) are not in
the package: its Python wrapper downloads them when it is first made. This module never downloads.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.metrics.coco_package import EXTRA, PACKAGE, find_java, package_file
from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ngrams import Tokens

PARSERS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
GET_PARSERS = (
    'python -c "from pycocoevalcap.spice.get_stanford_models import get_stanford_models as get; '
    'get()" downloads them'
)
# The program is of Java 8. Newer ones close to it what its serialiser reads; Java 8 ignores this.
OPENED = " ".join(
    f"--add-opens=java.base/{name}=ALL-UNNAMED"
    for name in ("java.lang", "java.util", "java.math", "java.text", "java.net")
)
SECONDS_A_CAPTION = 2.0


def spice(
    references: Sequence[Sequence[Tokens]],
    predictions: Sequence[Tokens],
    timeout_seconds: float | None = None,
) -> np.ndarray:
    """SPICE of every caption [images], from 0 to 1; that of a corpus is their mean.

    Anderson, Fernando, Johnson and Gould 2016, "SPICE: semantic propositional image caption
    evaluation". A caption is NaN where the program has no F-score for it, as in coco-caption.

    Args:
        references: for every image, the tokens of each of its references.
        predictions: for every image, the tokens of its predicted caption.
        timeout_seconds: the program is ended after this time; by default 10 minutes and 2 s a
            caption.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
        RuntimeError: something is missing, or the program failed or ran out of time.
    """
    check_corpus(references, predictions)
    jar, java = find_spice(), find_java()
    if jar is None or java is None or spice_lacks() is not None:
        raise RuntimeError(f"no SPICE: {spice_lacks()}")
    asked = [
        {"image_id": i, "test": " ".join(prediction), "refs": [" ".join(each) for each in image]}
        for i, (image, prediction) in enumerate(zip(references, predictions, strict=True))
    ]
    seconds = timeout_seconds or 600 + SECONDS_A_CAPTION * len(predictions)
    return f_scores(answered(java, jar, asked, seconds), len(predictions))


def spice_lacks() -> str | None:
    """What is missing for SPICE and how to get it, None where nothing is."""
    if find_spice() is None:
        return f"the package {PACKAGE} is not installed ({EXTRA})"
    if find_java() is None:
        return "java is not installed, or not on PATH"
    missing = [name for name in PARSERS if package_file("spice", "lib", name) is None]
    if missing:
        return f"Stanford CoreNLP's models are not installed ({', '.join(missing)}): {GET_PARSERS}"
    return None


def find_spice() -> Path | None:
    """The program inside the installed package."""
    return package_file("spice", "spice-1.0.jar")


def answered(java: str, jar: Path, asked: list[dict[str, Any]], seconds: float) -> Any:
    """What the program writes about captions; nothing stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="mmattn-spice-") as folder:
        given, found = Path(folder, "captions.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(asked), "utf-8")
        command = [java, "-Xmx8G", "-jar", jar.name, str(given), "-out", str(found)]
        try:
            done = subprocess.run(
                [*command, "-subset", "-silent"],
                cwd=jar.parent,  # its libraries are named relative to it
                env={**os.environ, "JDK_JAVA_OPTIONS": OPENED},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"SPICE was ended after {seconds:.0f} s") from None
        if done.returncode or not found.is_file():
            last_words = done.stderr.decode("utf-8", "replace").strip()[-500:]
            raise RuntimeError(f"SPICE failed, with code {done.returncode}: {last_words}")
        return json.loads(found.read_text("utf-8"))


def f_scores(answers: Any, count: int) -> np.ndarray:
    """The F-score over all tuples of each of `count` captions, from the program's answers."""
    scores = {answer["image_id"]: answer["scores"]["All"]["f"] for answer in answers}
    if sorted(scores) != list(range(count)):
        raise RuntimeError(f"SPICE answered for {len(scores)} of {count} captions")
    values = [scores[i] for i in range(count)]
    return np.array([np.nan if value is None else float(value) for value in values])
