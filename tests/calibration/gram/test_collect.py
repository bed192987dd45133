"""Gram matrices by products that a test makes: which inputs there are, and what is added up of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.graph_of_products import COLUMNS, EXPERTS, HEADS, USED, KnownProduct, ModelOfProducts

from quantrecipe.calibration.collect import Group, Ran
from quantrecipe.calibration.gram.collect import Experts, GramInput, Pass, Survey, collect_grams, survey
from quantrecipe.calibration.gram.folder import GramEntry, GramIndex, Grams
from quantrecipe.errors import EvaluationError
from quantrecipe.importance.provenance import Provenance

TOKENS = 20
LAYER_0 = [f"blk.0.{role}.weight" for role in ("attn_q", "attn_k_b", "ffn_gate_inp", "ffn_down_exps")]


def groups(count: int = 3, *weights: float) -> tuple[Group, ...]:
    chunks = np.arange(count * 2 * TOKENS, dtype=np.int32).reshape(count, 2, TOKENS)
    return tuple(
        Group(chunks=chunk, domain=0, weight=weight)
        for chunk, weight in zip(chunks, weights or count * [1.0], strict=True)
    )


def quiet(what: object) -> None:
    pass


def seen(model: ModelOfProducts, *, output: bool = False, experts: Experts = "shared") -> Survey:
    return survey(model, groups()[0], output, experts, tell=quiet)  # type: ignore[arg-type]  # it runs as one does


def computed(
    model: ModelOfProducts,
    folder: Path,
    some: tuple[Group, ...],
    names: list[str] | None = None,
    *,
    output: bool = False,
    experts: Experts = "shared",
) -> tuple[Grams, list[object]]:
    found = seen(model, output=output, experts=experts)
    model.computed.clear()
    inputs = tuple(it for it in found.inputs if names is None or it.name in names)
    visits = [name for name in found.visits if any(it.name == name for it in inputs)]
    work = Pass(
        groups=some,
        inputs=inputs,
        last=(len(visits), visits[-1]),
        output=output,
        experts=experts,
        folder=folder,
    )
    told: list[object] = []
    collect_grams(model, work, tell=told.append)  # type: ignore[arg-type]  # it runs as one does
    entries = tuple(it for it in told if isinstance(it, GramEntry))
    index = GramIndex(digest="", experts=experts, provenance=Provenance(), inputs=entries, of=len(entries))
    return Grams(folder=folder, index=index), told


def of(model: ModelOfProducts, some: tuple[Group, ...], weight: str) -> list[tuple[KnownProduct, float]]:
    """The products of a weight in all chunks, and what their tokens count."""
    return [
        (product, group.weight)
        for group in some
        for chunk in group.chunks
        for product in model.graph(chunk)
        if product.weight == weight
    ]


def mean(rows: list[tuple[NDArray[np.float32], float]]) -> NDArray[np.float64]:
    total = sum(weight * (x.astype(np.float64).T @ x.astype(np.float64)) for x, weight in rows)
    return np.asarray(total / sum(weight * len(x) for x, weight in rows))


class TestSurvey:
    def test_inputs_are_those_of_matrices_that_share_them(self) -> None:
        found = {it.name: it for it in seen(ModelOfProducts()).inputs}
        assert [name for name in found if name.startswith("blk.0.")] == LAYER_0
        assert found["blk.0.attn_q.weight"].weights == ("blk.0.attn_q.weight", "blk.0.attn_k.weight")
        assert found["blk.0.attn_k_b.weight"].matrices == HEADS
        router = found["blk.0.ffn_gate_inp.weight"]
        assert [weight.split(".")[2] for weight in router.weights] == [
            *("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps")
        ]
        assert router.matrices == found["blk.0.ffn_down_exps.weight"].matrices == 1
        assert len(found) == 8

    def test_each_expert_has_its_own(self) -> None:
        found = {it.name: it for it in seen(ModelOfProducts(), experts="each").inputs}
        gate = found["blk.1.ffn_gate_exps.weight"]
        assert gate.weights == ("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight")
        assert (gate.matrices, gate.by_expert) == (EXPERTS, True)
        assert found["blk.1.ffn_gate_inp.weight"].weights == ("blk.1.ffn_gate_inp.weight",)

    def test_how_often_a_graph_comes_to_each(self) -> None:
        found = seen(ModelOfProducts(), output=True)
        assert found.visits == tuple(it.name for it in found.inputs)
        assert found.visits[-1] == "output.weight"
        assert found.rows["blk.0.attn_k_b.weight"] == HEADS
        assert found.rows["blk.0.ffn_down_exps.weight"] == USED
        assert found.seconds > 0
        assert found.operations > 0

    def test_sizes(self) -> None:
        it = GramInput(name="x", weights=("x",), columns=1000, matrices=3, by_expert=True)
        assert it.nbytes == 3 * 4 * 1000 * 1001 // 2
        bands = 512 * 1000 + 488 * 488
        assert it.operations == 2 * bands
        assert it.memory == 3 * (8 * bands + 4 * 256 * 1000)


class TestSums:
    @pytest.mark.parametrize("columns", [COLUMNS, 700])
    def test_a_matrix_is_the_mean_of_products(self, tmp_path: Path, columns: int) -> None:
        """700: two bands."""
        model, some = ModelOfProducts(columns=columns), groups(3, 1.0, 2.5, 1.0)
        grams, _ = computed(model, tmp_path, some)
        rows = [(p.rows[0, 0], weight) for p, weight in of(model, some, "blk.1.attn_k.weight")]
        found = grams["blk.1.attn_k.weight"]
        assert found.shape == (columns, columns)
        assert np.abs(found - mean(rows)).max() < 1e-6 * np.abs(mean(rows)).max()
        entry = grams.entry("blk.1.attn_k.weight")
        assert entry.tokens == (6 * TOKENS,)
        assert entry.weighed == (4.5 * 2 * TOKENS,)
        assert entry.singular == (columns > 6 * TOKENS)
        assert entry.rank_at_most == min(columns, 6 * TOKENS)

    def test_heads_have_a_matrix_each_and_one_count(self, tmp_path: Path) -> None:
        model, some = ModelOfProducts(), groups()
        grams, _ = computed(model, tmp_path, some)
        found = grams["blk.0.attn_k_b.weight"]
        assert found.shape == (HEADS, COLUMNS, COLUMNS)
        for head in range(HEADS):
            rows = [(p.rows[0, head], weight) for p, weight in of(model, some, "blk.0.attn_k_b.weight")]
            assert np.allclose(found[head], mean(rows), atol=1e-6)
        assert grams.entry("blk.0.attn_k_b.weight").tokens == (6 * TOKENS,)

    def test_experts_share_what_all_tokens_are(self, tmp_path: Path) -> None:
        model, some = ModelOfProducts(), groups()
        grams, _ = computed(model, tmp_path, some)
        rows = [(p.rows.reshape(-1, COLUMNS), w) for p, w in of(model, some, "blk.0.ffn_up_exps.weight")]
        assert np.allclose(grams["blk.0.ffn_up_exps.weight"], mean(rows), atol=1e-6)
        assert grams.entry("blk.0.ffn_up_exps.weight").tokens == (6 * TOKENS,)
        rows = [(p.rows.reshape(-1, COLUMNS), w) for p, w in of(model, some, "blk.0.ffn_down_exps.weight")]
        assert np.allclose(grams["blk.0.ffn_down_exps.weight"], mean(rows), atol=1e-6)
        assert grams.entry("blk.0.ffn_down_exps.weight").tokens == (6 * TOKENS * USED,)

    @pytest.mark.parametrize("role", ["ffn_gate", "ffn_down"])
    def test_experts_have_their_own_tokens(self, tmp_path: Path, role: str) -> None:
        model, some = ModelOfProducts(), groups(2, 1.0, 3.0)
        grams, _ = computed(model, tmp_path, some, experts="each")
        weight = f"blk.1.{role}_exps.weight"
        for expert in range(EXPERTS):
            rows = []
            for product, counts in of(model, some, weight):
                tokens, slots = np.nonzero(product.chosen() == expert)
                rows.append((product.rows[0][tokens, slots % product.rows.shape[2]], counts))
            assert np.allclose(grams.matrix(weight, expert), mean(rows), atol=1e-6)
            assert grams.entry(weight).tokens[expert] == sum(len(x) for x, _ in rows)
        assert grams.entry(weight).tokens == (2 * TOKENS, 4 * TOKENS, 2 * TOKENS)

    def test_large_inputs_are_no_infinities(self, tmp_path: Path) -> None:
        model, some = ModelOfProducts(large=1e19), groups(1)
        grams, _ = computed(model, tmp_path, some, ["blk.0.attn_q.weight"])
        stored = np.fromfile(tmp_path / "blk.0.attn_q.weight.npy", "<f4", offset=128)
        rows = [(p.rows[0, 0], w) for p, w in of(model, some, "blk.0.attn_q.weight")]
        assert np.allclose(stored[:COLUMNS], mean(rows)[0], rtol=1e-5)
        assert np.isfinite(grams["blk.0.attn_q.weight"]).all()

    def test_numbers_that_are_none_are_located(self, tmp_path: Path) -> None:
        model = ModelOfProducts(broken=3 * TOKENS)
        with pytest.raises(
            EvaluationError, match=r"blk\.0\.attn_q\.weight is NaN or Inf \(chunk 4, token 3\)"
        ):
            computed(model, tmp_path, groups())
        assert list(tmp_path.iterdir()) == []


class TestAPass:
    def test_it_computes_no_further_than_its_last_input(self, tmp_path: Path) -> None:
        model = ModelOfProducts()
        grams, told = computed(model, tmp_path, groups(), LAYER_0)
        assert {weight.split(".")[1] for weight in model.computed if weight.startswith("blk.")} == {"0"}
        assert "output.weight" not in model.computed
        assert sorted(it.stem for it in tmp_path.iterdir()) == sorted(LAYER_0)
        assert [it.tokens for it in told if isinstance(it, Ran)] == [40, 80, 120]
        whole, _ = computed(ModelOfProducts(), tmp_path, groups())
        assert np.array_equal(grams["blk.0.attn_k.weight"], whole["blk.0.attn_k.weight"])

    def test_a_graph_that_ends_sooner_doesn_t_disturb_the_next(self, tmp_path: Path) -> None:
        """Inputs of fewer than 16 tokens aren't wanted, so that a graph of them is computed to its end."""
        model, some = ModelOfProducts(), groups()
        short = replace(some[0], chunks=some[0].chunks[:, :10])
        grams, _ = computed(model, tmp_path, (some[0], short, some[1]), ["blk.0.attn_q.weight"])
        assert grams.entry("blk.0.attn_q.weight").tokens == (4 * TOKENS,)
        assert model.computed.count("output.weight") == 2  # of the two short chunks

    def test_a_graph_that_lacks_some_inputs_doesn_t_either(self, tmp_path: Path) -> None:
        """Experts count however few tokens there are: one of two inputs is seen, and the next graph begins anew."""
        model, some = ModelOfProducts(), groups()
        short = replace(some[0], chunks=some[0].chunks[:, :10])
        names = ["blk.0.attn_q.weight", "blk.0.ffn_down_exps.weight"]
        computed(model, tmp_path, (some[0], short, some[1]), names)
        assert model.computed.count("output.weight") == 2  # of the two short chunks

    def test_the_output_on_request(self, tmp_path: Path) -> None:
        grams, _ = computed(ModelOfProducts(), tmp_path, groups(), ["output.weight"], output=True)
        assert grams.entry("output.weight").tokens == (6 * TOKENS,)
