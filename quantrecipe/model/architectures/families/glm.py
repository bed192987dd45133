"""GLM 4 and its successors, from Zhipu (Z.ai); and Solar Open, whose layers are GLM 4.5's.

    chatglm    GLM 4 9B: biases on q, k and v, half of each head is rotated
    glm4       GLM 4 0414, GLM 4.1V, GLM OCR: norms behind attention and feed-forward, too
    glm4moe    GLM 4.5, 4.6, 4.5V; Solar Open: experts, a norm behind attention in place of the one before the experts
    deepseek2  GLM 4.7 Flash: latent attention
    glm-dsa    GLM 5: latent attention, and an indexer that chooses the tokens to attend to

Models that see pictures rotate pairs of rows that stand side by side, while llama.cpp's rotation by sections
(M-RoPE) takes those half a rotated part apart: so rows of q and k change places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.architecture import Architecture, as_many_as_heads
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.families.deepseek import (
    DEEPSEEK2,
    INDEXER,
    TRUNK,
    deepseek2_pairs,
    indexer_pairs,
    yarn_pairs,
)
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    count_pairs,
    head_dim,
    number_pairs,
)
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import (
    HEAD,
    QK_NORMS,
    Layout,
    Part,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import Found, change, tied_output
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    COUNTS,
    DRAFT,
    DRAFT_NAMES,
    SHARED,
    beyond_layers,
    dense_then_experts,
    draft_count,
    draft_pairs,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.shared.latent_attention import LATENT, queries
from quantrecipe.model.pairs import Pairs, boolean, booleans, f32, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "GLM4MOE", "GLM4_FLASH", "GLM_DSA", "VOCABULARY"]

_END, _USER, _OBSERVATION = "<|endoftext|>", "<|user|>", "<|observation|>"
VOCABULARY = Vocabulary(
    kinds=("bpe",),
    pre=("glm4",),
    special=(("bos", "[gMASK]"), ("eot", _USER), ("unk", _END), ("eom", _OBSERVATION)),
)
"""A turn ends where the next one begins; GLM has no token for it."""

_GLM4_VOCABULARY = replace(VOCABULARY, special=(("eos", _END), ("eot", _USER), ("unk", _END), ("bos", _END)))
_SOLAR_VOCABULARY = Vocabulary(
    kinds=("bpe",),
    pre=("solar-open",),
    special=(("eos", _END), ("eot", _END), ("unk", "<unk>"), ("bos", "<|startoftext|>")),
)

_HALF = 0.5
"""The part of a head that is rotated, where config.json doesn't tell it."""

_SIGMOID = 2  # llama.cpp: enum llama_expert_gating_func_type

# GLM 4 9B: the keys' names and the base frequency are those of ChatGLM 3, whose classes llama.cpp's converter takes


def _chatglm_common(arch: str, config: Config) -> Pairs:
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    return {
        f"{arch}.context_length": u32(config.count("seq_length") or hidden),
        f"{arch}.embedding_length": u32(hidden),
        f"{arch}.feed_forward_length": u32(config.need("intermediate_size")),
        f"{arch}.block_count": u32(config.need("num_hidden_layers")),
        f"{arch}.attention.head_count": u32(heads),
        f"{arch}.attention.head_count_kv": u32(config.count("num_key_value_heads") or heads),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number("layernorm_epsilon") or _EPSILON),
    }


_EPSILON = 1e-5
_BASE = 10_000.0  # times rope_ratio


def _chatglm_pairs(config: Config) -> Pairs:
    ratio = config.number("rope_ratio")
    return {
        "chatglm.rope.dimension_count": u32(rotated(config, head_dim(config), _HALF)),
        "tokenizer.ggml.add_bos_token": boolean(False),
        "chatglm.rope.freq_base": f32(_BASE * (1 if ratio is None else ratio)),
    }


