"""The plugin spare-format: SPARE, which is F32 and may take its time, so that there is work to be interrupted.

What a node does is in its environment: a tensor takes SPARE_SECONDS there, or until nothing is under SPARE_GATE any
more; and the file SPARE_MARK says which process has begun with one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from quantrecipe.api import FormatSpec, QuantFormat, hookimpl

__all__ = ["Spare"]

QUANTRECIPE_API = 1


class Spare(QuantFormat):
    spec = FormatSpec(
        name="SPARE",
        ggml_type=223,
        block=1,
        block_bytes=4,
        dialect="spare",
        exactness="the weights themselves",
        summary="for tests",
    )

    def encode(self, rows, importance=None, *, out=None):
        if mark := os.environ.get("SPARE_MARK"):
            Path(mark).write_text(str(os.getpid()))
        while (gate := os.environ.get("SPARE_GATE")) and Path(gate).exists():
            time.sleep(0.02)
        time.sleep(float(os.environ.get("SPARE_SECONDS", "0")))
        data = np.ascontiguousarray(rows, np.float32).view(np.uint8)
        if out is None:
            return data
        out[...] = data
        return out

    def decode(self, data, k, *, out=None):
        rows = np.ascontiguousarray(data).view(np.float32)
        if out is None:
            return rows
        out[...] = rows
        return out


@hookimpl
def quantrecipe_formats() -> Iterable[QuantFormat]:
    return [Spare()]
