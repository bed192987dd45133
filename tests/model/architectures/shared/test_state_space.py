"""Models with state spaces: what the recorded folders don't show of their sizes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import write_edited

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model


def found(folder: Path, key: str) -> Any:
    return open_model(folder).metadata[key].decode()


@pytest.mark.parametrize("given", ["auto", None, ...])
def test_a_rank_that_follows_from_the_width(tmp_path: Path, given: Any) -> None:
    folder = write_edited("mamba", tmp_path, time_step_rank=given)
    assert found(folder, "mamba.ssm.time_step_rank") == 4  # 64 / 16


def test_falcon_mamba_norms_what_goes_in(tmp_path: Path) -> None:
    assert found(write_edited("falcon-mamba", tmp_path), "mamba.ssm.dt_b_c_rms") is True


@pytest.mark.parametrize(("tied", "there"), [(False, True), (True, False), (..., False)])
def test_an_output_that_is_the_embedding(tmp_path: Path, tied: Any, there: bool) -> None:
    folder = write_edited("falcon-mamba", tmp_path, tie_word_embeddings=tied)
    assert ("output.weight" in {it.name for it in open_model(folder).tensors}) is there


def test_other_expansions(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 96 inner channels; llama\.cpp has .* twice the hidden size"):
        open_model(write_edited("mamba", tmp_path / "a", intermediate_size=96))
    with pytest.raises(ModelError, match=r"has a mamba_expand of 4; llama\.cpp"):
        open_model(write_edited("jamba", tmp_path / "b", mamba_expand=4))
    with pytest.raises(ModelError, match=r"expected: 256 by expand, in heads of 16"):
        open_model(write_edited("mamba2-codestral", tmp_path / "c", expand=4, intermediate_size=128))


def test_a_vocabulary_that_is_filled_up(tmp_path: Path) -> None:
    """The embedding has more rows than there are tokens: 304, a multiple of 16."""
    model = open_model(write_edited("mamba2-codestral", tmp_path, vocab_size=299))
    assert len(model.metadata["tokenizer.ggml.tokens"].decode()) == 304


def test_an_embedding_that_isn_t_filled_up(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has the shape \(304, 64\) \(expected: \(320, 64\), by vocab_size"):
        open_model(write_edited("mamba", tmp_path, pad_vocab_size_multiple=64))


def test_a_kernel_with_another_axis(tmp_path: Path) -> None:
    def wide(tensors: dict[str, Any]) -> None:
        tensors["backbone.layers.0.mixer.conv1d.weight"] = ("BF16", [128, 2, 4])

    with pytest.raises(ModelError, match=r"has the shape \(128, 2, 4\) \(expected: channels, 1, steps\)"):
        open_model(write_edited("mamba", tmp_path, wide))


def test_a_norm_that_groups_can_t_share(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has the shape \(128,\), which 3 groups can't share"):
        open_model(write_edited("mamba2-codestral", tmp_path, n_groups=3))


def test_attention_where_tensors_of_a_state_space_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight\) is missing"):
        open_model(write_edited("jamba", tmp_path, attn_layer_offset=0))


def test_experts_that_jamba_doesn_t_have_in_a_layer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_gate_inp\.weight\) is missing"):
        open_model(write_edited("jamba", tmp_path, expert_layer_offset=0))


class TestFalconH1:
    @pytest.mark.parametrize("given", [[0.5], "many", None])
    def test_multipliers(self, tmp_path: Path, given: Any) -> None:
        with pytest.raises(ModelError, match=r"says mlp_multipliers: .* \(expected: 2 numbers\)"):
            open_model(write_edited("falcon-h1", tmp_path, mlp_multipliers=given))

    def test_heads_that_don_t_divide(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has 128 inner channels, which heads of 24 don't divide"):
            open_model(write_edited("falcon-h1", tmp_path, mamba_d_head=24))

    def test_another_activation(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has the activation 'gelu'; llama\.cpp has"):
            open_model(write_edited("falcon-h1", tmp_path, hidden_act="gelu"))


class TestGranite:
    def test_attention_every_so_many_layers(self, tmp_path: Path) -> None:
        folder = write_edited(
            "granite-h-moe", tmp_path, layer_types=..., attn_layer_period=3, attn_layer_offset=1
        )
        assert found(folder, "granitehybrid.attention.head_count_kv") == [0, 2, 0]

    def test_a_period_alone(self, tmp_path: Path) -> None:
        folder = write_edited("granite-h-moe", tmp_path, layer_types=..., attn_layer_period=3)
        with pytest.raises(ModelError, match="has an attn_layer_period, but no attn_layer_offset"):
            open_model(folder)

    def test_fewer_types_than_layers(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has 2 values for 3 layers under layer_types"):
            open_model(write_edited("granite-h-moe", tmp_path, layer_types=["mamba", "attention"]))

    @pytest.mark.parametrize("given", [0, 0.0, ...])
    def test_a_multiplier_of_nothing_is_none(self, tmp_path: Path, given: Any) -> None:
        folder = write_edited("granite4", tmp_path, residual_multiplier=given)
        assert "granite.residual_scale" not in open_model(folder).metadata

    def test_a_head_length_is_not_asked_for(self, tmp_path: Path) -> None:
        """llama.cpp's Granite divides the hidden size among the heads, whatever head_dim says."""
        model = open_model(write_edited("granite", tmp_path, head_dim=99))
        assert "granite.attention.key_length" not in model.metadata
        assert model.metadata["granite.rope.dimension_count"].decode() == 16

    def test_pictures_in_several_layers(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="feeds pictures into several layers"):
            open_model(write_edited("granite", tmp_path, spatial_target_layers=[1]))

    def test_sliding_layers_by_default(self, tmp_path: Path) -> None:
        folder = write_edited("granite-swa", tmp_path, layer_types=..., sliding_window=...)
        model = open_model(folder)
        pattern = model.metadata["granite_swa.attention.sliding_window_pattern"].decode()
        assert pattern == [False, True, True, True]
        assert model.metadata["granite_swa.attention.sliding_window"].decode() == 128

    def test_the_expansion_of_hybrids(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has 256 inner channels; llama\.cpp has hybrids of twice"):
            open_model(write_edited("granite-h-moe", tmp_path, mamba_expand=4))


class TestNemotronH:
    def test_no_pattern(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has no hybrid_override_pattern and no layers_block_type"):
            open_model(write_edited("nemotron-h", tmp_path, hybrid_override_pattern=...))

    def test_a_letter_that_isn_t_known(self, tmp_path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"has layers of the kind 'X' \(llama\.cpp has: mamba, attention"
        ):
            open_model(write_edited("nemotron-h", tmp_path, hybrid_override_pattern="M-X*-"))

    def test_more_layers_than_tensors(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="says that there are 6 layers, but there are no tensors of 1"):
            open_model(write_edited("nemotron-h", tmp_path, hybrid_override_pattern="M-M*-M"))

    def test_two_draft_heads(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has 2 draft heads; llama\.cpp has one at most"):
            open_model(write_edited("nem-moe-mtp", tmp_path, num_nextn_predict_layers=2))

    def test_a_draft_head_that_the_folder_lacks(self, tmp_path: Path) -> None:
        """llama.cpp loads the model without its head, and so it is converted: those who train further drop it."""

        def without(tensors: dict[str, Any]) -> None:
            for name in [name for name in tensors if name.startswith("mtp.")]:
                del tensors[name]

        model = open_model(write_edited("nem-moe-mtp", tmp_path, without))
        assert not any(it.name.startswith("blk.4.") for it in model.tensors)

    def test_half_a_draft_head(self, tmp_path: Path) -> None:
        def without(tensors: dict[str, Any]) -> None:
            del tensors["mtp.layers.1.final_layernorm.weight"]

        with pytest.raises(ModelError, match=r"blk\.4\.nextn\.shared_head_norm\.weight\) is missing"):
            open_model(write_edited("nem-moe-mtp", tmp_path, without))

    def test_an_expert_that_is_missing(self, tmp_path: Path) -> None:
        def without(tensors: dict[str, Any]) -> None:
            del tensors["backbone.layers.1.mixer.experts.3.up_proj.weight"]

        with pytest.raises(
            ModelError, match=r"'backbone\.layers\.1\.mixer\.experts\.3\.up_proj\.weight' is missing"
        ):
            open_model(write_edited("nem-moe-mtp", tmp_path, without))

    def test_a_rotary_share_that_isn_t_given(self, tmp_path: Path) -> None:
        folder = write_edited("nemotron", tmp_path, partial_rotary_factor=..., hidden_size=64)
        assert found(folder, "nemotron.rope.dimension_count") == 8  # transformers assumes a half
