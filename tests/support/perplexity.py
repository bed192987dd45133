"""Perplexity by the real llama.cpp, as llama-perplexity computes it.

The text is cut into windows of `n_ctx` tokens; each is run from an empty cache, and the tokens of its second half
are scored, so that every scored token has at least half a window of context.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np


def perplexity(model: Path, text: str, *, n_ctx: int = 512, windows: int | None = None) -> tuple[float, int]:
    """(perplexity, number of scored tokens) of the first `windows` windows of the text."""
    import llama_cpp

    llm = llama_cpp.Llama(str(model), n_ctx=n_ctx, n_batch=n_ctx, logits_all=True, verbose=False)
    try:
        tokens = llm.tokenize(text.encode(), add_bos=False, special=False)
        total, count = 0.0, 0
        for start in list(range(0, len(tokens) - n_ctx + 1, n_ctx))[:windows]:
            window = tokens[start : start + n_ctx]
            llm.reset()
            llm.eval(window)
            first = n_ctx // 2
            logits = np.asarray(llm.scores[first : n_ctx - 1], np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            chosen = logits[np.arange(len(logits)), window[first + 1 :]]
            total += float((np.log(np.exp(logits).sum(axis=1)) - chosen).sum())
            count += len(logits)
        return math.exp(total / count), count
    finally:
        llm.close()
