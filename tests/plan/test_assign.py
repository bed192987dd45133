"""From a type's name to a tensor's format: what is copied, what can't be had, and what stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Container, Model
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.plan.plan import Assignment
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def planned(
    name: str,
    dtype: str,
    registry: Registry,
    *rules: Any,
    shape: tuple[int, ...] = (64, 256),
    container: Container = "gguf",
    others: tuple[str, ...] = (),
    arch: str = "llama",
    plan: dict[str, Any] | None = None,
    **mix: Any,
) -> Assignment:
    """What becomes of one tensor. others: F32 vectors that the model has, too."""
    tensors = (
        TensorInfo.from_name(name, shape, dtype),
        *(TensorInfo.from_name(other, (1,), "F32") for other in others),
    )
    extent = Extent(path=Path("m"), offset=0, nbytes=0)
    sources = {t.name: Stored(name=t.name, shape=t.shape, dtype=t.dtype, extents=(extent,)) for t in tensors}
    of = Model(path=Path("m"), container=container, arch=arch, tensors=tensors, metadata={}, sources=sources)
    made = make_plan(recipe(*rules, **mix), of, registry=registry, **(plan or {}))
    return next(a for a in made.assignments if a.tensor.name == name)


class TestKept:
    @pytest.mark.parametrize("container", ["gguf", "shapes"])
    def test_a_gguf_s_tensors_stay_as_they_are(self, container: Container, registry: Registry) -> None:
        found = planned("blk.0.attn_norm.weight", "F16", registry, shape=(256,), container=container)
        assert (found.type, found.copied, found.because) == ("F16", True, "kept.yaml:1 (kept)")

    @pytest.mark.parametrize("container", ["huggingface", "safetensors"])
    @pytest.mark.parametrize(
        ("name", "dtype", "shape", "type_"),
        [
            ("blk.0.attn_q.weight", "BF16", (64, 256), "BF16"),
            ("blk.0.attn_q.weight", "F16", (64, 256), "F16"),
            ("blk.0.attn_q.weight", "F64", (64, 256), "F32"),
            ("blk.0.attn_q.weight", "I8", (64, 256), "I8"),
            ("blk.0.attn_norm.weight", "BF16", (256,), "F32"),
            ("blk.0.attn_q.bias", "BF16", (256,), "F32"),
            ("blk.0.attn_q_norm.weight", "BF16", (4, 64), "F32"),
            ("blk.0.exp_probs_b", "BF16", (4, 64), "F32"),  # a name without .weight
            ("rope_freqs.weight", "F16", (32,), "F32"),
            *((f"blk.0.{role}.weight", "BF16", (64, 256), "F32") for role in (
                "ffn_gate_inp", "ffn_gate_inp_shexp", "ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v",
                "shortconv.conv", "time_mix_first", "time_mix_w1", "time_mix_w2", "time_mix_decay_w1",
                "time_mix_decay_w2", "time_mix_lerp_fused", "altup_correct_coef", "altup_predict_coef", "indexer.proj",
            )),
            ("position_embd.weight", "F16", (64, 256), "F32"),
            ("token_types.weight", "F16", (2, 256), "F32"),
        ],
    )  # fmt: skip
    def test_of_a_folder_they_become_what_llama_cpp_s_converter_makes_of_them(
        self,
        container: Container,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        type_: str,
        registry: Registry,
    ) -> None:
        found = planned(name, dtype, registry, container=container, shape=shape, default="keep")
        assert (found.type, found.copied) == (type_, type_ == dtype)
        assert found.because.endswith("F32 as in llama.cpp") is (type_ != dtype)

    def test_a_type_of_the_source_is_copied_and_no_other_version_of_it(self, registry: Registry) -> None:
        found = planned("blk.0.attn_q.weight", "BF16", registry, rule("attn_q", "BF16"))
        assert (found.type, found.copied) == ("BF16", True)
        assert not planned("blk.0.attn_q.weight", "F16", registry, rule("attn_q", "BF16")).copied


class TestRefused:
    @pytest.mark.parametrize(
        ("dtype", "type_", "said"),
        [
            ("Q8_0", "Q4_K", r"attn_q\.weight is already quantized, as Q8_0; .*--allow-requantize"),
            (
                "I8",
                "Q4_K",
                r"attn_q\.weight is stored as I8, which can't be turned into weights; leave it alone",
            ),
            ("type 99", "Q4_K", r"attn_q\.weight is stored as type 99 of ggml, which isn't known here"),
            ("BF16", "I8", "I8 can't be quantized to, it only passes through"),
            ("BF16", "Q4_X", r"attn_q\.weight: .*Q4_X"),
        ],
    )
    @pytest.mark.parametrize("by_default", [False, True])
    def test_what_can_t_be_had(
        self, dtype: str, type_: str, said: str, by_default: bool, registry: Registry
    ) -> None:
        mix: Any = {"default": type_} if by_default else {}
        rules = [] if by_default else [rule("attn_q", type_, line=4)]
        with pytest.raises(PlanError, match=said) as error:
            planned("blk.0.attn_q.weight", dtype, registry, *rules, **mix)
        (problem,) = error.value.problems
        assert (problem.file, problem.line) == ((None, None) if by_default else ("recipe.yaml", 4))

    @pytest.mark.parametrize(
        ("dtype", "container", "arch", "original"),
        [
            ("MXFP4", "huggingface", "llama", True),
            ("NVFP4", "huggingface", "llama", True),
            ("MXFP4", "gguf", "gpt-oss", True),
            ("MXFP4", "gguf", "deepseek4", True),
            ("MXFP4", "gguf", "qwen3moe", False),
            ("NVFP4", "gguf", "gpt-oss", False),
            ("Q8_0", "gguf", "gpt-oss", False),
        ],
    )
    def test_published_blocks_are_the_original(
        self, dtype: str, container: Container, arch: str, original: bool, registry: Registry
    ) -> None:
        """What is copied needs no permission in any case."""
        where: Any = {"container": container, "arch": arch}
        name = "blk.0.ffn_up_exps.weight"
        for kept in ({}, {"default": dtype}):
            found = planned(name, dtype, registry, shape=(2, 64, 256), **where, **kept)
            assert (found.type, found.copied) == (dtype, True)
        if original:
            assert not planned(name, dtype, registry, shape=(2, 64, 256), default="Q4_K", **where).copied
        else:
            with pytest.raises(
                PlanError, match=f"already quantized, as {dtype}.*as it was published.*type: keep"
            ):
                planned(name, dtype, registry, shape=(2, 64, 256), default="Q4_K", **where)

    @pytest.mark.parametrize("strict", [False, True])
    def test_a_fallback_is_refused_with_a_type_that_fits(self, strict: bool, registry: Registry) -> None:
        why = "fallbacks are refused by --strict" if strict else "the recipe declares `fallback: error`"
        with pytest.raises(
            PlanError, match=rf"can't be Q4_K: its 96 columns .*; {why}; .* e.g. IQ4_NL"
        ) as error:
            planned(
                "blk.0.attn_q.weight", "BF16", registry, rule("attn_q", "Q4_K", line=2), shape=(64, 96),
                fallback="chain" if strict else "error", plan={"strict": strict},
            )  # fmt: skip
        assert error.value.problems[0].line == 2

    def test_where_no_type_fits_it_is_to_be_kept(self, registry: Registry) -> None:
        with pytest.raises(PlanError, match=r"e\.g\. keep$"):
            planned("blk.0.attn_q.weight", "BF16", registry, default="Q4_K", shape=(64, 7), fallback="error")


class TestFallbacks:
    def test_the_chain_ends_at_the_first_that_fits(self, registry: Registry) -> None:
        found = planned("blk.0.attn_q.weight", "BF16", registry, default="Q4_K", shape=(64, 96))
        assert (found.type, found.wanted) == ("Q5_0", "Q4_K")
        assert found.misfit == "its 96 columns don't divide into blocks of 256"
        assert not found.copied

    def test_it_may_be_the_type_of_the_source(self, registry: Registry) -> None:
        found = planned("blk.0.attn_q.weight", "F16", registry, default="Q4_K", shape=(64, 7), fallback="F16")
        assert (found.type, found.wanted, found.copied) == ("F16", "Q4_K", True)

    def test_one_that_doesn_t_fit_either(self, registry: Registry) -> None:
        with pytest.raises(PlanError, match="can't be Q4_K, nor its fallback Q5_K: its 96 columns"):
            planned("blk.0.attn_q.weight", "BF16", registry, default="Q4_K", shape=(64, 96), fallback="Q5_K")
