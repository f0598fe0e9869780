"""URLs as they may be shown."""

import pytest

from mmattn.data.urls import without_credentials


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host:80/a/b", "https://…@host:80/a/b"),
        ("https://token@host", "https://…@host"),
        ("s3://key:sec/ret@bucket/x", "s3://…@bucket/x"),
        ("https://u:p@ss@host/x", "https://…@host/x"),
        ("https://u:p?#@host/x", "https://…@host/x"),
        ("http://host:80?sig=a&b=c", "http://host:80?…"),
        ("zip://a.csv::https://u:p@host/x.zip?sig=a", "zip://…@host/x.zip?…"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("abfs://container:key@account/x", "abfs://…@account/x"),
    ],
)
def test_what_opens_a_url_is_left_out(url, shown):
    assert without_credentials(url) == shown
    assert without_credentials(f"404, url='{url}' (again)") == f"404, url='{shown}' (again)"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/x",
        "http://host:8080/a@b",
        "https://host/a@b/c",
        "file:///a b",
        "see https://host/x? Or write to a@b.c",
        "",
    ],
)
def test_all_else_stays(text):
    assert without_credentials(text) == text


def test_parts_may_be_kept():
    url = "https://${USER}@host/x?${SIGNATURE}"
    assert without_credentials(url, lambda part: "$" not in part) == url