def _doubled_feed_forward(norm_behind: bool) -> Shapes:
    """Gate and up in one matrix, gate's rows first; and what else a layer has that other families don't have."""
    norms = ("post_attention_norm.weight", "post_ffw_norm.weight") if norm_behind else ()
    return layers(
        {
            "ffn_up.weight": ("2 · intermediate_size", "hidden_size"),
            "ffn_down.weight": ("hidden_size", "intermediate_size"),
            **dict.fromkeys(norms, ("hidden_size",)),
        }
    )


CHATGLM = Architecture(
    name="chatglm",
    vocabulary=replace(VOCABULARY, special=(("eos", _END), ("eot", _USER), ("unk", _END))),
    classes=("GlmForCausalLM",),
    layout=Layout(required=attention() | _doubled_feed_forward(False), optional=HEAD | biases()),
    derive={"num_key_value_heads": as_many_as_heads},
    common=_chatglm_common,
    pairs=_chatglm_pairs,
)


def _needs_its_own_program(config: Config) -> str:
    return (
        "is a ChatGLM, whose tokenizer is a program of its own: take the folder whose name ends in -hf, "
        "which has a tokenizer.json (its class is GlmForCausalLM)"
    )


CHATGLM_OLD = replace(
    CHATGLM, classes=("ChatGLMModel", "ChatGLMForConditionalGeneration"), refuse=_needs_its_own_program
)


