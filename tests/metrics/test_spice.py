"""The protocol, by a program that stands in for SPICE; its models are a download of 0.5 GB."""

import json
import shutil
import sys

import numpy as np
import pytest

from mmattn.metrics import coco_package
from mmattn.metrics import spice as module
from mmattn.metrics.spice import PARSERS, spice, spice_lacks

REFERENCES = [[["a", "dog"], ["the", "dog"]], [["two", "cats"]], [["x"]]]
PREDICTIONS = [["a", "dog"], ["a", "cat"], []]

# Takes SPICE's arguments; the F-score that it gives is 1/4 of the number of the image.
PROGRAM = """#!{python}
import json, os, pathlib, sys
given = sys.argv[sys.argv.index("-jar") + 2]
out = sys.argv[sys.argv.index("-out") + 1]
captions = json.load(open(given))
answers = [
    {{"image_id": one["image_id"], "scores": {{"All": {{"f": one["image_id"] / 4}}}}}}
    for one in reversed(captions)
]
{behaviour}
json.dump(answers, open(out, "w"))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a program of the given behaviour in the place of Java, and all files."""
    package = tmp_path / "package" / "spice"
    (package / "lib").mkdir(parents=True)
    for name in ("spice-1.0.jar", *(f"lib/{parser}" for parser in PARSERS)):
        (package / name).touch()
    monkeypatch.setattr(
        module,
        "package_file",
        lambda *parts: found if (found := package.parent.joinpath(*parts)).is_file() else None,
    )

    def write(behaviour=""):
        program = tmp_path / "java"
        program.write_text(PROGRAM.format(python=sys.executable, behaviour=behaviour))
        program.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda _: str(program))
        return package

    return write


def test_every_caption_gets_its_score(install):
    install()
    assert spice(REFERENCES, PREDICTIONS).tolist() == [0, 0.25, 0.5]


def test_the_program_is_asked_for_tokens_where_its_libraries_are(install, tmp_path):
    log = tmp_path / "log"
    package = install(
        f"json.dump([captions, os.getcwd(), sys.argv[1:], os.environ['JDK_JAVA_OPTIONS']], "
        f"open({str(log)!r}, 'w'))"
    )
    spice(REFERENCES, PREDICTIONS)
    captions, folder, arguments, opened = json.loads(log.read_text())
    assert captions[0] == {"image_id": 0, "test": "a dog", "refs": ["a dog", "the dog"]}
    assert captions[2]["test"] == ""
    assert folder == str(package)
    assert arguments[:3] == ["-Xmx8G", "-jar", "spice-1.0.jar"]
    assert arguments[-2:] == ["-subset", "-silent"]
    assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in opened


def test_a_score_that_is_missing_is_none(install):
    install('answers[0]["scores"]["All"]["f"] = None')
    assert np.isnan(spice(REFERENCES, PREDICTIONS)).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("sys.exit('no parser')", "failed, with code 1: no parser"),
        ("sys.exit(0)", "failed, with code 0"),
        ("answers.pop()", "answered for 2 of 3 captions"),
        ("import time; time.sleep(60)", "ended after 1 s"),
    ],
)
def test_a_program_that_fails_is_an_error(install, behaviour, message):
    install(behaviour)
    with pytest.raises(RuntimeError, match=message):
        spice(REFERENCES, PREDICTIONS, timeout_seconds=1.0 if "sleep" in behaviour else 60.0)


def test_what_is_missing_is_named_with_how_to_get_it(install, monkeypatch):
    package = install()
    assert spice_lacks() is None
    (package / "lib" / PARSERS[1]).unlink()
    lacks = spice_lacks()
    assert lacks is not None
    assert lacks.startswith(
        f"Stanford CoreNLP's models are not installed ({PARSERS[1]}): python -c"
    )
    assert lacks.endswith('get_stanford_models as get; get()" downloads them')
    with pytest.raises(RuntimeError, match="no SPICE: Stanford"):
        spice(REFERENCES, PREDICTIONS)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert spice_lacks() == "java is not installed, or not on PATH"
    (package / "spice-1.0.jar").unlink()
    assert spice_lacks() == (
        "the package pycocoevalcap is not installed (the extra `coco`: pip install 'mmattn[coco]')"
    )


def test_a_package_that_is_not_installed_has_no_file(monkeypatch):
    monkeypatch.setattr(coco_package, "PACKAGE", "no_such_package_of_metrics")
    assert coco_package.package_file("spice", "spice-1.0.jar") is None
