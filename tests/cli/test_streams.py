import io

import pytest

from mmattn.cli.streams import print_anything


@pytest.mark.fault("F29")
def test_a_letter_that_the_terminal_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(raw, encoding="ascii"))
    print_anything()
    print("räum", flush=True)
    assert raw.getvalue() == rb"r\xe4um" + b"\n"
