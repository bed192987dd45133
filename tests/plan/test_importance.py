"""What a plan asks of an importance matrix, and what it says where the matrix has less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import with_provenance, write_gguf_imatrix
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.fingerprint import Fingerprint, fingerprint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import ImportanceSource, Recipe
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def dense(tmp_path: Path) -> Model:
    return open_model(write_gguf(tmp_path / "dense.gguf", llama_tensors()))


@pytest.fixture
def experts(tmp_path: Path) -> Model:
    return open_model(write_gguf(tmp_path / "experts.gguf", llama_tensors(experts=3)))


def matrix(
    model: Model,
    folder: Path,
    keep: Callable[[str], bool] = lambda name: True,
    *,
    widths: dict[str, int] | None = None,
    unseen: tuple[int, ...] = (),
    **facts: Any,
) -> Importance:
    """Importance for all matrices whose name is kept. widths: columns that are wrong. unseen: experts."""
    entries = {}
    for tensor in model.tensors:
        if len(tensor.shape) > 1 and keep(tensor.name):
            cols = (widths or {}).get(tensor.role, tensor.cols)
            counts = [0.0 if n in unseen and tensor.experts > 1 else 4.0 for n in range(tensor.experts)]
            entries[tensor.name] = (np.full((tensor.experts, cols), 2, np.float32), counts)
    return read_importance(write_gguf_imatrix(folder / "imatrix.gguf", entries, **facts))


def plan(
    mix: Recipe, model: Model, registry: Registry, importance: Importance | None = None, **how: Any
) -> Plan:
    return make_plan(mix, model, registry=registry, importance=importance, **how)


def source(**settings: Any) -> ImportanceSource:
    return ImportanceSource(**settings)


class TestWhatIsRefused:
    def test_a_recipe_that_needs_a_matrix(self, dense: Model, registry: Registry) -> None:
        mix = recipe(default="Q8_0", importance=source(required=True))
        with pytest.raises(ImportanceError, match="recipe 'test' needs an importance matrix") as error:
            plan(mix, dense, registry)
        assert error.value.problems[0].file == "recipe.yaml"

    def test_a_type_that_can_t_do_without(self, dense: Model, tmp_path: Path, registry: Registry) -> None:
        mix = recipe(rule("attn_v", "IQ2_XS"), rule("attn_k", "IQ2_XXS"), default="Q4_K")
        said = r"IQ2_XS, IQ2_XXS can't be made without importance, and there is none for "
        with pytest.raises(
            ImportanceError, match=rf"{said}blk\.0\.attn_k\.weight, blk\.0\.attn_v\.weight and 2 more"
        ):
            plan(mix, dense, registry)
        some = matrix(dense, tmp_path, lambda name: "blk.1.attn_v" not in name)
        with pytest.raises(ImportanceError, match=r"IQ2_XS can't be .* none for blk\.1\.attn_v\.weight;"):
            plan(mix, dense, registry, some)
        assert plan(mix, dense, registry, matrix(dense, tmp_path)).warnings == ()

    @pytest.mark.parametrize("role", ["attn_v", "output"])
    def test_a_matrix_of_another_size(
        self, dense: Model, tmp_path: Path, registry: Registry, role: str
    ) -> None:
        wrong = matrix(dense, tmp_path, widths={role: 128})
        with pytest.raises(
            ImportanceError, match=rf"{role}\.weight has 128 values of importance \(expected: 256\)"
        ) as error:
            plan(recipe(default="Q4_K"), dense, registry, wrong)
        assert len(error.value.problems) == (2 if role == "attn_v" else 1)
        assert error.value.problems[0].file == wrong.path

    def test_an_embedding_of_another_size_passes(
        self, dense: Model, tmp_path: Path, registry: Registry
    ) -> None:
        """As in llama-quantize: what calibration has of embeddings doesn't fit."""
        made = plan(
            recipe(default="Q4_K"), dense, registry, matrix(dense, tmp_path, widths={"token_embd": 64})
        )
        embedding = next(a for a in made.assignments if a.tensor.role == "token_embd")
        assert not embedding.importance

    def test_what_the_format_ignores_may_have_any_size(
        self, dense: Model, tmp_path: Path, registry: Registry
    ) -> None:
        wrong = matrix(dense, tmp_path, widths={"attn_v": 128})
        made = plan(recipe(rule("attn_v", "Q8_0"), default="Q4_K"), dense, registry, wrong)
        assert not any(a.importance for a in made.assignments if a.tensor.role == "attn_v")
        assert made.warnings == ()


