"""A model whose matrices span several units of rows, and what each of its tensors should become.

Most test models are so small that a tensor is one unit: what goes wrong between units doesn't show there. In this one
the last layer's experts and the output matrix are longer than a unit. What the tests compare with is made from whole
matrices, without units, threads or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantrecipe.importance.read_importance import read_importance
from quantrecipe.output.row_units import CHUNK_WEIGHTS
from quantrecipe.plan.plan import Plan
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors

__all__ = [
    "COLS",
    "LONG",
    "METADATA",
    "ROWS",
    "expected",
    "importance_file",
    "importances",
    "weights",
    "written",
]

COLS, EXPERTS, LAYERS = 256, 2, 3
ROWS = CHUNK_WEIGHTS // COLS + 256  # a unit and a short one
METADATA = llama_metadata(block_count=LAYERS)
LONG = ("blk.2.ffn_gate_exps", "blk.2.ffn_up_exps", "blk.2.ffn_down_exps", "output")
"""What spans several units."""


def weights(*, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Name → weights. The largest of a matrix, which NVFP4's factor goes by, is in its first unit or in its last."""
    tensors = llama_tensors(layers=LAYERS, cols=COLS, hidden=COLS, experts=EXPERTS, seed=seed)
    rng = np.random.default_rng(seed)
    for name in LONG:
        matrix = (COLS, ROWS) if name.endswith("ffn_down_exps") else (ROWS, COLS)
        shape = matrix if name == "output" else (EXPERTS, *matrix)
        tensors[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * np.float32(0.05)
    up = tensors["blk.2.ffn_up_exps.weight"]
    up[0, 3, 7] = -3.0
    up[1, -5, 11] = 0.75
    tensors["output.weight"][17, 100] = 1.5
    return tensors


def importance_file(path: Path, *, seed: int = 1) -> Path:
    """Importance for every matrix but the embeddings, another for each layer and expert."""
    rng = np.random.default_rng(seed)
    entries = {}
    for name, values in weights().items():
        if values.ndim > 1 and name not in ("token_embd.weight", "output.weight"):
            experts = values.shape[0] if values.ndim == 3 else 1
            sums = np.exp(rng.standard_normal((experts, values.shape[-1]))).astype(np.float32)
            entries[name] = (sums, [4.0 + expert for expert in range(experts)])
    return write_gguf_imatrix(path, entries)


def importances(path: Path) -> dict[str, NDArray[np.float32]]:
    """Name → float32 (experts, cols): the means of squares that the file has."""
    return {name: entry.values for name, entry in read_importance(path).entries.items()}


def expected(
    plan: Plan,
    tensors: Mapping[str, NDArray[np.float32]],
    importance: Mapping[str, NDArray[np.float32]],
) -> dict[str, bytes]:
    """Name → what it becomes: each expert's matrix encoded in one piece, and the factors of NVFP4.

    The model has its matrices as BF16, and its vectors as F32.
    """
    formats = {a.tensor.name: a.format for a in plan.assignments}
    found = {}
    for a in plan.assignments:
        owner = a.owner or a.tensor.name
        values, format_ = tensors[owner], formats[owner]
        if values.ndim == 1:
            found[a.tensor.name] = values.tobytes()
            continue
        values = (values.view(np.uint32) >> np.uint32(16) << np.uint32(16)).view(np.float32)
        parts = []
        for expert, matrix in enumerate(values if values.ndim == 3 else values[None]):
            scaled = matrix
            if format_.spec.companion is not None:
                factor = np.float32(format_.factor(float(np.abs(matrix).max())))
                scaled = matrix / factor
            if a.owner is not None:
                parts.append(factor.tobytes())
            else:
                parts.append(
                    format_.encode(scaled, importance[owner][expert] if a.importance else None).tobytes()
                )
        found[a.tensor.name] = b"".join(parts)
    return found


def written(plan: Plan, path: Path) -> dict[str, bytes]:
    """Name → the bytes in the file, at the places that the plan says."""
    raw = path.read_bytes()
    return {a.tensor.name: raw[a.offset : a.offset + a.nbytes] for a in plan.assignments}
