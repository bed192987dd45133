"""Losses that are predicted: from what, how far they are off, and when a tensor is measured after all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe import load_registry, open_model
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.measure import Measurement, measure
from quantrecipe.measure.predicted import ANCHORS, FEWEST_LAYERS, MISS, Shapes
from quantrecipe.sensitivity import Loss, Sensitivity, TensorSensitivity, read_sensitivity
from quantrecipe.tensor import TensorInfo

REGISTRY = load_registry(plugins=False)
USUAL = {
    "IQ3_XXS": 0.02,
    "Q3_K": 0.021,
    "Q4_0": 0.007,
    "Q4_K": 0.005,
    "Q5_0": 0.0017,
    "Q5_K": 0.0013,
    "Q6_K": 3e-4,
    "Q8_0": 3e-5,
}
TYPES = tuple(USUAL)
ROLE = "attn_q"
TENSORS = [TensorInfo.from_name(f"blk.{layer}.{ROLE}.weight", (64, 256), "BF16") for layer in range(10)]
FORMATS = tuple(REGISTRY.formats[name] for name in TYPES)


def losses(layer: int, *, wild: str = "", scatter: float = 0.0) -> dict[str, float]:
    """All types are off by one factor, and the grid, Q4_0 and Q5_0 by one more; `wild` is off by what nobody knows."""
    rng = np.random.default_rng(layer)
    all_types, grids = rng.normal(0, 0.2), rng.normal(0, 0.1)
    found = {}
    for name, usual in USUAL.items():
        off = all_types + (grids if name in ("IQ3_XXS", "Q4_0", "Q5_0") else 0) + rng.normal(0, scatter)
        found[name] = usual * float(np.exp(off + (rng.normal(0, 0.3) if name == wild else 0)))
    return found


def tensor(layer: int, known: Mapping[str, float], *names: str) -> TensorSensitivity:
    its = {
        name: Loss(error=known[name], standard_error=0.001 * known[name], nbytes=1) for name in names or TYPES
    }
    return TensorSensitivity(name=TENSORS[layer].name, digest="", weights=1, losses=its, alpha=1.0)


def shapes(**how: Any) -> Shapes:
    return Shapes({ROLE: [tensor(layer, losses(layer, **how)) for layer in range(6)]})


def test_anchors_tell_the_rest() -> None:
    found, truth = shapes(), losses(9)
    formats = found.measured(TENSORS[9], FORMATS)
    names = [fmt.spec.name for fmt in formats]
    assert len(names) == 3
    assert {*ANCHORS} < {*names}
    predicted = found.predicted(TENSORS[9], tensor(9, truth, *names), FORMATS)
    assert list(predicted.losses) == list(TYPES)
    assert {*predicted.predicted} == {*TYPES} - {*names}
    for name in TYPES:
        assert predicted.losses[name].error == pytest.approx(truth[name], rel=0.02)
        assert predicted.losses[name].nbytes > 1 or name in names
    assert abs(predicted.check) < 0.02


def test_what_follows_no_pattern_is_measured() -> None:
    found = shapes(wild="Q5_K")
    names = [fmt.spec.name for fmt in found.measured(TENSORS[9], FORMATS)]
    assert "Q5_K" in names
    assert "Q5_K" not in found.predictable(ROLE)
    assert found.predictable("ffn_up") == ()


def test_standard_errors_are_what_predictions_are_off_by() -> None:
    off = []
    for layer in range(6, 10):
        found, truth = shapes(scatter=0.012), losses(layer, scatter=0.012)
        names = [fmt.spec.name for fmt in found.measured(TENSORS[layer], FORMATS)]
        predicted = found.predicted(TENSORS[layer], tensor(layer, truth, *names), FORMATS)
        off += [
            (predicted.losses[name].error - truth[name]) / predicted.losses[name].standard_error
            for name in predicted.predicted
        ]
    assert 0.4 < np.sqrt(np.mean(np.square(off))) < 2.5


class Counting(Imatrix):
    """Counts what is encoded. odd: the name of a type that is worse by the factor in the rows of one tensor."""

    def __init__(self, odd: float = 1.0) -> None:
        super().__init__()
        self.encoded: list[str] = []
        self.odd = odd

    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        self.encoded.append(fmt.spec.name)
        lost, whole = super().row_losses(rows, fmt, importance)
        odd = fmt.spec.name not in ANCHORS and rows.flat[0] == self.odd
        return lost * (1.5 if odd else 1.0), whole


@pytest.fixture
def tensors() -> dict[str, Any]:
    return llama_tensors(layers=FEWEST_LAYERS)


def measured(
    folder: Path, tensors: Any, analysis: Imatrix, name: str = "out", **changes: Any
) -> tuple[Sensitivity, Path]:
    path = write_gguf(folder / "model.gguf", tensors, llama_metadata(block_count=FEWEST_LAYERS), type_="F32")
    what = Measurement(**{"types": TYPES, "analysis": analysis, "threads": 1} | changes)
    out = folder / f"{name}.jsonl"
    return measure(open_model(path), out, what, registry=REGISTRY), out


def test_a_model_is_measured_in_few_types_and_the_file_says_so(tmp_path: Path, tensors: Any) -> None:
    few, every = Counting(), Counting()
    found, out = measured(tmp_path, tensors, few)
    whole, _ = measured(tmp_path, tensors, every, "every", predict=False)
    assert len(few.encoded) < 0.8 * len(every.encoded)
    predicted = [it for it in found.tensors.values() if it.predicted]
    assert len(predicted) > FEWEST_LAYERS
    assert not any(it.predicted for it in whole.tensors.values())
    assert {it.name for it in found.tensors.values()} == {it.name for it in whole.tensors.values()}
    for it in predicted:
        assert it.name.startswith("blk.")
        for name in it.predicted:
            assert it.losses[name].error == pytest.approx(whole.error(it.name, name), rel=0.1)
            assert it.losses[name].nbytes == whole.tensors[it.name].losses[name].nbytes
    assert read_sensitivity(out) == found


def test_predictions_are_no_measurements(tmp_path: Path, tensors: Any) -> None:
    """The same again measures nothing; who wants every type gets what was predicted measured, and no more."""
    first, again, every = Counting(), Counting(), Counting()
    found, _ = measured(tmp_path, tensors, first)
    assert measured(tmp_path, tensors, again)[0] == found
    assert not again.encoded
    whole, _ = measured(tmp_path, tensors, every, predict=False)
    assert not any(it.predicted or it.check for it in whole.tensors.values())
    assert len(every.encoded) == sum(len(it.predicted) for it in found.tensors.values())
    kept = Counting()  # and what was measured isn't predicted afterwards
    assert measured(tmp_path, tensors, kept)[0].tensors == whole.tensors
    assert not kept.encoded


def test_a_tensor_that_is_nothing_but_zeros_is_measured(tmp_path: Path, tensors: Any) -> None:
    name = "blk.2.attn_q.weight"
    tensors[name][...] = 0
    found, _ = measured(tmp_path, tensors, Imatrix())
    assert not found.tensors[name].predicted
    assert {type_: loss.error for type_, loss in found.tensors[name].losses.items()} == dict.fromkeys(
        TYPES, 0
    )


def test_what_a_check_refutes_is_measured(tmp_path: Path, tensors: Any) -> None:
    name = "blk.2.attn_q.weight"
    tensors[name].flat[0] = odd = np.float32(0.123)
    found, _ = measured(tmp_path, tensors, Counting(float(odd)))
    assert not found.tensors[name].predicted
    assert set(found.tensors[name].losses) == {*TYPES}
    assert any(it.predicted for it in found.tensors.values())
    assert all(abs(it.check) <= MISS for it in found.tensors.values())


@pytest.mark.parametrize("changes", [{"sample": None}, {"types": TYPES[:5]}, {"types": TYPES[1:]}])
def test_all_is_measured_where_it_has_to_be(tmp_path: Path, tensors: Any, changes: Any) -> None:
    """Every row; few types; no anchors."""
    found, _ = measured(tmp_path, tensors, Imatrix(), **changes)
    assert not any(it.predicted for it in found.tensors.values())