class TestRequiredFor:
    MIX = recipe(rule("attn_v", "Q3_K"), default="Q8_0", importance=ImportanceSource(required_for=("Q3_K",)))

    def test_without_any_matrix(self, dense: Model, registry: Registry) -> None:
        said = r"needs an importance matrix: it has Q3_K for blk\.0\.attn_v\.weight, blk\.1\.attn_v\.weight; give one"
        with pytest.raises(ImportanceError, match=said):
            plan(self.MIX, dense, registry)

    def test_where_the_matrix_lacks_it(self, dense: Model, tmp_path: Path, registry: Registry) -> None:
        some = matrix(dense, tmp_path, lambda name: "blk.1.attn" not in name)
        said = r"recipe 'test' has Q3_K for blk\.1\.attn_v\.weight, which imatrix.gguf doesn't cover; make a matrix"
        with pytest.raises(ImportanceError, match=said):
            plan(self.MIX, dense, registry, some)
        assert plan(self.MIX, dense, registry, matrix(dense, tmp_path))

    @pytest.mark.parametrize("role", ["token_embd", "output"])
    def test_embeddings_and_output_may_lack_it(self, dense: Model, registry: Registry, role: str) -> None:
        """Calibration leaves them out."""
        mix = recipe(rule(role, "Q3_K"), default="Q8_0", importance=ImportanceSource(required_for=("Q3_K",)))
        assert plan(mix, dense, registry)


class TestWhatIsSaid:
    def test_nothing_where_nobody_asked_for_importance(self, dense: Model, registry: Registry) -> None:
        assert plan(recipe(default="Q4_K"), dense, registry).warnings == ()

    @pytest.mark.parametrize("policy", ["warn", "plain", "error"])
    def test_uncovered(self, dense: Model, tmp_path: Path, registry: Registry, policy: str) -> None:
        some = matrix(dense, tmp_path, lambda name: "ffn_up" not in name and "ffn_gate" not in name)
        mix = recipe(default="Q4_K", importance=source(uncovered=policy))
        if policy == "error":
            said = r"doesn't cover blk\.0\.ffn_gate\.weight, blk\.0\.ffn_up\.weight and 2 more; .*`uncovered: error`"
            with pytest.raises(ImportanceError, match=said):
                plan(mix, dense, registry, some)
            assert plan(mix, dense, registry, matrix(dense, tmp_path)).warnings == ()
            assert plan(mix, dense, registry).warnings == ()  # there is no matrix that lacks anything
            return
        warnings = plan(mix, dense, registry, some).warnings
        some_names = "blk.0.ffn_gate.weight, blk.0.ffn_up.weight and 2 more"
        said = f"quantized without importance, not in imatrix.gguf: {some_names}"
        assert warnings == (() if policy == "plain" else (said,))

    def test_advised(self, dense: Model, tmp_path: Path, registry: Registry) -> None:
        advised = [f.spec.name for f in registry.formats.values() if f.spec.importance == "advised"]
        mix = recipe(rule("attn_v", advised[0]), default="Q8_0")
        said = f"{advised[0]} loses much without importance, and there is none for blk.0.attn_v.weight"
        assert plan(mix, dense, registry).warnings == (f"{said}, blk.1.attn_v.weight",)
        some = matrix(dense, tmp_path, lambda name: "blk.0" not in name)
        assert plan(mix, dense, registry, some).warnings == (said,)
        assert plan(mix, dense, registry, matrix(dense, tmp_path)).warnings == ()

    def test_experts_that_calibration_never_reached(
        self, experts: Model, tmp_path: Path, registry: Registry
    ) -> None:
        mix = recipe(rule("ffn_up_exps", "Q4_K"), default="Q8_0")
        some = matrix(experts, tmp_path, unseen=(0, 2))
        assert plan(mix, experts, registry, some).warnings == tuple(
            f"blk.{i}.ffn_up_exps.weight: calibration never reached 2 of its 3 experts" for i in (0, 1)
        )

    def test_entries_that_see_the_same_inputs_and_differ(self, tmp_path: Path, registry: Registry) -> None:
        tensors = {
            name.replace("attn_q", "attn_qkv"): values
            for name, values in llama_tensors(layers=1).items()
            if "attn_k" not in name and "attn_v" not in name
        }
        model = open_model(write_gguf(tmp_path / "m.gguf", tensors))
        for value, differs in ((2, False), (3, True)):
            entries = {
                f"blk.0.{role}.weight": (np.full((1, 256), number, np.float32), [4.0])
                for role, number in (("attn_q", 2), ("attn_k", value))
            }
            other = read_importance(write_gguf_imatrix(tmp_path / "other.gguf", entries))
            mix = recipe(rule("attn_qkv", "Q4_K"), default="Q8_0")
            said = (
                "blk.0.attn_qkv.weight takes the importance of blk.0.attn_q.weight, which sees the same inputs; so does"
                " blk.0.attn_k.weight, and has other values: were they measured on the same text?"
            )
            assert plan(mix, model, registry, other).warnings == ((said,) if differs else ())


