"""Evaluation by llama.cpp: perplexity, and KL divergence from the unquantized model.

    reference = make_reference("model.bf16.gguf", read_text("held-out.txt"), "model.reference")
    evaluate("model.Q4_K_M.gguf", reference).kld_mean

Needs llama.cpp's libraries (docs/engine.md), which are loaded in a process of their own when a model is run.
`require_engine` says beforehand whether that can be done.
"""

from quantrecipe.engine import Engine, EngineFacts, RunOptions, engine_facts, find_engine, require_engine
from quantrecipe.evaluate.positions import Positions
from quantrecipe.evaluate.reference import Noise, Reference, is_reference, read_reference
from quantrecipe.evaluate.requests import (
    DEFAULT_CONTEXT,
    evaluate,
    make_reference,
    reference_key,
    score,
)
from quantrecipe.evaluate.resampling import Blocks, Drawn, Interval, blocks_of, draw
from quantrecipe.evaluate.statistics import Evaluation, difference, summarise
from quantrecipe.evaluate.verdicts import Intervals, Pair, compare_files, intervals_of
from quantrecipe.texts.plain_text import Text, read_text

__all__ = [
    "DEFAULT_CONTEXT",
    "Blocks",
    "Drawn",
    "Engine",
    "EngineFacts",
    "Evaluation",
    "Interval",
    "Intervals",
    "Noise",
    "Pair",
    "Positions",
    "Reference",
    "RunOptions",
    "Text",
    "blocks_of",
    "compare_files",
    "difference",
    "draw",
    "engine_facts",
    "evaluate",
    "find_engine",
    "intervals_of",
    "is_reference",
    "make_reference",
    "read_reference",
    "read_text",
    "reference_key",
    "require_engine",
    "score",
    "summarise",
]
