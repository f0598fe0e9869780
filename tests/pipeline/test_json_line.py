"""One line of UTF-8, whatever it holds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mmattn.pipeline.json_line import json_line


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.text(st.characters(exclude_categories=())) | st.floats(allow_nan=False) | st.none(),
    )
)
def test_a_line_is_one_json_line_utf8_whatever_it_holds(value):
    line = json_line(value)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    line.decode()
    assert json.loads(line) == json.loads(json.dumps(value))


def test_names_are_written_as_they_are_where_that_is_possible():
    assert json_line({"image": "café.png"}) == '{"image": "café.png"}\n'.encode()
    odd = {"image": "caf\udce9.png"}  # as Python calls a file whose name is Latin-1
    assert json_line(odd) == b'{"image": "caf\\udce9.png"}\n'
    assert json.loads(json_line(odd)) == odd
