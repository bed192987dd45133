"""In place of llama.cpp, for probes: a model that is open, or a file, is compared with what it was at first.

What it "says" of a chunk is Σ (w - w₀)² / Σ w₀² over all weights, so that a probe's figure can be computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import pytest

from quantrecipe import load_registry, open_model
from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.engine.graph import Weight
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Positions
from quantrecipe.measure import by_executor, open_resident
from quantrecipe.memory.machine import Machine

CHUNKS = 32
REGISTRY = load_registry(plugins=False)

Tensors = dict[str, np.ndarray[Any, np.dtype[np.uint8]]]


class OpenModel:
    """A LanguageModel, as far as probes know one. `unused`: tensors that it doesn't use for text."""

    def __init__(self, path: Path, unused: Sequence[str]) -> None:
        self.path = path
        self.bytes, self.types = read_file(path)
        self.written: list[str] = []
        self._unused = set(unused)

    @property
    def weights(self) -> Mapping[str, Weight]:
        return {
            name: Weight(
                name=name,
                ggml_type=REGISTRY.format(self.types[name]).spec.ggml_type,
                shape=(1,),
                nbytes=data.nbytes,
                buffer="CPU",
                address=0,
            )
            for name, data in self.bytes.items()
            if name not in self._unused
        }

    def read(self, name: str, part: slice = slice(None)) -> Any:
        return self.bytes[name][part].copy()

    def write(self, name: str, data: Any, offset: int = 0) -> None:
        self.written.append(name)
        self.bytes[name][offset : offset + data.size] = data.reshape(-1)


class StandIn:
    """What stands in for the engine, and notes what is asked of it.

    sealed:     why it can't be looked into
    unwritable: a tensor that can't be written
    files:      paths that were opened, in order
    """

    def __init__(self) -> None:
        self.sealed = ""
        self.unwritable = ""
        self.unused: list[str] = []
        self.files: list[Path] = []
        self.runs: list[Tensors] = []
        self.partial_runs = 0
        self.read: list[range] = []  # chunks of each run
        self.chunks = CHUNKS
        self.hard = np.ones(CHUNKS)  # how hard each chunk is
        self.dies_after: int | None = None  # runs of all chunks
        self.ended = False  # the process that has the model open
        self.models: list[OpenModel] = []
        self._first: Tensors = {}
        self._types: dict[str, str] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch, *, ram_free: int = 1 << 30) -> None:
        """Take the engine's place, on a machine with so much free memory."""
        for name in ("make_reference", "score"):
            monkeypatch.setattr(open_resident, name, getattr(self, name))
        monkeypatch.setattr(open_resident, "Session", self.session)
        monkeypatch.setattr(open_resident, "find_engine", lambda named: named)
        monkeypatch.setattr(open_resident, "engine_facts", self.facts)
        monkeypatch.setattr(by_executor, "find_engine", lambda named: named)
        monkeypatch.setattr(by_executor, "engine_facts", self.facts)
        machine = Machine(gpus=(), ram_total=2 * ram_free, ram_free=ram_free)
        monkeypatch.setattr(open_resident, "detect_machine", lambda: machine)

    def facts(self, engine: object) -> EngineFacts:
        named = Engine(library=Path("libllama.so"), source="--engine")
        return EngineFacts(engine=named, version="b1", devices=(), refused=(), sealed=self.sealed)

    def session(self, path: Path, *, writable: bool, **settings: Any) -> Session:
        assert writable
        self.files.append(path)
        self.models.append(OpenModel(path, self.unused))
        self.ended = False
        return Session(self.models[-1], self.unwritable, lambda: self.ended)

    def make_reference(self, model: Path | Session, texts: Any, out: Path, **settings: Any) -> Any:
        path = model.model.path if isinstance(model, Session) else Path(model)
        self._first, self._types = read_file(path)
        chunks = self.chunks
        return SimpleNamespace(
            path=out,
            scored=1,
            n_ctx=512,
            chunks=chunks,
            blocks=None,
            texts=[SimpleNamespace(name="text.txt", chunks=chunks)],
            places=(np.arange(chunks), np.full(chunks, 511)),
        )

    def score(
        self, file: Path | Session, reference: Any, *, every: int = 1, first: int = 0, **settings: Any
    ) -> Positions:
        self.read.append(range(first, self.chunks, every))
        if isinstance(file, Session):
            return self._said({name: data.copy() for name, data in file.model.bytes.items()}, every, first)
        self.files.append(Path(file))
        return self._said(read_file(Path(file))[0], every, first)

    def _said(self, tensors: Tensors, every: int, first: int) -> Positions:
        if every == 1:
            if self.dies_after is not None and len(self.runs) >= self.dies_after:
                raise EvaluationError("llama.cpp has ended", "look at its log")
            self.runs.append(tensors)
        else:
            self.partial_runs += 1
        off = whole = 0.0
        for name, exact in self._first.items():
            before, after = (values(data, self._types[name]) for data in (exact, tensors[name]))
            off += float(np.square(after - before).sum())
            whole += float(np.square(before).sum())
        said = off / whole * self.hard[: self.chunks][first::every]
        return Positions(cost=said, reference_cost=said, divergence=said, agrees=said)


class Session:
    """Runs functions here."""

    def __init__(self, model: OpenModel, unwritable: str, ended: Callable[[], bool]) -> None:
        self.model = model
        self._unwritable, self._ended = unwritable, ended

    @property
    def died(self) -> bool:
        return self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def call(self, function: Callable[..., Any], *arguments: Any, hear: Any = None) -> Any:
        if self._unwritable and function is open_resident.used_of:
            raise EvaluationError(
                f"llama.cpp has {self._unwritable} in a buffer that can't be written (Split)"
            )
        return function(self.model, *arguments, tell=lambda what: None)


def read_file(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Bytes and types of all tensors in a GGUF. EvaluationError where the disk fails, of which llama.cpp dies."""
    model = open_model(path, registry=REGISTRY)
    found = {}
    for name, source in model.sources.items():
        (extent,) = source.extents
        try:
            with extent.path.open("rb") as file:
                file.seek(extent.offset)
                found[name] = np.frombuffer(file.read(extent.nbytes), np.uint8).copy()
        except OSError as error:
            raise EvaluationError(f"llama.cpp has ended: {error}", file=path) from error
    return found, {tensor.name: tensor.dtype for tensor in model.tensors}


def values(data: Any, type_: str) -> Any:
    """Flat bytes as float64 weights; a row at a time is enough for types whose rows are blocks side by side."""
    fmt = REGISTRY.format(type_)
    blocks = data.reshape(-1, fmt.spec.block_bytes)
    return fmt.decode(blocks, fmt.spec.block).astype(np.float64)
