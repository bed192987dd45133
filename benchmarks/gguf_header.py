"""How long it takes to read the header of a GGUF with a large vocabulary: ours against gguf-py's GGUFReader.

    python benchmarks/gguf_header.py [--tokens 150000] [--repeat 5] [--without-peer]

The file is made on the spot: a vocabulary, as many merges, scores and token types, and 700 tensors. Ours is the
best of `--repeat` runs, with the file in the system's cache; gguf-py runs once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header

TENSORS = 700


def write_file(path: Path, tokens: int) -> None:
    """A GGUF with this many tokens, of lengths as in a real vocabulary, and tensors of 32 weights."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzĠé中"))
    lengths = rng.integers(2, 12, tokens)
    words = ["".join(rng.choice(letters, length)) for length in lengths]
    metadata = {
        "general.architecture": GGUFValue.of(ValueType.STRING, "llama"),
        "tokenizer.ggml.tokens": GGUFValue.array(ValueType.STRING, words),
        "tokenizer.ggml.scores": GGUFValue.array(ValueType.FLOAT32, [0.0] * tokens),
        "tokenizer.ggml.token_type": GGUFValue.array(ValueType.INT32, [1] * tokens),
        "tokenizer.ggml.merges": GGUFValue.array(
            ValueType.STRING, [f"{word[:1]} {word[1:]}" for word in words]
        ),
    }
    tensors = [
        TensorEntry(name=f"blk.{i}.attn_q.weight", shape=(1, 32), ggml_type=0, offset=128 * i)
        for i in range(TENSORS)
    ]
    path.write_bytes(encode_header(metadata, tensors) + bytes(128 * TENSORS))


def seconds(call: Callable[[Path], object], path: Path, repeat: int) -> float:
    """Best wall time of one call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call(path)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--without-peer", action="store_true", help="leave gguf-py out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_file(path, options.tokens)
        print(f"{options.tokens:,} tokens and as many merges, {path.stat().st_size / 1e6:.1f} MB")  # noqa: T201 (a script's output)
        ours = seconds(read_header, path, options.repeat)
        print(f"quantrecipe  {ours:8.3f} s")  # noqa: T201 (a script's output)
        if options.without_peer:
            return
        from gguf import GGUFReader

        theirs = seconds(GGUFReader, path, 1)
        print(f"gguf-py      {theirs:8.3f} s   {theirs / ours:.0f} x")  # noqa: T201 (a script's output)


if __name__ == "__main__":
    main()
