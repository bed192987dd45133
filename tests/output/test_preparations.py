"""What encoders prepare is made once for each input; and files that were made with it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.api import Encoder
from quantrecipe.calibration.gram import Grams
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.thorough.encoder import Thorough
from quantrecipe.errors import ImportanceError, PlanError
from quantrecipe.gguf.header import read_header
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.preparations import Preparations
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
NAMES = ("blk.0.attn_q.weight", "blk.0.attn_output.weight", "blk.0.ffn_down.weight")
MIX = recipe(rule("attn_v", "Q6_K"), default="Q4_K", encoder=EncoderChoice(name="feedback"))
DAMPED = EncoderChoice(name="feedback", options={"damping": 0.01})


class Counting(Encoder):
    name = "counting"
    summary = "knows how often it prepared"
    needs_statistics = True

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.prepared: list[int] = []
        self.lock = threading.Lock()

    def prepare(self, statistics: Any, *, fmt: Any = None, threads: int = 1) -> int:
        with self.lock:
            self.prepared.append(len(statistics.gram))
        return len(self.prepared)

    def encode(
        self, rows: Any, fmt: Any, importance: Any = None, prepared: Any = None, *, out: Any = None
    ) -> Any:
        out[...] = prepared
        return out


@pytest.fixture
def grams(tmp_path: Path) -> Grams:
    return write_statistics(
        tmp_path,
        {NAMES[0]: (256, (700,)), NAMES[1]: (256, (700,)), NAMES[2]: (512, (700,))},
        shared={NAMES[0]: ("blk.0.attn_k.weight", "blk.0.attn_v.weight")},
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))


def plan_of(source: Path, grams: Grams, mix: Any = MIX) -> Plan:
    return make_plan(mix, open_model(source, registry=REGISTRY), registry=REGISTRY, statistics=grams)


def assignments(source: Path, grams: Grams, encoder: Encoder) -> dict[str, Assignment]:
    found = plan_of(source, grams).assignments
    return {a.tensor.name: replace(a, encoder=encoder) for a in found if a.inputs}


class TestPreparations:
    def test_inputs_that_tensors_share_are_prepared_once(self, source: Path, grams: Grams) -> None:
        encoder, prepared = Counting(), Preparations(2)
        found = assignments(source, grams, encoder)
        out = np.zeros((1, 1), np.uint8)
        for name in ("attn_q", "attn_output", "attn_k", "attn_v"):
            make = prepared.make(found[f"blk.0.{name}.weight"], grams, 0)
            assert make is not None
            make(np.zeros((1, 256), np.float32), None, out)
        assert encoder.prepared == [256, 256]
        assert out[0, 0] == 1

    def test_formats_share_what_the_encoder_says(self, source: Path, grams: Grams) -> None:
        class ByBits(Counting):
            given: ClassVar[list[str]] = []

            def shares(self, fmt: Any) -> bool:
                return bool(fmt.spec.name == "Q6_K")

            def prepare(self, statistics: Any, *, fmt: Any = None, threads: int = 1) -> int:
                self.given.append(fmt.spec.name)
                return super().prepare(statistics, threads=threads)

        encoder, prepared = ByBits(), Preparations(1)
        found = assignments(source, grams, encoder)
        for name in ("attn_q", "attn_k", "attn_v", "attn_q"):
            prepared.make(found[f"blk.0.{name}.weight"], grams, 0)
        assert encoder.given == ["Q4_K", "Q6_K"]

    def test_no_more_than_two_are_kept(self, source: Path, grams: Grams) -> None:
        encoder, prepared = Counting(), Preparations(1)
        found = assignments(source, grams, encoder)
        for name in (*NAMES, NAMES[0]):
            prepared.make(found[name], grams, 0)
        assert encoder.prepared == [256, 256, 512, 256]

    def test_threads_wait_for_the_first(self, source: Path, grams: Grams) -> None:
        encoder, prepared = Counting(), Preparations(1)
        found = assignments(source, grams, encoder)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: prepared.make(found[NAMES[0]], grams, 0), range(32)))
        assert encoder.prepared == [256]

    def test_an_error_names_the_tensor(self, source: Path, tmp_path: Path, grams: Grams) -> None:
        class Refuses(Counting):
            def prepare(self, statistics: Any, *, fmt: Any = None, threads: int = 1) -> int:
                raise ImportanceError("can't be used", "compute it again")

        found = assignments(source, grams, Refuses())
        with pytest.raises(
            ImportanceError, match=r"made-0: blk.0.attn_q.weight: can't be used; compute it again"
        ):
            Preparations(1).make(found[NAMES[0]], grams, 0)

    def test_experts_with_too_few_tokens_have_none(self, tmp_path: Path) -> None:
        source = write_gguf(tmp_path / "e.gguf", llama_tensors(layers=1, experts=2))
        up = "blk.0.ffn_up_exps.weight"
        grams = write_statistics(tmp_path, {up: (256, (600, 100))}, seed=2)
        (a,) = (it for it in plan_of(source, grams).assignments if it.tensor.name == up)
        assert Preparations(1).make(a, grams, 0) is not None
        assert Preparations(1).make(a, grams, 1) is None


class TestFiles:
    def test_the_bytes_are_the_encoder_s_at_any_number_of_threads(
        self, source: Path, grams: Grams, tmp_path: Path
    ) -> None:
        plan = plan_of(source, grams)
        files = []
        for threads in (1, 3):
            out = tmp_path / f"{threads}.gguf"
            apply_plan(plan, out, registry=REGISTRY, threads=threads)
            files.append(out.read_bytes())
        assert files[0] == files[1]
        header = read_header(tmp_path / "1.gguf")
        (entry,) = (t for t in header.tensors if t.name == "blk.0.attn_v.weight")
        weights = llama_tensors(layers=1)["blk.0.attn_v.weight"]
        weights = (weights.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # as BF16 has them
        encoder = Feedback()
        prepared = encoder.prepare(_statistics(grams, "blk.0.attn_v.weight"), fmt=REGISTRY.format("Q6_K"))
        wanted = encoder.encode(weights, REGISTRY.format("Q6_K"), prepared=prepared).tobytes()
        begin = header.data_start + entry.offset
        assert files[0][begin : begin + len(wanted)] == wanted

    def test_an_encoder_without_statistics_needs_none(self, source: Path, tmp_path: Path) -> None:
        mix = replace(MIX, encoder=EncoderChoice(name="thorough"))
        plan = make_plan(mix, open_model(source, registry=REGISTRY), registry=REGISTRY)
        apply_plan(plan, tmp_path / "1.gguf", registry=REGISTRY, threads=2)
        weights = llama_tensors(layers=1)["blk.0.attn_q.weight"]
        weights = (weights.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # as BF16 has them
        wanted = Thorough().encode(weights, REGISTRY.format("Q4_K"))
        assert _data(tmp_path / "1.gguf", "blk.0.attn_q.weight").tobytes() == wanted.tobytes()
        assert wanted.tobytes() != REGISTRY.format("Q4_K").encode(weights).tobytes()

    def test_experts_have_their_own(self, tmp_path: Path) -> None:
        """The second gets what its format makes of it, since it has too few tokens."""
        source = write_gguf(tmp_path / "e.gguf", llama_tensors(layers=1, experts=2))
        up = "blk.0.ffn_up_exps.weight"
        grams = write_statistics(tmp_path, {up: (256, (600, 100))}, seed=2)
        with_it, without = tmp_path / "with.gguf", tmp_path / "without.gguf"
        apply_plan(plan_of(source, grams), with_it, registry=REGISTRY)
        apply_plan(plan_of(source, grams, replace(MIX, encoder=None)), without, registry=REGISTRY)
        first, second = (_data(path, up).reshape(2, -1) for path in (with_it, without))
        assert not np.array_equal(first[0], second[0])
        assert np.array_equal(first[1], second[1])

    def test_what_the_encoder_remarks_is_told_and_recorded(self, source: Path, tmp_path: Path) -> None:
        down, query = NAMES[2], NAMES[0]
        shared = {query: ("blk.0.attn_k.weight",)}
        grams = write_statistics(
            tmp_path, {query: (256, (700,)), down: (512, (700,))}, shared=shared, indefinite=(down, query)
        )
        plan = plan_of(source, grams, replace(MIX, encoder=DAMPED))
        result = apply_plan(plan, tmp_path / "1.gguf", registry=REGISTRY, threads=2)
        assert set(result.remarks) == {query, "blk.0.attn_k.weight", down}
        assert result.remarks[down] == (
            "damped by 0.1 and not by 0.01, with which the Gram matrix of its inputs isn't positive definite",
        )
        said = read_header(result.path).metadata["quantrecipe.encoders.remarked"].decode()
        assert dict(zip([a.tensor.name for a in plan.assignments], said, strict=True)) == {
            a.tensor.name: int(a.tensor.name in result.remarks) for a in plan.assignments
        }
        again = apply_plan(plan, tmp_path / "2.gguf", registry=REGISTRY, reuse=result.path)
        assert down in again.reused
        assert again.path.read_bytes() == result.path.read_bytes()

    def test_matrices_of_experts_are_counted(self, tmp_path: Path) -> None:
        source = write_gguf(tmp_path / "e.gguf", llama_tensors(layers=1, experts=3))
        up = "blk.0.ffn_up_exps.weight"
        grams = write_statistics(tmp_path, {up: (256, (600, 100, 700))}, indefinite=(up,))
        plan = plan_of(source, grams, replace(MIX, encoder=DAMPED))
        result = apply_plan(plan, tmp_path / "1.gguf", registry=REGISTRY)
        assert len(result.remarks[up]) == 1
        said = read_header(result.path).metadata["quantrecipe.encoders.remarked"].decode()
        assert sum(said) == 2

    def test_statistics_that_are_taken_as_they_are_need_no_remark(
        self, source: Path, grams: Grams, tmp_path: Path
    ) -> None:
        result = apply_plan(plan_of(source, grams), tmp_path / "1.gguf", registry=REGISTRY)
        assert result.remarks == {}
        assert not any(read_header(result.path).metadata["quantrecipe.encoders.remarked"].decode())

    def test_nothing_is_written_without_statistics(self, source: Path, tmp_path: Path) -> None:
        plan = make_plan(MIX, open_model(source, registry=REGISTRY), registry=REGISTRY)
        with pytest.raises(PlanError, match="--statistics FOLDER"):
            apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)
        assert not (tmp_path / "out.gguf").exists()

    def test_verify_and_reuse_know_it(self, source: Path, grams: Grams, tmp_path: Path) -> None:
        text = "quantrecipe: 1\ndefault: Q4_K\nencoder: {name: feedback, rounds: 1}\n"
        mix = load_recipe_text(text, registry=REGISTRY)
        out = tmp_path / "out.gguf"
        apply_plan(plan_of(source, grams, mix), out, registry=REGISTRY)
        model = open_model(source, registry=REGISTRY)
        found = verify_file(out, registry=REGISTRY, source=model, statistics=grams, sample=None)
        assert found.ok, found
        assert f"{len(model.tensors)} of {len(model.tensors)} tensors, quantized again" in str(found)
        without = verify_file(out, registry=REGISTRY, source=model, sample=None)
        assert without.ok
        assert "the statistics of inputs (--statistics)" in str(without)
        other = write_statistics(tmp_path, {NAMES[0]: (256, (700,))}, seed=5)
        wrong = verify_file(out, registry=REGISTRY, source=model, statistics=other, sample=None)
        assert not wrong.ok
        assert "it was made with other statistics" in str(wrong)
        again = apply_plan(plan_of(source, grams, mix), tmp_path / "2.gguf", registry=REGISTRY, reuse=out)
        assert NAMES[0] in again.reused
        assert (tmp_path / "2.gguf").read_bytes() == out.read_bytes()
        changed = apply_plan(plan_of(source, other, mix), tmp_path / "3.gguf", registry=REGISTRY, reuse=out)
        assert NAMES[0] not in changed.reused


def _statistics(grams: Grams, name: str) -> Any:
    from quantrecipe.api import InputStatistics

    return InputStatistics(gram=grams.matrix(name), tokens=grams.entry(name).tokens[0])


def _data(path: Path, name: str) -> np.ndarray:
    header = read_header(path)
    (entry,) = (t for t in header.tensors if t.name == name)
    begin, nbytes = header.data_start + entry.offset, REGISTRY.format("Q4_K").spec.tensor_bytes(entry.shape)
    return np.frombuffer(path.read_bytes()[begin : begin + nbytes], np.uint8)
