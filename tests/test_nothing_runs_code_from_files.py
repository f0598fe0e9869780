"""What reads files in the library never unpickles, evaluates or trusts what they say."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mmattn"
FORBIDDEN = {
    "weights_only=False": r"weights_only\s*=\s*(False|None)",
    "torch.load without weights_only": r"torch\.load\((?![^()]*weights_only=True)",
    "pickle": r"\b(c?[pP]ickle|dill|joblib|shelve|marshal)\.(load|loads|Unpickler|open)\b",
    "import pickle": r"^\s*(import|from) (c?[pP]ickle|dill|shelve|marshal)\b",
    "allow_pickle=True": r"allow_pickle\s*=\s*True",
    "trust_remote_code": r"trust_remote_code",
    "yaml.load(": r"yaml\.(unsafe_|full_)?load(_all)?\(",
    "safe globals": r"(add_)?safe_globals",
    "eval": r"(?<![\w.])(eval|exec)\(",
}


def found(source, pattern):
    """Lines outside comments and texts in which a pattern is found."""
    code = re.sub(r'("""|\'\'\')(.|\n)*?\1', lambda text: "\n" * text[0].count("\n"), source)
    lines = [line.split("#")[0] for line in code.splitlines()]
    return [i for i, line in enumerate(lines, 1) if re.search(pattern, line)]


@pytest.mark.fault("F21")
@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_library_has_no_such_call(pattern):
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    said = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in files
        for line in found(path.read_text("utf-8"), pattern)
    ]
    assert not said, "\n".join(said)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x = torch.load(path)", "torch.load without weights_only"),
        ("torch.load(path, weights_only=False)", "weights_only=False"),
        ("import pickle", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("pickle.load(file)", "pickle"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("yaml.load(text)", "yaml.load("),
        ("yaml.unsafe_load(text)", "yaml.load("),
        ("eval(text)", "eval"),
        ("torch.serialization.add_safe_globals([x])", "safe globals"),
    ],
)
def test_such_a_call_would_be_found(source, name):
    assert found(f'"""Says {name}."""\n\n{source}  # why', FORBIDDEN[name]) == [3]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "model.eval()",
        "yaml.safe_load(x)",
    ],
)
def test_harmless_calls_are_none(source):
    assert not any(found(source, pattern) for pattern in FORBIDDEN.values())
