"""llama.cpp, in a process of its own: its libraries found and loaded, a model kept open, looked into and changed.

    with Session("model.gguf", writable=True) as session:
        session.call(job, …)      # `job` runs there, with the open model; see `session`

A session keeps its model loaded, so that many questions cost one loading. What it can do besides giving logits:

    look   the inputs of matrices, as llama.cpp computes them, reduced on the spot
    swap   the bytes of a weight replaced, and restored

Both go through llama.cpp's callback for the nodes of its graph: see `graph`.
"""

from quantrecipe.engine.libraries import Engine, find_engine, named_engine
from quantrecipe.engine.report import EngineFacts, engine_facts, require_engine
from quantrecipe.engine.session import RunOptions, Session

__all__ = [
    "Engine",
    "EngineFacts",
    "RunOptions",
    "Session",
    "engine_facts",
    "find_engine",
    "named_engine",
    "require_engine",
]
