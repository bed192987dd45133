"""`quantrecipe apply` from quantized Hugging Face folders beside BF16, and beside convert_hf_to_gguf.py: in one run.

    python benchmarks/quantized.py
    python benchmarks/quantized.py --sources BF16 FP8-blocks --targets Q4_K BF16 --runs 5
    python benchmarks/quantized.py --converter llama.cpp/convert_hf_to_gguf.py --llama-quantize PATH
    python benchmarks/quantized.py --json                                   for machines

The folders are of one llama of random weights, stored in each way, and everything in it becomes the target type. Both
sides are whole processes, start-up included, and are done when the file is on the disk; sources are in the page cache.
Beside us are the converter (to BF16) and llama-quantize, one after the other. It needs PyTorch: --python says which
Python has it, and without one there is no such column. Figures are medians; kernels are compiled beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from apply import RECIPE, THEIR_NAMES, Turn, cells, median, run
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

MODELS = {
    "0.2 B weights": {"layers": 4, "cols": 2048, "hidden": 5632},
    "0.8 B weights": {"layers": 12, "cols": 2048, "hidden": 8192},
}
TOKENIZER = Path(__file__).parents[1] / "tests" / "data" / "huggingface" / "llama-sentencepiece"
VOCABULARY = 384
"""Few tokens, since the embedding isn't quantized, and there is little of it in a large model."""
BLOCK, GROUP = 128, 32
_INT4 = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": GROUP}
_FLOAT8 = {"type": "float", "num_bits": 8, "strategy": "channel"}
SOURCES: Mapping[str, Any] = {
    "BF16": None,
    "FP8-blocks": {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]},
    "FP8-rows": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"weights": _FLOAT8}},
    },
    "INT4": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": _INT4}},
    },
    "GPTQ": {"quant_method": "gptq", "bits": 4, "group_size": GROUP},
}
_POOL = 1 << 24
"""Bytes that are drawn; longer tensors repeat them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--converter", type=Path, help="convert_hf_to_gguf.py, in llama.cpp's source tree")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch, for the converter")
    parser.add_argument("--llama-quantize", type=Path, help="the program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="0.2 B weights", choices=list(MODELS))
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--targets", nargs="*", default=["Q4_K", "Q8_0", "BF16"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    why_alone = reason_to_be_alone(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
            # What this process holds would be counted as the memory of those that it starts.
            begun = {
                source: elsewhere.submit(write_folder, folder / source, source, **MODELS[args.model])
                for source in args.sources
            }
            models = {source: writing.result() for source, writing in begun.items()}
        rows = [
            row
            for target in args.targets
            for row in measure(models, target, folder, args, alone=bool(why_alone))
        ]
    if args.json:
        print(json.dumps(rows, indent=2))  # noqa: T201  # a script's output
        return
    title = f"{args.model}, {args.threads} threads, medians of {args.runs} runs, sources in the page cache"
    columns = (
        "source → type",
        "ours",
        "CPU",
        "peak",
        "speed of BF16's",
        "converter + llama-quantize",
        "CPU",
        "peak",
        "ratio",
    )
    table = Table(*columns, title=title, caption=why_alone)
    for row in rows:
        ours = Turn(**row["ours"])
        speed = "" if row["of_bf16"] is None else f"{100 * row['of_bf16']:.0f} %"
        beside = ("", "", "", "")
        if row["theirs"] is not None:
            theirs = Turn(**row["theirs"])
            beside = (*cells(theirs), f"{theirs.seconds / ours.seconds:.2f}x")
        table.add_row(f"{row['source']} → {row['target']}", *cells(ours), speed, *beside)
    Console(width=140).print(table)


def reason_to_be_alone(args: argparse.Namespace) -> str:
    """Why nobody stands beside us; "" where somebody does."""
    if args.converter is None or args.llama_quantize is None:
        return "alone: --converter and --llama-quantize weren't given"
    found = subprocess.run([args.python, "-c", "import torch"], capture_output=True, check=False)
    return "" if found.returncode == 0 else f"alone: {args.python} has no PyTorch, which the converter needs"


def measure(
    models: Mapping[str, Path], target: str, folder: Path, args: argparse.Namespace, *, alone: bool
) -> list[dict[str, Any]]:
    """All sources in turn, so that all meet the same machine."""
    recipe, out, between = folder / "pure.yaml", folder / "out.gguf", folder / "between.gguf"
    recipe.write_text(RECIPE.format(type=target), encoding="utf-8")
    turns: dict[tuple[str, str], list[Turn]] = {}
    for turn in range(args.runs + 1):  # the first compiles, if this machine hasn't yet
        for source, model in models.items():
            ours = [sys.executable, "-m", "quantrecipe", "apply", str(recipe), str(model), "-o", str(out)]
            sides = {"ours": [[*ours, "--threads", str(args.threads)]]}
            if not alone:
                converter = [args.python, str(args.converter), str(model), "--outtype", "bf16", "--outfile"]
                theirs = [str(args.llama_quantize), "--pure", str(between), str(out)]
                sides["theirs"] = [
                    [*converter, str(between)],
                    [*theirs, THEIR_NAMES.get(target, target), str(args.threads)],
                    ["sync", str(out)],
                ]
            for side, commands in sides.items():
                out.unlink(missing_ok=True)
                found = run(commands, lambda model=model: into_the_page_cache(model))
                if turn:
                    turns.setdefault((source, side), []).append(found)
    out.unlink(missing_ok=True)
    between.unlink(missing_ok=True)
    middle = {key: median(group) for key, group in turns.items()}
    plain = middle.get(("BF16", "ours"))
    return [
        {
            "source": source,
            "target": target,
            "ours": middle[source, "ours"],
            "theirs": middle.get((source, "theirs")),
            "of_bf16": None if plain is None else plain["seconds"] / middle[source, "ours"]["seconds"],
        }
        for source in models
    ]


def into_the_page_cache(model: Path) -> None:
    with (model / "model.safetensors").open("rb") as file:
        while file.read(1 << 24):
            pass


def write_folder(folder: Path, source: str, *, layers: int, cols: int, hidden: int) -> Path:
    """A folder of a llama of random weights that are stored so."""
    shutil.copytree(TOKENIZER, folder, ignore=shutil.ignore_patterns("converted.json", "weights.json"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": cols, "intermediate_size": hidden, "num_hidden_layers": layers, "head_dim": 128}
    config |= {
        "num_attention_heads": cols // 128,
        "num_key_value_heads": cols // 512,
        "vocab_size": VOCABULARY,
    }
    if SOURCES[source] is not None:
        config["quantization_config"] = SOURCES[source]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    parts = [part for matrix in _matrices(layers, cols, hidden) for part in _stored(source, *matrix)]
    header, offset = {}, 0
    for name, dtype, shape, content in parts:
        nbytes = prod(shape) * content.itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for _, _, shape, content in parts:
            left = prod(shape)
            while left:
                piece = content[:left]
                file.write(piece.tobytes())
                left -= piece.size
    return folder


_Part = tuple[str, str, Sequence[int], NDArray[np.generic]]
"""Name, dtype, shape, and numbers of the type that are repeated as often as it takes."""


def _stored(source: str, name: str, rows: int, cols: int) -> Iterator[_Part]:
    """The parts of a matrix; a vector has no rows."""
    plain = _bf16(0.02)
    if not rows:
        yield name, "BF16", (cols,), _bf16(0, 1)
    elif source == "BF16" or "layers" not in name:
        yield name, "BF16", (rows, cols), plain
    elif source == "FP8-blocks":
        yield name, "F8_E4M3", (rows, cols), _e4m3()
        yield f"{name}_scale_inv", "F32", (-(-rows // BLOCK), -(-cols // BLOCK)), _scales()
    elif source == "FP8-rows":
        yield name, "F8_E4M3", (rows, cols), _e4m3()
        yield f"{name}_scale", "BF16", (rows, 1), _bf16(1e-5, 2e-4)
    elif source == "INT4":
        yield f"{name}_packed", "I32", (rows, cols // 8), _integers()
        yield f"{name}_scale", "BF16", (rows, cols // GROUP), _bf16(1e-4, 5e-3)
        yield f"{name}_shape", "I64", (2,), np.array([rows, cols], "<i8")
    else:
        stem = name.removesuffix(".weight")
        yield f"{stem}.qweight", "I32", (cols // 8, rows), _integers()
        yield f"{stem}.qzeros", "I32", (cols // GROUP, rows // 8), np.full(1 << 16, 0x77777777, "<i4")
        yield f"{stem}.scales", "F16", (cols // GROUP, rows), _scales().astype("<f2") + np.float16(5e-3)
        yield f"{stem}.g_idx", "I32", (cols,), (np.arange(cols) // GROUP).astype("<i4")


def _matrices(layers: int, cols: int, hidden: int) -> Iterator[tuple[str, int, int]]:
    yield "model.embed_tokens.weight", VOCABULARY, cols
    for i in range(layers):
        layer = f"model.layers.{i}"
        for letter, rows in {"q": cols, "k": cols // 4, "v": cols // 4, "o": cols}.items():
            yield f"{layer}.self_attn.{letter}_proj.weight", rows, cols
        for matrix, shape in {"gate": (hidden, cols), "up": (hidden, cols), "down": (cols, hidden)}.items():
            yield f"{layer}.mlp.{matrix}_proj.weight", *shape
        for norm in ("input", "post_attention"):
            yield f"{layer}.{norm}_layernorm.weight", 0, cols
    yield "model.norm.weight", 0, cols
    yield "lm_head.weight", VOCABULARY, cols


def _normal() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(_POOL // 4, dtype=np.float32)


def _bf16(spread: float, middle: float = 0) -> NDArray[np.uint16]:
    values = _normal() * np.float32(spread) + np.float32(middle)
    return (values.view(np.uint32) >> np.uint32(16)).astype("<u2")


def _scales() -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(5e-5, 2e-4, 1 << 16).astype("<f4")


def _integers() -> NDArray[np.int32]:
    return np.random.default_rng(2).integers(-(2**31), 2**31, _POOL // 4).astype("<i4")


def _e4m3() -> NDArray[np.uint8]:
    """8-bit floats as they are after blocks were scaled to the largest, 448: Gaussian with a deviation of 110."""
    halves = (np.clip(_normal() * 110, -448, 448) / 256).astype(np.float16).view(np.uint16)
    size = (halves & 0x7FFF) >> 7
    return (halves >> 8 & 0x80 | np.minimum(size, 0x7E)).astype(np.uint8)


if __name__ == "__main__":
    main()
