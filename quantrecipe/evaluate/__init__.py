"""Evaluation by llama.cpp: perplexity, and KL divergence from the unquantized model.

    reference = make_reference("model.bf16.gguf", read_text("held-out.txt"), "model.reference")
    evaluate("model.Q4_K_M.gguf", reference).kld_mean

Needs llama-cpp-python (extra `llama`), which is imported when a model is run.
"""

from quantrecipe.evaluate.bindings import require_engine
from quantrecipe.evaluate.compare import Positions
from quantrecipe.evaluate.make import DEFAULT_CONTEXT, make_reference, reference_key
from quantrecipe.evaluate.reference import Reference, is_reference, read_reference
from quantrecipe.evaluate.scoring import evaluate, score
from quantrecipe.evaluate.statistics import Evaluation, difference, summarise
from quantrecipe.evaluate.texts import Text, read_text

__all__ = [
    "DEFAULT_CONTEXT",
    "Evaluation",
    "Positions",
    "Reference",
    "Text",
    "difference",
    "evaluate",
    "is_reference",
    "make_reference",
    "read_reference",
    "read_text",
    "reference_key",
    "require_engine",
    "score",
    "summarise",
]
