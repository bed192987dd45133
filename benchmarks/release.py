"""A release of many files: one run of `quantrecipe apply` against one run of llama-quantize for each file.

    python benchmarks/release.py --llama-quantize PATH [--threads 2] [--json]

The model has 39 million random BF16 weights, and an importance matrix. Both sides make the same twenty files with the
same number of threads; ours are compared with theirs byte for byte. Compile time is spent beforehand and stated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from models import write_llama
from rich.console import Console

from quantrecipe.gguf.header import read_header

MIXTURES = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1"),
    *("Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "IQ2_XS", "IQ2_M", "IQ3_XXS", "IQ3_M", "IQ4_NL", "IQ4_XS"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    program = args.llama_quantize.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        write_llama(Path("model.gguf"), layers=2, cols=1024, hidden=4096, vocab=8192)
        write_importance(Path("model.gguf"), Path("imatrix.gguf"))
        command = [sys.executable, "-m", "quantrecipe", "apply", *(f"llama.cpp/{name}" for name in MIXTURES)]
        command += [
            "model.gguf",
            "--imatrix",
            "imatrix.gguf",
            "--out-dir",
            "ours",
            "--no-provenance",
            "--force",
        ]
        command += ["--threads", str(args.threads), "--json"]
        first = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        ours = time.perf_counter() - started
        Path("theirs").mkdir()
        started = time.perf_counter()
        for name in MIXTURES:
            line = [str(program), "--imatrix", "imatrix.gguf", "model.gguf", f"theirs/{name}.gguf", name]
            subprocess.run([*line, str(args.threads)], capture_output=True, check=True)
        theirs = time.perf_counter() - started
        same = sum(
            Path(f"ours/model-{name}.gguf").read_bytes() == Path(f"theirs/{name}.gguf").read_bytes()
            for name in MIXTURES
        )
        result = {
            "files": len(MIXTURES),
            "same_bytes": same,
            "ours_seconds": round(ours, 2),
            "llama_quantize_seconds": round(theirs, 2),
            "ratio": round(theirs / ours, 2),
            "compile_seconds": first["compile_seconds"],
            "model_bytes": Path("model.gguf").stat().st_size,
            "bytes_read": first["read_bytes"],
            "threads": args.threads,
        }
    if args.json:
        print(json.dumps(result, indent=2))  # noqa: T201  # a script's output
    else:
        Console().print(result)


def write_importance(model: Path, path: Path) -> None:
    """Random importance for every matrix but the embedding."""
    rng = np.random.default_rng(0)
    writer = GGUFWriter(path, arch="")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 8)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in read_header(model).tensors:
        if len(tensor.shape) == 2 and "token_embd" not in tensor.name:
            sums = rng.exponential(1.0, (1, tensor.shape[-1])).astype(np.float32) * 8
            writer.add_tensor(f"{tensor.name}.in_sum2", sums)
            writer.add_tensor(f"{tensor.name}.counts", np.full((1, 1), 8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
