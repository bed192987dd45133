"""What an engine says of itself, asked in a process of its own: whether it runs here, its version, its devices."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from quantrecipe.engine.bindings import Device
from quantrecipe.engine.libraries import PACKAGE, Engine, find_engine
from quantrecipe.engine.session import ask_engine

__all__ = ["EngineFacts", "engine_facts", "require_engine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """What an engine says of itself; it was loaded on this machine, so it runs here.

    version: what llama.cpp and ggml say of themselves
    devices: all that it can compute on
    refused: backends that stand beside it and can't be loaded, each with the system's reason
    sealed:  why models can't be looked into and changed by it, as far as that shows without one; "" where they can
    """

    engine: Engine
    version: str
    devices: tuple[Device, ...]
    refused: tuple[str, ...]
    sealed: str = ""

    @property
    def label(self) -> str:
        """The engine in a few words, such as "llama-cpp-python 0.3.36 (ggml 0.25.3)"."""
        if self.engine.source != PACKAGE:
            return f"llama.cpp {self.version}"
        try:
            return f"{PACKAGE} {version(PACKAGE)} ({self.version})"
        except PackageNotFoundError:
            return f"{PACKAGE} ({self.version})"


def engine_facts(engine: Engine) -> EngineFacts:
    """Ask an engine about itself. EvaluationError if it can't be loaded, isn't known, or dies of the question."""
    facts = ask_engine(engine)
    return EngineFacts(
        engine=engine,
        version=facts["version"],
        devices=tuple(Device(**device) for device in facts["devices"]),
        refused=tuple(facts["refused"]),
        sealed=facts["sealed"],
    )


def require_engine(path: Engine | str | Path | None = None) -> Engine:
    """`find_engine`, for before long work: what would stop the engine later is an EvaluationError now.

    It is loaded in a process of its own, which takes a third of a second, and some more where there are GPUs.
    """
    return engine_facts(find_engine(path)).engine
