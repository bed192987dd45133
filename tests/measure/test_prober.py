"""Probes: what is written into the base file, what is restored; nothing is run twice. The engine is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe import load_registry, open_model
from quantrecipe.api import Effect
from quantrecipe.evaluate import Text
from quantrecipe.measure import prober as module
from quantrecipe.measure.prober import Passes, Prober, describe
from quantrecipe.measure.progress import Silent
from quantrecipe.measure.rounding import Rounded
from quantrecipe.sensitivity import Probed

REGISTRY = load_registry(plugins=False)
TEXT = Text(name="text.txt", data=b"some words")


class Engine:
    """In place of llama.cpp: keeps what the file holds each time that it is asked to run it."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def make_reference(self, model: Path, texts: Any, out: Path, **settings: Any) -> Path:
        out.write_bytes(model.read_bytes())
        return out

    def score(self, model: Path, reference: Path, **settings: Any) -> bytes:
        self.files.append(Path(model).read_bytes())
        return self.files[-1]

    @staticmethod
    def difference(one: bytes, other: bytes) -> tuple[float, float]:
        changed = np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)
        return float(changed.mean()), 0.001


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    for name in ("make_reference", "score", "difference"):
        monkeypatch.setattr(module, name, getattr(engine, name))
    return engine


@pytest.fixture
def make(tmp_path: Path, engine: Engine) -> Callable[..., Prober]:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata(block_count=2))
    model = open_model(path, registry=REGISTRY)

    def build(**changes: Any) -> Prober:
        settings: dict[str, Any] = {
            "digests": {"a": "1"},
            "folder": tmp_path,
            "known": {},
            "save": lambda probed: None,
            "progress": Silent(),
        }
        passes = Passes(texts=(TEXT,), tokens=1024, threads=1)
        return Prober(model, REGISTRY, None, passes, **settings | changes)

    return build


def spans(prober: Prober) -> dict[str, slice]:
    """Where each tensor lies in the base file."""
    assert prober._base is not None
    return {a.tensor.name: slice(a.offset, a.offset + a.nbytes) for a in prober._base._plan.assignments}


def test_a_probe_changes_its_tensors_and_nothing_else(make: Callable[..., Prober], engine: Engine) -> None:
    probes: list[Mapping[str, str]] = [
        {"blk.0.attn_v.weight": "Q4_0"},
        {"blk.1.ffn_down.weight": "Q3_K", "output.weight": "Q4_0"},
        {"blk.0.attn_v.weight": "Q2_K", "output.weight": "Q4_0"},
    ]
    with make() as prober:
        for types in probes:
            prober.evaluate(types)
        places = spans(prober)
    exact = engine.files[0]
    for types, file in zip(probes, engine.files[1:], strict=True):
        assert len(file) == len(exact)
        changed = {name for name, span in places.items() if file[span] != exact[span]}
        assert changed == set(types)
        rest = np.ones(len(file), bool)
        for name in types:
            rest[places[name]] = False
        assert (np.frombuffer(file, np.uint8)[rest] == np.frombuffer(exact, np.uint8)[rest]).all()


def test_what_is_written_is_what_the_type_leaves(make: Callable[..., Prober], engine: Engine) -> None:
    name = "blk.0.attn_v.weight"
    with make() as prober:
        prober.evaluate({name: "Q4_0"})
        span = spans(prober)[name]
    values = llama_tensors(layers=2)[name]
    rows = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    q4, q8 = REGISTRY.formats["Q4_0"], REGISTRY.formats["Q8_0"]
    left = q4.decode(q4.encode(rows), rows.shape[1])
    stored = np.frombuffer(engine.files[1][span], np.uint8).reshape(len(rows), -1)
    assert (stored == q8.encode(left)).all()
    off = q8.decode(stored, rows.shape[1]) - rows
    expected = np.square(left - rows).sum()
    assert np.square(off).sum() == pytest.approx(expected, rel=0.02)  # Q8_0 adds next to nothing


def test_nothing_is_run_twice(make: Callable[..., Prober], engine: Engine) -> None:
    saved: list[Probed] = []
    types = {"blk.0.attn_v.weight": "Q4_0"}
    with make(save=saved.append) as prober:
        first = prober.evaluate(types)
        assert prober.evaluate(types) == first
    assert len(engine.files) == 2  # the base, and one probe
    assert [probed.what for probed in saved] == ["attn_v, layer 0 → Q4_0"]
    with make(known={probed.key: probed for probed in saved}) as prober:
        assert prober.evaluate(types) == Effect(kld=saved[0].kld, standard_error=0.001)
        assert [probed.key for probed in prober.probes] == [saved[0].key]
    assert len(engine.files) == 2


@pytest.mark.parametrize(
    "changes",
    [{"digests": {"a": "2"}}, {"digests": {"a": "1", "b": "3"}}],
)
def test_another_content_is_another_probe(make: Callable[..., Prober], changes: dict[str, Any]) -> None:
    types = {"blk.0.attn_v.weight": "Q4_0"}
    assert make(**changes)._key(types) != make()._key(types)
    assert make()._key({"blk.0.attn_v.weight": "Q4_1"}) != make()._key(types)


def test_leaves_nothing_behind(make: Callable[..., Prober], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    with make() as prober:
        prober.evaluate({"output.weight": "Q4_0"})
        assert set(tmp_path.iterdir()) != before
    assert set(tmp_path.iterdir()) == before


def test_rounding_keeps_groups_of_rows_together() -> None:
    q8, q4 = REGISTRY.formats["Q8_0"], REGISTRY.formats["Q4_0"]
    rounded = Rounded(q8, q4)
    assert rounded.spec.row_bytes(64) == q8.spec.row_bytes(64)
    assert rounded.spec.importance == q4.spec.importance


def test_probes_are_told_in_few_words() -> None:
    names = [f"blk.{layer}.{role}.weight" for role in ("attn_q", "attn_k") for layer in (0, 1, 2, 7)]
    assert describe(dict.fromkeys(names, "Q3_K")) == "attn_q, attn_k, layers 0-2, 7 → Q3_K"
    assert (
        describe({"output.weight": "Q4_K", "blk.3.ffn_up.weight": "Q3_K"})
        == "output; ffn_up, layer 3 → Q3_K, Q4_K"
    )
    assert describe({"output.weight": "Q4_K"}) == "output → Q4_K"
