"""What a text names one thing by, and no kind of tool: links, addresses, paths, names of files."""

from __future__ import annotations

import re

_LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s，。；）)]{1,2000}", re.IGNORECASE)
_MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}", re.ASCII)
_PATH = re.compile(
    r"(?<![\w/])(?:(?:~|\.{1,2})?/|[A-Za-z]:\\)[\w.@%+,\\-]{1,200}(?:/[\w.@%+,-]{0,200}){0,30}", re.ASCII
)
_TELLING = (
    "csv|tsv|xls|xlsx|ods|doc|docx|odt|rtf|pdf|epub|ppt|pptx|json|jsonl|yaml|yml|toml|xml|html|htm|sql|ipynb|parquet|"
    "png|jpg|jpeg|gif|svg|webp|bmp|tiff|heic|mp3|wav|flac|ogg|m4a|mp4|mov|avi|mkv|webm|zip|tar|gz|rar|7z|ics|eml|stl"
)
"""Endings of file names that say what kind of thing a file is."""
_SILENT = "txt|log|md|text|bak|tmp|dat|cfg|conf|ini|env|lock|out"
"""Endings that say no more than that it is a file."""
_FILE = re.compile(
    rf"(?<![\w.@/\\-])[\w-][\w.-]{{0,120}}\.({_TELLING}|{_SILENT})(?![\w/\\-]|\.\w)",
    re.IGNORECASE | re.ASCII,
)
_HINT = re.compile(r"[/\\@.]")
_LETTER = re.compile(r"[^\W\d_]")


def searchable(text: str) -> str:
    """Give a text as it is searched with: in place of a link, an address, a path or a file's name, what it is.

    Whatever stands in those, be it `notes` or `example`, tells of no tool; and as it is rare, it would weigh most.
    """
    if _HINT.search(text) is None:
        return text
    kinds, telling = set(re.findall(r"[a-z]+", _LINK.sub("", text).lower())), _TELLING.split("|")

    def said(*words: str) -> str:
        return "" if kinds.intersection(words) else words[0]

    def file(match: re.Match[str]) -> str:
        ending = match[1].lower()
        return ending if ending in telling else said("file", "files")

    def path(match: re.Match[str]) -> str:
        ending = match[0].rpartition(".")[2].lower()
        if ending in telling:
            return ending
        return said("file", "files", "folder", "folders", "directory", "directories", "path")

    def link(match: re.Match[str]) -> str:
        ending = match[0].rpartition("/")[2].rpartition(".")[2].lower()
        if ending in telling and not ending.startswith("htm"):
            return ending
        if ending == "git":
            return said("repository", "repositories", "repo", "repos")
        if not match[0].lower().startswith("http"):
            return said("URL", "url")
        if kinds.intersection(("url", "urls", "link", "links", "website", "webpage", "webpages")):
            return ""
        return f"{said('web')} {said('page', 'pages', 'site')}"

    plain = _MAIL.sub(lambda _: said("email", "mail", "emails"), _LINK.sub(link, text))
    plain = " ".join(_FILE.sub(file, _PATH.sub(path, plain)).split())
    return plain if _LETTER.search(plain) else text


def unnamed(text: str) -> str:
    """Give a text without links, addresses, paths and names of files, unless that is all of it."""
    plain = text
    for kind in (_LINK, _MAIL, _PATH, _FILE):
        plain = kind.sub(" ", plain)
    return plain if _LETTER.search(plain) else text