def _in_sections(it: Found) -> TensorSource:
    """Rows (or biases) of q and k as rotation by sections wants them: of each pair, the first rows come first."""
    if not isinstance(it.config.rope.get("mrope_section"), list):
        return it.source
    length = head_dim(it.config)
    turning = rotated(it.config, length, _HALF)
    rows = it.source.shape[0]
    if not length or turning % 2 or not 0 <= turning <= length or rows % length:
        what = f"tensor {it.name!r} has {rows} rows, of which {turning} in each {length} can't be pairs"
        raise ModelError(what, "check head_dim and partial_rotary_factor", file=it.config.path)
    return layout.concat(list(_heads(it.source, rows // length, length, turning)))


def _heads(source: TensorSource, heads: int, length: int, rotated: int) -> Iterator[TensorSource]:
    for start in range(0, heads * length, length):
        if rotated:
            yield layout.regroup(layout.rows(source, start, start + rotated), (rotated // 2, 2), (1, 0))
        if rotated < length:
            yield layout.rows(source, start + rotated, start + length)


def _glm4_pairs(config: Config) -> Pairs:
    return {"glm4.rope.dimension_count": u32(rotated(config, head_dim(config), _HALF))}


GLM4 = Architecture(
    name="glm4",
    vocabulary=_GLM4_VOCABULARY,
    classes=("Glm4ForCausalLM", "Glm4vForConditionalGeneration"),
    layout=Layout(required=attention() | _doubled_feed_forward(True), optional=HEAD | biases()),
    rules=(change("model.layers.{layer}.self_attn.{proj:q|k}_proj.{end:weight|bias}", _in_sections),),
    pairs=_glm4_pairs,
)

GLM_OCR = replace(
    GLM4,
    classes=("GlmOcrForConditionalGeneration",),
    layout=replace(GLM4.layout, parts=(DRAFT,), drafts=drafts),
    layers=with_drafts,
    pairs=lambda config: _glm4_pairs(config) | draft_pairs("glm4", config),
)

_GLM4MOE: Shapes = {
    name: shape for name, shape in attention().items() if not name.endswith("ffn_norm.weight")
}


def _glm4moe_pairs(config: Config) -> Pairs:
    arch = "glm4moe"
    pairs: Pairs = {f"{arch}.rope.dimension_count": u32(rotated(config, head_dim(config), _HALF))}
    table = {"expert_count": EXPERTS, **COUNTS, "leading_dense_block_count": ("first_k_dense_replace",)}
    pairs |= count_pairs(arch, config, table)
    pairs[f"{arch}.expert_gating_func"] = u32(_SIGMOID)
    pairs |= number_pairs(arch, config, {"expert_weights_scale": ("routed_scaling_factor",)})
    if (norm := config.flag("norm_topk_prob")) is not None:
        pairs[f"{arch}.expert_weights_norm"] = boolean(norm)
    return pairs | draft_pairs(arch, config)


GLM4MOE = Architecture(
    name="glm4moe",
    vocabulary=VOCABULARY,
    classes=("Glm4MoeForCausalLM", "Glm4vMoeForConditionalGeneration"),
    layout=Layout(
        required=_GLM4MOE | layers({"post_attention_norm.weight": ("hidden_size",)}),
        optional=HEAD | biases() | QK_NORMS,
        parts=(*dense_then_experts(SHARED, required=ROUTED | BIAS, count=with_drafts), DRAFT),
        drafts=drafts,
    ),
    layers=with_drafts,
    rules=EXPERTS_RULES,
    pairs=_glm4moe_pairs,
)


SOLAR = replace(GLM4MOE, classes=("SolarOpenForCausalLM",), vocabulary=_SOLAR_VOCABULARY)


def _flash_refuse(config: Config) -> str | None:
    """Why a folder can't be converted: llama.cpp's converter reads the number of dense layers by this name alone."""
    kinds = config.find("mlp_layer_types")
    if config.find("first_k_dense_replace") is None and isinstance(kinds, list) and "dense" in kinds:
        count = next((place for place, kind in enumerate(kinds) if kind != "dense"), len(kinds))
        return (
            f'says with mlp_layer_types which layers are dense: say "first_k_dense_replace": {count} as well'
        )
    return None


def _flash_left_out(config: Config, name: str) -> bool:
    """Draft heads of which config.json doesn't tell, and an output that is the embedding once more."""
    return tied_output(config, name) or (not draft_count(config) and beyond_layers(config, name))


def _flash_pairs(config: Config) -> Pairs:
    pairs = deepseek2_pairs("deepseek2", config) | yarn_pairs("deepseek2", config)
    return pairs | (draft_pairs("deepseek2", config) if draft_count(config) else {})


GLM4_FLASH = replace(
    DEEPSEEK2,
    classes=("Glm4MoeLiteForCausalLM",),
    vocabulary=VOCABULARY,
    refuse=_flash_refuse,
    layout=Layout(
        required=TRUNK | LATENT,
        optional=HEAD,
        parts=(
            *queries(lambda config: range(with_drafts(config))),
            *dense_then_experts(BIAS, required=ROUTED | SHARED, count=with_drafts),
            DRAFT,
        ),
        drafts=drafts,
    ),
    layers=with_drafts,
    leaves_out=_flash_left_out,
    names=DRAFT_NAMES,
    pairs=_flash_pairs,
)


def _glm_dsa_pairs(config: Config) -> Pairs:
    arch = "glm-dsa"
    pairs = deepseek2_pairs(arch, config) | yarn_pairs(arch, config)
    part = config.rope_number("partial_rotary_factor")
    rotated = int(config.need("qk_rope_head_dim") * (1.0 if part is None else part))
    pairs[f"{arch}.rope.dimension_count"] = u32(rotated)
    pairs |= draft_pairs(arch, config) | indexer_pairs(arch, config)
    if config.per_layer(config.need("num_hidden_layers"), "indexer_types") is not None:
        kinds = config.find("indexer_types")  # all of them, those of draft heads as well
        if not isinstance(kinds, list):
            config.fail(f"says indexer_types: {shown(kinds)} (expected: a list, of one for each layer)")
        pairs[f"{arch}.attention.indexer.types"] = booleans(kind == "full" for kind in kinds)
    return pairs


GLM_DSA = replace(
    GLM4_FLASH,
    name="glm-dsa",
    classes=("GlmMoeDsaForCausalLM",),
    layout=replace(
        GLM4_FLASH.layout,
        # layers whose indexer is another layer's have none
        parts=(
            *GLM4_FLASH.layout.parts,
            Part(where=lambda config: range(with_drafts(config)), optional=INDEXER, loose=True),
        ),
    ),
    leaves_out=tied_output,
    names={},
    pairs=_glm_dsa_pairs,
)

ALL = (CHATGLM, CHATGLM_OLD, GLM4, GLM_OCR, GLM4MOE, SOLAR, GLM4_FLASH, GLM_DSA)
