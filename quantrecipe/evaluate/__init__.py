"""Evaluation by llama.cpp: perplexity, and KL divergence from the unquantized model.

    reference = make_reference("model.bf16.gguf", read_text("held-out.txt"), "model.reference")
    evaluate("model.Q4_K_M.gguf", reference).kld_mean

Needs llama.cpp's libraries (docs/engine.md), which are loaded in a process of their own when a model is run.
`require_engine` says beforehand whether that can be done.
"""

from quantrecipe.engine import Engine, EngineFacts, RunOptions, engine_facts, find_engine, require_engine
from quantrecipe.evaluate.positions import Positions
from quantrecipe.evaluate.reference import Reference, is_reference, read_reference
from quantrecipe.evaluate.requests import (
    DEFAULT_CONTEXT,
    evaluate,
    make_reference,
    make_reference_in,
    reference_key,
    score,
    score_in,
)
from quantrecipe.evaluate.statistics import Evaluation, difference, summarise
from quantrecipe.evaluate.texts import Text, read_text

__all__ = [
    "DEFAULT_CONTEXT",
    "Engine",
    "EngineFacts",
    "Evaluation",
    "Positions",
    "Reference",
    "RunOptions",
    "Text",
    "difference",
    "engine_facts",
    "evaluate",
    "find_engine",
    "is_reference",
    "make_reference",
    "make_reference_in",
    "read_reference",
    "read_text",
    "reference_key",
    "require_engine",
    "score",
    "score_in",
    "summarise",
]
