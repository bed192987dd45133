"""measure: the numbers are those of the real formats, nothing is measured twice, and what was found is never lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import with_provenance, write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import StandIn

from quantrecipe import load_registry, open_model
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.analyses.probe import Probe
from quantrecipe.api import Effect, ModelAnalysis, Study, TensorAnalysis
from quantrecipe.errors import ImportanceError, ModelError, NonFiniteError, OutputError, SensitivityError
from quantrecipe.evaluate import Text
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.measure import Measurement, Passes, Scope, Subject, choose_types, measure, scope_of
from quantrecipe.measure.journal import Journal
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.sensitivity import read_sensitivity
from quantrecipe.tensor import TensorInfo

ROOT = Path(__file__).parents[2]
REGISTRY = load_registry(plugins=False)
TYPES = ("Q4_0", "Q8_0")


class Counting(Imatrix):
    """Counts what it is asked; stops after so many."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.calls: list[str] = []
        self.stop_after = stop_after

    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        self.calls.append(fmt.spec.name)
        if len(self.calls) > self.stop_after:
            raise KeyboardInterrupt
        return super().row_losses(rows, fmt, importance)


def what(analysis: TensorAnalysis | None = None, **changes: Any) -> Measurement:
    settings: dict[str, Any] = {"types": TYPES, "analysis": analysis or Imatrix(), "threads": 1}
    return Measurement(**settings | changes)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2))


@pytest.fixture
def experts_file(tmp_path: Path) -> Path:
    return write_gguf(
        tmp_path / "experts.gguf",
        llama_tensors(layers=1, experts=4),
        llama_metadata(block_count=1, expert_count=4, expert_used_count=2),
    )


