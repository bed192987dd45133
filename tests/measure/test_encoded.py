"""What types lose with an encoder that knows the inputs: errors of outputs, probes and mixes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, StandIn

from quantrecipe import open_model
from quantrecipe.api import InputStatistics
from quantrecipe.calibration.gram import Grams
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.errors import ImportanceError
from quantrecipe.evaluate import Text
from quantrecipe.measure import Measurement, Passes, measure
from quantrecipe.measure.encoded import Encoding, TensorEncoding
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent
from quantrecipe.model.model import Model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.sensitivity import Probed, Sensitivity
from quantrecipe.tensor import TensorInfo

Q, V, DOWN = "blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight"
TYPES = ("Q3_K", "IQ4_XS", "Q6_K")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1), llama_metadata(block_count=1))
    return open_model(path, registry=REGISTRY)


@pytest.fixture
def grams(tmp_path: Path) -> Grams:
    return write_statistics(tmp_path, {Q: (256, (600,)), DOWN: (512, (100,))})


def encoding(grams: Grams, **options: Any) -> Encoding:
    return Encoding(encoder=Feedback(options), statistics=grams)


def measured(model: Model, folder: Path, given: Encoding | None) -> Sensitivity:
    analysis = REGISTRY.tensor_analysis("error")
    what = Measurement(types=TYPES, analysis=analysis, sample=None, threads=2, encoding=given)
    return measure(model, folder / "out.jsonl", what, registry=REGISTRY)


def rows_of(name: str) -> Any:
    stored = llama_tensors(layers=1)[name].view(np.uint32) & np.uint32(0xFFFF0000)  # as BF16 cuts
    return stored.view(np.float32)


def test_the_loss_is_that_of_the_outputs(model: Model, grams: Grams, tmp_path: Path) -> None:
    found = measured(model, tmp_path, encoding(grams))
    rows, gram = rows_of(Q), grams[Q].astype(float)
    encoder = Feedback({})
    whole = (np.square(rows.astype(float)) * np.diag(gram)).sum()
    for type_ in TYPES:
        fmt = REGISTRY.formats[type_]
        prepared = encoder.prepare(InputStatistics(gram=grams[Q], tokens=600), fmt=fmt)
        off = rows - fmt.decode(encoder.encode(rows, fmt, None, prepared), rows.shape[1]).astype(float)
        by_hand = ((off @ gram) * off).sum() / whole
        assert found.error(Q, type_) == pytest.approx(by_hand, rel=1e-5)
        own = rows - fmt.decode(fmt.encode(rows), rows.shape[1]).astype(float)
        assert by_hand < 0.8 * ((own @ gram) * own).sum() / whole


def test_what_has_no_statistics_or_too_few_tokens_is_measured_as_ever(
    model: Model, grams: Grams, tmp_path: Path
) -> None:
    found = measured(model, tmp_path, encoding(grams))
    (tmp_path / "plain").mkdir()
    plain = measured(model, tmp_path / "plain", None)
    for name in (DOWN, V):
        assert found.tensors[name].losses == plain.tensors[name].losses
    assert found.error(Q, "Q3_K") != plain.error(Q, "Q3_K")


def test_an_expert_without_enough_tokens_is_measured_as_ever(tmp_path: Path) -> None:
    grams = write_statistics(tmp_path, {"blk.0.ffn_up_exps.weight": (256, (600, 20))})
    tensor = TensorInfo.from_name("blk.0.ffn_up_exps.weight", (2, 8, 256), "F32")
    of = encoding(grams).of(tensor)
    rows = np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32)
    assert of is not None
    assert of.losses(0, rows, REGISTRY.formats["Q4_K"], None) is not None
    assert of.losses(1, rows, REGISTRY.formats["Q4_K"], None) is None
    assert of.losses(0, rows, REGISTRY.formats["NVFP4"], None) is None
    lossless = of.losses(0, rows, REGISTRY.formats["F32"], None)
    assert lossless is not None and not lossless[0].any()


def test_losses_are_known_again_by_encoder_options_and_statistics(
    model: Model, grams: Grams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    plain = Feedback.encode
    monkeypatch.setattr(Feedback, "encode", lambda *a, **k: (calls.append(a[2].spec.name), plain(*a, **k))[1])
    first = measured(model, tmp_path, encoding(grams))
    assert set(calls) == set(TYPES)
    encoded = f"encoded by feedback {Feedback.version} (by mean, damping auto, rounds 2)"
    analysis = f"error 3, {encoded}, statistics {grams.digest}"
    assert first.provenance.analysis == analysis
    calls.clear()
    assert measured(model, tmp_path, encoding(grams)) == first
    assert not calls
    assert measured(model, tmp_path, encoding(grams, damping=0.3)).error(Q, "Q3_K") != first.error(Q, "Q3_K")
    assert calls
    calls.clear()
    other = write_statistics(tmp_path / "other", {Q: (256, (700,))}, seed=1)
    assert measured(model, tmp_path, encoding(other)).error(Q, "Q3_K") != first.error(Q, "Q3_K")
    assert calls


def test_statistics_that_can_t_be_used_name_the_tensor(model: Model, tmp_path: Path) -> None:
    grams = write_statistics(tmp_path, {Q: (256, (600,))})
    path = next(path for path in grams.folder.iterdir() if path.suffix != ".json")
    data = bytearray(path.read_bytes())
    data[-4 * 256 * 257 // 2 :] = bytes(4 * 256 * 257 // 2)
    path.write_bytes(data)
    with pytest.raises(ImportanceError, match=Q):
        measured(model, tmp_path, encoding(grams))


def test_probes_round_with_the_encoder(model: Model, grams: Grams, tmp_path: Path, engine: StandIn) -> None:
    saved: list[Probed] = []
    passes = Passes(texts=(Text(name="t", data=b"words"),), tokens=1024, threads=1, resident="F32")
    given: dict[str, Any] = {"digests": {Q: "1"}, "folder": tmp_path, "known": {}, "progress": Silent()}
    for its in (None, encoding(grams), encoding(grams, damping=0.3)):
        with Prober(model, REGISTRY, None, passes, save=saved.append, encoding=its, **given) as prober:
            prober.evaluate({Q: "Q3_K"})
    assert len({probe.key for probe in saved}) == 3
    fmt, encoder = REGISTRY.formats["Q3_K"], Feedback({})
    prepared = encoder.prepare(InputStatistics(gram=grams[Q], tokens=600), fmt=fmt)
    made = fmt.decode(encoder.encode(rows_of(Q), fmt, None, prepared), 256)
    assert np.array_equal(engine.runs[3][Q].view(np.float32).reshape(-1, 256), made)
    changed = {
        name for name, data in engine.runs[3].items() if not np.array_equal(data, engine.runs[0][name])
    }
    assert changed == {Q}


def test_a_mix_has_the_encoder_of_its_plan(
    model: Model, grams: Grams, tmp_path: Path, engine: StandIn
) -> None:
    """The same types, made by the format and by the encoder, one after the other in the open model."""
    passes = Passes(texts=(Text(name="t", data=b"words"),), tokens=1024, threads=1, resident="F32")
    given: dict[str, Any] = {"digests": {Q: "1"}, "folder": tmp_path, "known": {}, "progress": Silent()}
    plans = []
    for encoder in ("plain", "feedback"):
        text = f"quantrecipe: 1\nname: mix\ndefault: Q3_K\nencoder: {encoder}\n"
        recipe = load_recipe_text(text, registry=REGISTRY)
        plans.append(make_plan(recipe, model, registry=REGISTRY, statistics=grams))
    with Prober(model, REGISTRY, None, passes, save=lambda probe: None, **given) as prober:
        keys = [prober.mix(plan, plan.recipe).key for plan in plans]
    assert keys[0] != keys[1]
    plain, encoded = engine.runs[1:]
    assert {name for name in plain if not np.array_equal(plain[name], encoded[name])} == {Q}


def test_each_expert_has_its_own_statistics(tmp_path: Path) -> None:
    """What was prepared for one isn't taken for the next."""
    name = "blk.0.ffn_up_exps.weight"
    stored = llama_tensors(layers=1, experts=2)[name]
    grams = write_statistics(tmp_path, {name: (256, (600, 700))})
    tensor = TensorInfo.from_name(name, stored.shape, "F32")
    fmt = REGISTRY.formats["Q4_K"]

    def lost(given: TensorEncoding | None, expert: int) -> list[float]:
        assert given is not None
        found = given.losses(expert, stored[expert], fmt, None)
        assert found is not None
        return found[0].tolist()

    both = encoding(grams).of(tensor)
    assert lost(both, 0) == lost(encoding(grams).of(tensor), 0)
    assert lost(both, 1) == lost(encoding(grams).of(tensor), 1)
