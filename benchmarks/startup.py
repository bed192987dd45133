"""How long commands take that read no weights (--help, check, plan of a model of 700 tensors), and a small apply.

    python benchmarks/startup.py [--runs 9] [--json]

The model is a GGUF of 78 layers (705 tensors) with a vocabulary of 150,000 tokens. Each figure is the median wall
time of a whole process, start of Python included. apply quantizes the example model, of 7 MB; its kernels are compiled
already. Nobody watches: there is no terminal, and so no bar.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header

ROOT = Path(__file__).parents[1]
LAYERS, VOCABULARY = 78, 150_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        write_headers(model)
        commands = {
            "python -c pass": ["-c", "pass"],
            "import quantrecipe": ["-c", "import quantrecipe"],
            "quantrecipe --help": ["-m", "quantrecipe", "--help"],
            "quantrecipe check": ["-m", "quantrecipe", "check", "llama.cpp/Q4_K_M"],
            "quantrecipe plan": ["-m", "quantrecipe", "plan", "llama.cpp/Q4_K_M", str(model)],
            "quantrecipe apply": [
                *("-m", "quantrecipe", "apply", str(ROOT / "recipes/chat.yaml")),
                *(str(ROOT / "examples/tiny-code/model.safetensors"), "--force", "-o", f"{folder}/out.gguf"),
            ],
        }
        seconds = {name: measure([sys.executable, *line], args.runs) for name, line in commands.items()}
    if args.json:
        print(json.dumps(seconds, indent=2))  # noqa: T201  # a script's output
        return
    table = Table("command", "wall time")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f} s")
    Console().print(table)


def measure(command: list[str], runs: int) -> float:
    """Median seconds of the whole process."""
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run() -> float:
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=keep)
        return time.perf_counter() - started

    run()  # files into the page cache, bytecode and kernels compiled
    return statistics.median(run() for _ in range(runs))


def write_headers(path: Path) -> None:
    """A GGUF whose data is a hole: plans never read it."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, 4096)}
    for i in range(LAYERS):
        for role, shape in {
            "attn_norm": (4096,),
            "attn_q": (4096, 4096),
            "attn_k": (1024, 4096),
            "attn_v": (1024, 4096),
            "attn_output": (4096, 4096),
            "ffn_norm": (4096,),
            "ffn_gate": (14336, 4096),
            "ffn_up": (14336, 4096),
            "ffn_down": (4096, 14336),
        }.items():
            shapes[f"blk.{i}.{role}.weight"] = shape
    shapes |= {"output_norm.weight": (4096,), "output.weight": (VOCABULARY, 4096)}
    entries, offset = [], 0
    for name, shape in shapes.items():
        kind, size = (0, 4) if len(shape) == 1 else (30, 2)
        entries.append(TensorEntry(name=name, shape=shape, ggml_type=kind, offset=offset))
        for dimension in shape:
            size *= dimension
        offset += size
    numbers = {"block_count": LAYERS, "attention.head_count": 32, "attention.head_count_kv": 8}
    metadata = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    metadata |= {f"llama.{key}": GGUFValue.of(ValueType.UINT32, value) for key, value in numbers.items()}
    words = [f"token{i}" for i in range(VOCABULARY)]
    metadata["tokenizer.ggml.tokens"] = GGUFValue.array(ValueType.STRING, words)
    metadata["tokenizer.ggml.merges"] = GGUFValue.array(ValueType.STRING, [f"{word} x" for word in words])
    header = encode_header(metadata, entries)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)


if __name__ == "__main__":
    main()
