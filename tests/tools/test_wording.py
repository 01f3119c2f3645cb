"""What in a need names one thing is not searched for; what kind of thing it is, is."""

from __future__ import annotations

import pytest

from toolscore.tools.search.instances import searchable


@pytest.mark.parametrize(
    ("need", "searched"),
    [
        ("Read the file notes.txt", "Read the file"),
        ("Read notes.txt", "Read file"),
        ("convert a.docx to PDF", "convert docx to PDF"),
        ("Show /var/log/nginx/access.log", "Show file"),
        ("list C:\\Users\\me", "list file"),
        ("count the lines in ~/data/a.csv", "count the lines in csv"),
        ("Download https://example.com/a/b?c=d", "Download web page"),
        ("Open the URL http://example.com", "Open the URL"),
        ("Save the page https://example.com", "Save the page web"),
        ("convert https://example.com/a/b.pdf to text", "convert pdf to text"),
        ("clone https://git.example.com/a/b.git", "clone repository"),
        ("query postgres://db.example.com/a", "query URL"),
        ("send it to bob@example.com", "send it to email"),
        ("email bob@example.com", "email"),
        ("读取 /data/a.csv", "读取 csv"),
    ],
)
def test_a_name_of_one_thing_becomes_its_kind(need: str, searched: str) -> None:
    assert searchable(need) == searched


@pytest.mark.parametrize(
    "need",
    [
        "query and/or filter",
        "Rust 2.0 news",
        "a Node.js app",
        "time__convert_time",
        "24/7 uptime",
        "现在几点？",
    ],
)
def test_other_needs_stay_as_they_are(need: str) -> None:
    assert searchable(need) == need


@pytest.mark.parametrize(
    "need", ["https://", "a/" * 50_000, "x." * 50_000 + "txt", "@" * 50_000, "/" * 50_000, ""]
)
def test_hostile_needs_are_read_in_bounds(need: str) -> None:
    assert len(searchable(need)) <= len(need) + 10