class TestSelection:
    def test_what_the_recipe_leaves_out_doesn_t_count(
        self, dense: Model, tmp_path: Path, registry: Registry
    ) -> None:
        whole = matrix(dense, tmp_path)
        mix = recipe(default="Q4_K", importance=source(include=("ffn_",), exclude=("blk.1",)))
        made = plan(mix, dense, registry, whole)
        used = {a.tensor.name for a in made.assignments if a.importance}
        assert used == {f"blk.0.ffn_{role}.weight" for role in ("gate", "up", "down")}
        assert made.metadata["quantize.imatrix.entries_count"].decode() == 3

    def test_nothing_left_is_no_matrix(self, dense: Model, tmp_path: Path, registry: Registry) -> None:
        mix = recipe(default="Q4_K", importance=source(include=("nothing",)))
        made = plan(mix, dense, registry, matrix(dense, tmp_path))
        assert (made.importance, made.coverage, made.warnings) == (None, None, ())
        assert "quantize.imatrix.file" not in made.metadata
        bare = plan(mix, dense, registry)
        assert [a.encoding for a in made.assignments] == [a.encoding for a in bare.assignments]


def test_coverage_counts_the_tensors_whose_types_use_it(
    dense: Model, tmp_path: Path, registry: Registry
) -> None:
    mix = recipe(rule("attn_*", "Q8_0"), rule("blk.0.ffn_up", "BF16"), default="Q4_K")
    made = plan(mix, dense, registry, matrix(dense, tmp_path, lambda name: "blk.1.ffn_up" not in name))
    names = {a.tensor.name for a in made.assignments if a.importance}
    assert names == {
        "token_embd.weight",
        "output.weight",
        "blk.0.ffn_gate.weight",
        "blk.0.ffn_down.weight",
        "blk.1.ffn_gate.weight",
        "blk.1.ffn_down.weight",
    }
    assert made.coverage is not None
    asked = {it.tensor.name: it.fit.status for it in made.coverage.tensors}
    assert asked == {**dict.fromkeys(names, "covered"), "blk.1.ffn_up.weight": "missing"}


class TestMatrixOfAnotherModel:
    """A matrix that states its model, for a model with the same shapes."""

    def stating(self, model: Model, folder: Path, stated: str) -> Importance:
        path = matrix(model, folder).path
        return read_importance(with_provenance(path, Provenance(fingerprint=stated), folder / "stating.gguf"))

    @pytest.fixture
    def tuned(self, tmp_path: Path) -> Model:
        """The dense model with one norm that training moved."""
        tensors = llama_tensors()
        tensors["blk.1.ffn_norm.weight"] += np.float32(0.25)
        return open_model(write_gguf(tmp_path / "tuned.gguf", tensors))

    def test_is_refused_with_both_files_names(
        self, dense: Model, tuned: Model, tmp_path: Path, registry: Registry
    ) -> None:
        base_s = self.stating(dense, tmp_path, str(fingerprint(dense)))
        assert (
            make_plan(recipe(default="Q4_K"), dense, registry=registry, importance=base_s).importance
            is not None
        )
        with pytest.raises(
            ImportanceError,
            match=r"stating\.gguf: .* another model than .*tuned\.gguf: the shapes are the same",
        ) as error:
            make_plan(recipe(default="Q4_K"), tuned, registry=registry, importance=base_s)
        assert "--imatrix-of-another-model" in error.value.problems[0].remedy

    def test_may_be_insisted_on(self, dense: Model, tuned: Model, tmp_path: Path, registry: Registry) -> None:
        base_s = self.stating(dense, tmp_path, str(fingerprint(dense)))
        made = make_plan(
            recipe(default="Q4_K"),
            tuned,
            registry=registry,
            importance=base_s,
            importance_of_another_model=True,
        )
        assert made.coverage is not None
        assert made.coverage.covered

    def test_of_other_shapes_says_so(self, dense: Model, tmp_path: Path) -> None:
        stated = str(replace(fingerprint(dense), structure="0" * 16))
        with pytest.raises(ImportanceError, match="layers or shapes differ"):
            require_matrix_of(dense, self.stating(dense, tmp_path, stated))

    @pytest.mark.parametrize("stated", ["", "v2:0123", "nonsense"], ids=["silent", "later", "nonsense"])
    def test_is_not_told_from_what_is_not_understood(self, stated: str, dense: Model, tmp_path: Path) -> None:
        require_matrix_of(dense, self.stating(dense, tmp_path, stated))
        require_matrix_of(dense, None)

    def test_reads_nothing_where_the_matrix_is_silent(
        self, dense: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(TensorReader, "read", None)
        require_matrix_of(dense, matrix(dense, tmp_path))
        with pytest.raises(TypeError):
            require_matrix_of(dense, self.stating(dense, tmp_path, str(fingerprint_of_nothing(dense))))

    def test_is_asked_of_the_model_before_layers_are_pruned(
        self, dense: Model, tmp_path: Path, registry: Registry
    ) -> None:
        own = self.stating(dense, tmp_path, str(fingerprint(dense)))
        pruning = replace(recipe(default="Q4_K"), prune=LayerSet.parse("0"))
        made = make_plan(pruning, dense, registry=registry, importance=own)
        assert made.importance is not None
        assert len(made.model.tensors) < len(dense.tensors)


def fingerprint_of_nothing(model: Model) -> Fingerprint:
    """Of a model with the same shapes, and other norms."""
    return replace(fingerprint(replace(model, container="shapes")), norms="0" * 32)