def test_losses_are_those_of_the_formats(model_file: Path, tmp_path: Path) -> None:
    found = measure(open_model(model_file), tmp_path / "out.jsonl", what(sample=None), registry=REGISTRY)
    weights = {
        name: (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # as write_gguf cuts to BF16
        for name, values in llama_tensors(layers=2).items()
    }
    for name in ("token_embd.weight", "blk.1.ffn_down.weight"):
        for type_ in TYPES:
            loss = found.tensors[name].losses[type_]
            assert loss.error == pytest.approx(
                Imatrix()
                .for_tensor(TensorInfo.from_name(name, weights[name].shape, "BF16"))
                .score(weights[name], REGISTRY.formats[type_]),
                rel=1e-5,
            )
            assert loss.standard_error == 0
            assert loss.nbytes == REGISTRY.formats[type_].spec.tensor_bytes(weights[name].shape)
    assert "blk.0.attn_norm.weight" not in found.tensors
    assert found.tensors["output.weight"].alpha_source == "prior"
    assert read_sensitivity(tmp_path / "out.jsonl").types == found.types


def test_a_matrix_that_states_another_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    model, out = open_model(model_file), tmp_path / "out.jsonl"
    entries = {"blk.0.attn_q.weight": (np.ones((1, 256), np.float32), [8.0])}
    silent = write_gguf_imatrix(tmp_path / "silent.gguf", entries)
    other = replace(fingerprint(model), norms="0" * 32)
    stating = with_provenance(silent, Provenance(fingerprint=str(other)), tmp_path / "stating.gguf")
    with pytest.raises(ImportanceError, match="of another model"):
        measure(model, out, what(), registry=REGISTRY, importance=read_importance(stating))
    assert not out.exists()
    measure(
        model,
        out,
        what(sample=256),
        registry=REGISTRY,
        importance=read_importance(stating),
        importance_of_another_model=True,
    )
    assert out.exists()


def test_threads_and_samples_do_not_show(model_file: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{threads}.jsonl" for threads in (1, 3)]
    for path, threads in zip(files, (1, 3), strict=True):
        measure(open_model(model_file), path, what(threads=threads, sample=1), registry=REGISTRY)
    assert files[0].read_bytes() == files[1].read_bytes()
    tensor = read_sensitivity(files[0]).tensors["blk.0.ffn_up.weight"]
    assert tensor.rows == 128
    assert 0 < tensor.losses["Q4_0"].standard_error < 0.05 * tensor.losses["Q4_0"].error


def test_what_was_measured_is_not_measured_again(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first, second, third, fourth = (Counting() for _ in range(4))
    measure(open_model(model_file), out, what(first), registry=REGISTRY)
    before = out.read_bytes()
    measure(open_model(model_file), out, what(second), registry=REGISTRY)
    assert second.calls == []
    assert out.read_bytes() == before
    measure(open_model(model_file), out, what(third, types=("Q4_0", "Q5_0", "Q8_0")), registry=REGISTRY)
    assert set(third.calls) == {"Q5_0"}
    measure(open_model(model_file), out, what(fourth, sample=1), registry=REGISTRY)
    assert set(fourth.calls) == set(TYPES)  # another sampling
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_a_tensor_that_changed_is_measured_again(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    measure(open_model(model_file), out, what(), registry=REGISTRY)
    tensors = llama_tensors(layers=2)
    tensors["blk.1.attn_q.weight"] = tensors["blk.1.attn_q.weight"] * np.float32(0.5)
    write_gguf(model_file, tensors)
    again = Counting()
    measure(open_model(model_file), out, what(again), registry=REGISTRY)
    assert again.calls == list(TYPES)


def test_a_stopped_run_goes_on_where_it_was(model_file: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(open_model(model_file), out, what(Counting(stop_after=9)), registry=REGISTRY)
    assert not out.exists()
    journal = tmp_path / "out.jsonl.journal"
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"tensor": {"name": "cut o')  # as a crash leaves it
    rest = Counting()
    found = measure(open_model(model_file), out, what(rest), registry=REGISTRY)
    assert len(rest.calls) == len(TYPES) * len(found.tensors) - 8
    measure(open_model(model_file), whole, what(), registry=REGISTRY)
    assert out.read_bytes() == whole.read_bytes()


def test_two_at_once_are_one_too_many(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal(tmp_path / "out.jsonl.journal", {}), pytest.raises(OutputError, match="another process"):
        measure(open_model(model_file), out, what(), registry=REGISTRY)


def test_the_file_of_another_model_is_not_replaced(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    measure(open_model(model_file), out, what(), registry=REGISTRY)
    other = write_gguf(tmp_path / "other.gguf", llama_tensors(layers=2, seed=5))
    tensors = llama_tensors(layers=2, seed=5)
    assert not np.array_equal(tensors["output.weight"], llama_tensors(layers=2)["output.weight"])
    before = out.read_bytes()
    with pytest.raises(SensitivityError, match="is of another model"):
        measure(open_model(other), out, what(), registry=REGISTRY)
    assert out.read_bytes() == before
    measure(open_model(other), out, what(), registry=REGISTRY, force=True)
    assert out.read_bytes() != before


class TestExperts:
    def matrix(self, path: Path, counts: tuple[int, ...]) -> Path:
        rng = np.random.default_rng(3)
        sums = rng.random((4, 256)).astype(np.float32) * np.array(counts, np.float32)[:, None]
        return write_gguf_imatrix(path, {"blk.0.ffn_up_exps.weight": (sums, counts)})

    def test_each_counts_as_often_as_it_was_chosen(self, experts_file: Path, tmp_path: Path) -> None:
        counts = (100, 5, 0, 40)
        importance = read_importance(self.matrix(tmp_path / "imatrix.gguf", counts))
        model = open_model(experts_file)
        found = measure(
            model, tmp_path / "o.jsonl", what(sample=None), registry=REGISTRY, importance=importance
        )
        tensor = found.tensors["blk.0.ffn_up_exps.weight"]
        assert tensor.unseen == (2,)
        values = llama_tensors(layers=1, experts=4)["blk.0.ffn_up_exps.weight"]
        rows = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        vectors = importance.entries["blk.0.ffn_up_exps.weight"].values
        q4 = REGISTRY.formats["Q4_0"]
        sums = [[part.sum() for part in Imatrix().row_losses(rows[i], q4, vectors[i])] for i in range(4)]
        lost, whole = (sum(count * pair[k] for count, pair in zip(counts, sums, strict=True)) for k in (0, 1))
        assert tensor.losses["Q4_0"].error == pytest.approx(lost / whole, rel=1e-5)
        assert tensor.expert_type == "Q4_0"
        assert tensor.experts == pytest.approx([pair[0] / pair[1] for pair in sums], rel=0.01)
        assert found.tensors["blk.0.ffn_down_exps.weight"].importance == ""

    def test_another_matrix_means_other_losses(self, experts_file: Path, tmp_path: Path) -> None:
        model, out = open_model(experts_file), tmp_path / "o.jsonl"
        one = read_importance(self.matrix(tmp_path / "1.gguf", (1, 1, 1, 1)))
        other = read_importance(self.matrix(tmp_path / "2.gguf", (9, 1, 1, 1)))
        measure(model, out, what(), registry=REGISTRY, importance=one)
        again = Counting()
        measure(model, out, what(again), registry=REGISTRY, importance=other)
        assert len(again.calls) == 4 * len(TYPES)  # of the one tensor that it covers, expert by expert


def test_the_matrix_of_another_model_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = write_gguf_imatrix(
        tmp_path / "i.gguf", {"blk.9.attn_q.weight": (np.ones((1, 8), np.float32), [1])}
    )
    with pytest.raises(ImportanceError, match="another model"):
        measure(
            open_model(model_file),
            tmp_path / "o.jsonl",
            what(),
            registry=REGISTRY,
            importance=read_importance(path),
        )


def test_shapes_have_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        measure(
            open_model("shapes/qwen3-14b", registry=REGISTRY), tmp_path / "o.jsonl", what(), registry=REGISTRY
        )


def test_nan_is_named(tmp_path: Path) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.attn_v.weight"][3, 5] = np.nan
    path = write_gguf(tmp_path / "nan.gguf", tensors, llama_metadata(block_count=1))
    with pytest.raises(NonFiniteError, match=r"blk\.0\.attn_v\.weight: a weight of row 3"):
        measure(open_model(path), tmp_path / "o.jsonl", what(), registry=REGISTRY)


class Halves(ModelAnalysis):
    """A plugin's: half of the prior, for attention alone."""

    name = "halves"
    summary = "half of the prior"
    version = 7

    def weigh(self, study: Study) -> dict[str, float]:
        assert study.evaluate is None
        assert study.losses["blk.0.attn_q.weight"]["Q4_0"] > study.losses["blk.0.attn_q.weight"]["Q8_0"]
        return {name: alpha / 2 for name, alpha in study.prior.items() if "attn" in name}


def test_any_analysis_of_models_may_weigh(model_file: Path, tmp_path: Path) -> None:
    plain = measure(open_model(model_file), tmp_path / "p.jsonl", what(), registry=REGISTRY)
    found = measure(open_model(model_file), tmp_path / "o.jsonl", what(weighing=Halves()), registry=REGISTRY)
    assert found.provenance.weighing == "halves 7"
    name = "blk.0.attn_q.weight"
    assert found.tensors[name].alpha == pytest.approx(plain.tensors[name].alpha / 2, rel=1e-4)
    assert found.tensors[name].alpha_source == "halves"
    assert found.tensors["output.weight"].alpha_source == "prior"


class Asking(ModelAnalysis):
    """Makes one probe, of a tensor of its own choice."""

    name = "asking"
    summary = "one probe"

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor

    def weigh(self, study: Study) -> dict[str, float]:
        assert study.evaluate is not None
        return {self.tensor: study.evaluate({self.tensor: "Q4_0"}).kld / study.losses[self.tensor]["Q4_0"]}


def test_what_probes_found_outlives_what_comes_later(
    model_file: Path, tmp_path: Path, engine: StandIn
) -> None:
    """More types, and other probes, in the same file."""
    out, model = tmp_path / "o.jsonl", open_model(model_file)
    passes = Passes(texts=(Text(name="t", data=b"words"),), tokens=512)
    one, other = "blk.0.attn_q.weight", "output.weight"

    def with_probe(tensor: str) -> Measurement:
        return what(weighing=Asking(tensor), passes=passes, work=tmp_path)

    first = measure(model, out, with_probe(one), registry=REGISTRY)
    assert first == read_sensitivity(out)
    more = measure(model, out, what(types=("Q4_0", "Q5_0")), registry=REGISTRY)
    assert more.tensors[one].alpha == first.tensors[one].alpha
    assert more.tensors[one].alpha_source == "asking"
    assert (more.provenance.weighing, more.probes) == (first.provenance.weighing, first.probes)
    second = measure(model, out, with_probe(other), registry=REGISTRY)
    assert second.tensors[one].alpha_source == "prior"
    assert [probe.used for probe in second.probes] == [True, False]
    assert (
        measure(model, out, with_probe(one), registry=REGISTRY).tensors[one].alpha == first.tensors[one].alpha
    )
    assert len(engine.runs) == 4  # each time the model itself and a probe, and no third time


def test_types_are_chosen_by_name() -> None:
    everything = choose_types(REGISTRY)
    assert {"Q4_K", "IQ2_XXS", "F16", "F32"} <= set(everything)
    assert "I32" not in everything
    assert everything[-1] == "F32"
    assert choose_types(REGISTRY, ["q?_k", "Q8_0"]) == ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
    with pytest.raises(SensitivityError, match="Q4_K"):
        choose_types(REGISTRY, ["Q4K"])


def test_the_example_by_sample_is_near_all_of_it(tmp_path: Path) -> None:
    """The trained model: its samples lie within their standard errors."""
    model = open_model(ROOT / "examples/tiny-code", registry=REGISTRY)
    some = measure(model, tmp_path / "s.jsonl", what(sample=1, types=("Q4_K", "Q3_K")), registry=REGISTRY)
    every = measure(model, tmp_path / "e.jsonl", what(sample=None, types=("Q4_K", "Q3_K")), registry=REGISTRY)
    off = [
        (loss.error - every.tensors[name].losses[type_].error) / loss.standard_error
        for name, tensor in some.tensors.items()
        for type_, loss in tensor.losses.items()
        if loss.standard_error
    ]
    assert len(off) > 20
    assert np.sqrt(np.mean(np.square(off))) < 1.5
    assert max(abs(z) for z in off) < 4


def test_a_tensor_that_takes_no_type_is_measured_in_its_fallback(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", llama_tensors(layers=1, cols=256, hidden=576))
    found = measure(open_model(path), tmp_path / "o.jsonl", what(types=("Q4_K", "Q6_K")), registry=REGISTRY)
    assert list(found.tensors["blk.0.ffn_down.weight"].losses) == ["Q5_0", "Q8_0"]
    assert list(found.tensors["blk.0.attn_q.weight"].losses) == ["Q4_K", "Q6_K"]
    wish = load_recipe_text("quantrecipe: 1\nname: a\ndefault: Q4_K\n", registry=REGISTRY)
    plan = make_plan(wish, open_model(path), registry=REGISTRY)
    types = {a.tensor.name: a.type for a in plan.assignments}
    assert all(types[name] in tensor.losses for name, tensor in found.tensors.items())  # as plan takes it


def scope(path: Path, *types: str, **options: Any) -> Scope:
    subject = Subject(model=open_model(path), registry=REGISTRY, importance=None)
    return scope_of(subject, types, **options)


def test_the_scope_says_what_stands_for_what(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", llama_tensors(layers=1, cols=256, hidden=576))
    found = scope(path, "Q4_K")
    assert {pair: [t.role for t in its] for pair, its in found.instead.items()} == {
        ("Q4_K", "Q5_0"): ["ffn_down"]
    }
    assert not found.left_out


class Choosy(type(REGISTRY.formats["Q4_K"])):  # type: ignore[misc]  # a format, whichever class it has
    """As a plugin's may be: nothing to fall back to, and few tensors that it takes."""

    spec = replace(REGISTRY.formats["Q4_K"].spec, name="CHOOSY", fallback=None, block=1024)


def test_what_takes_neither_type_nor_fallback_is_left_out_and_named(tmp_path: Path) -> None:
    registry = replace(REGISTRY, formats={**REGISTRY.formats, "CHOOSY": Choosy()})
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, hidden=1024))
    model = open_model(path, registry=registry)
    found = scope_of(Subject(model=model, registry=registry, importance=None), ("CHOOSY",))
    assert [tensor.role for tensor in found.tensors] == ["ffn_down"]
    assert found.left_out["blk.0.attn_q.weight"] == "rows of 256 weights can be neither CHOOSY nor a fallback"
    small = write_gguf(tmp_path / "s.gguf", llama_tensors(layers=1))
    with pytest.raises(SensitivityError, match=r"nothing to measure: output\.weight: rows of 256"):
        scope_of(Subject(model=open_model(small), registry=registry, importance=None), ("CHOOSY",))


def test_a_model_without_matrices_has_nothing_to_measure(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "norms.gguf", {"output_norm.weight": np.ones(256, np.float32)})
    with pytest.raises(SensitivityError, match="none of its 1 tensors is a matrix"):
        scope(path, "Q4_K")


def test_a_quantized_source_is_refused_unless_it_is_allowed(model_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe("pure/Q8_0", registry=REGISTRY)
    plan = make_plan(recipe, open_model(model_file), registry=REGISTRY)
    path = apply_plan(plan, tmp_path / "q8.gguf", registry=REGISTRY, threads=1).path
    with pytest.raises(
        ModelError, match=r"16 of its 16 matrices are already quantized \(Q8_0\).*--allow-requantize"
    ):
        measure(open_model(path), tmp_path / "o.jsonl", what(), registry=REGISTRY)
    assert scope(path, "Q4_0", allow_requantize=True).quantized == {"Q8_0": 16}
    assert measure(
        open_model(path), tmp_path / "o.jsonl", what(), registry=REGISTRY, allow_requantize=True
    ).tensors


def test_what_no_probe_can_round_keeps_the_prior_s_alpha() -> None:
    tensors = tuple(
        TensorInfo.from_name(f"blk.0.{role}.weight", (64, 64), "BF16") for role in ("attn_q", "attn_k")
    )
    study = Study(
        tensors=tensors,
        n_layers=1,
        losses={tensors[0].name: {"Q4_K": 0.005}, tensors[1].name: {"F16": 1e-8}},
        prior=dict.fromkeys((t.name for t in tensors), 0.1),
        doubt=dict.fromkeys((t.name for t in tensors), 1.0),
        file=None,
        probes=4,
        evaluate=lambda types: Effect(kld=0.01, standard_error=0.0001),
        progress=lambda text, share: None,
    )
    assert list(Probe().weigh(study)) == [tensors[0].name]
    with pytest.raises(SensitivityError, match="no tensor was measured in a type that a probe could give it"):
        Probe().weigh(replace(study, tensors=tensors[1:]))
