"""DeepSeek, and what goes by its architecture: Kimi K2, Youtu and the small GLM 4.7 have DeepSeek's layers.

    deepseek        DeepSeek MoE: Llama's attention, experts behind a first dense layer
    deepseek2       DeepSeek V2, V2.5, V3, R1; Kimi K2; Kimi VL; Youtu, which is dense: latent attention
    deepseek2-ocr   DeepSeek OCR: V2's experts, with attention that isn't latent
    deepseek32      DeepSeek V3.2: V3, and an indexer that chooses the tokens to attend to

llama.cpp's converter leaves V3's draft heads out, and keeps those of V3.2.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture, as_many_as_heads
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    FEED_FORWARD,
    SHARED_EXPERTS,
    count_pairs,
    head_dim,
    number_pairs,
)
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.layout import HEAD, Layout, Shapes, attention, layers
from quantrecipe.model.architectures.rules import language_name, tied_output
from quantrecipe.model.architectures.shared.experts import (
    BIAS,
    DRAFT,
    SHARED,
    beyond_layers,
    dense_count,
    dense_then_experts,
    draft_pairs,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.shared.latent_attention import (
    LATENT,
    SPLIT,
    latent_pairs,
    one_key_value_head,
    queries,
)
from quantrecipe.model.pairs import Pairs, boolean, f32, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = [
    "ALL",
    "DEEPSEEK2",
    "DEEPSEEK32",
    "INDEXER",
    "TRUNK",
    "deepseek2_pairs",
    "indexer_pairs",
    "yarn_pairs",
]

_EPSILON = 1e-6  # of norms, where config.json doesn't tell it

_YARN_LOG = 0.1
"""What the converter takes of mscale_all_dim; llama.cpp's loader divides by it again."""


def _deepseek_pairs(config: Config) -> Pairs:
    return {
        "deepseek.rope.dimension_count": u32(head_dim(config)),
        "deepseek.rope.scaling.type": text("none"),
        "deepseek.leading_dense_block_count": u32(dense_count(config)),
        "deepseek.vocab_size": u32(config.need("vocab_size")),
        "deepseek.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        "deepseek.expert_weights_scale": f32(1.0),
        "deepseek.expert_count": u32(config.need(*EXPERTS)),
        "deepseek.expert_shared_count": u32(config.need(*SHARED_EXPERTS)),
    }


DEEPSEEK = Architecture(
    name="deepseek",
    classes=("DeepseekForCausalLM",),
    layout=Layout(
        required=attention("hidden_size"),
        optional=HEAD,
        parts=dense_then_experts({}, required=ROUTED | SHARED),
    ),
    derive={"num_key_value_heads": as_many_as_heads},
    rules=(*ROTARY, *EXPERTS_RULES),
    pairs=_deepseek_pairs,
)

TRUNK: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
    **layers({"attn_norm.weight": ("hidden_size",), "ffn_norm.weight": ("hidden_size",)}),
}
"""What models have whatever their attention is like."""


def deepseek2_pairs(arch: str, config: Config, *, latent: bool = True) -> Pairs:
    """Make the keys that architectures with DeepSeek V2's layers have."""
    pairs: Pairs = {
        f"{arch}.leading_dense_block_count": u32(dense_count(config)),
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
    }
    if latent:
        pairs |= latent_pairs(arch, config)
    else:
        pairs |= count_pairs(arch, config, {"attention.q_lora_rank": ("q_lora_rank",)})
    length = config.count("moe_intermediate_size")
    pairs[f"{arch}.expert_feed_forward_length"] = u32(length or config.need(*FEED_FORWARD))
    pairs |= count_pairs(arch, config, {"expert_count": ("n_routed_experts",)})
    pairs[f"{arch}.expert_shared_count"] = u32(config.count(*SHARED_EXPERTS) or 0)
    pairs |= number_pairs(arch, config, {"expert_weights_scale": ("routed_scaling_factor",)})
    if config.flag("norm_topk_prob"):
        pairs[f"{arch}.expert_weights_norm"] = boolean(True)
    pairs[f"{arch}.rope.dimension_count"] = u32(config.count("qk_rope_head_dim") or 0)
    return pairs


def yarn_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of the logarithm by which YaRN scales attention."""
    if (scale := config.rope_number("mscale_all_dim")) is None:
        return {}
    return {f"{arch}.rope.scaling.yarn_log_multiplier": f32(_YARN_LOG * scale)}


def _left_out(config: Config, name: str) -> bool:
    """Draft heads, and an output that is the embedding once more."""
    return tied_output(config, name) or beyond_layers(config, name)


DEEPSEEK2 = Architecture(
    name="deepseek2",
    vocabulary=Vocabulary(kinds=("bpe", "tiktoken"), pre=("kimi-k2", "deepseek-v3")),
    classes=(
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "KimiVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
    ),
    layout=Layout(
        required=TRUNK | LATENT,
        optional=HEAD,
        parts=(*queries(), *dense_then_experts(BIAS, required=ROUTED | SHARED)),
    ),
    derive={"rms_norm_eps": lambda _: _EPSILON},
    adjust=one_key_value_head,
    leaves_out=_left_out,
    rules=(SPLIT, *EXPERTS_RULES),
    pairs=lambda config: deepseek2_pairs("deepseek2", config) | yarn_pairs("deepseek2", config),
)


YOUTU = replace(
    DEEPSEEK2,
    classes=("YoutuForCausalLM", "YoutuVLForConditionalGeneration"),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("youtu",)),
)


def _ocr_pairs(config: Config) -> Pairs:
    pairs = deepseek2_pairs("deepseek2-ocr", config, latent=False)
    window = config.count("sliding_window_size") or config.count("sliding_window")
    if window:
        pairs["deepseek2-ocr.attention.sliding_window"] = u32(window)
    return pairs | yarn_pairs("deepseek2-ocr", config)


_SQUARE = ("hidden_size", "hidden_size")
_WITHOUT_GROUPS: Shapes = TRUNK | layers(
    {f"attn_{name}.weight": _SQUARE for name in ("q", "k", "v", "output")}
)

_OCR_TEMPLATE = "{% for m in messages %}{{m['content']}}{% endfor %}"


def _ocr_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """These folders have no chat template; the converter has one for them."""
    return {"tokenizer.chat_template": text(_OCR_TEMPLATE)} | pairs


_OCR = ("DeepseekOCRForCausalLM", "UnlimitedOCRForCausalLM", "DeepseekOCR2ForCausalLM")


def _reads_pages(config: Config) -> bool:
    """A model that reads pages, whose language model calls itself a DeepSeek V2."""
    return any(name in _OCR for name in config.classes[:1])


def _ocr_name(name: str) -> str | None:
    """A tensor's name without those of the encoders of pages."""
    return None if "sam_model" in name or "qwen2_model" in name else language_name(name)


DEEPSEEK2_OCR = replace(
    DEEPSEEK2,
    name="deepseek2-ocr",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("deepseek-v3",)),
    classes=(*_OCR, "DeepseekV2ForCausalLM"),
    applies=_reads_pages,
    layout=Layout(
        required=_WITHOUT_GROUPS,
        optional=HEAD,
        parts=dense_then_experts(BIAS, required=ROUTED | SHARED),
    ),
    adjust=lambda values: values,
    rename=_ocr_name,
    rules=EXPERTS_RULES,
    pairs=_ocr_pairs,
    tokenizer=_ocr_tokenizer,
)

INDEXER: Shapes = layers(
    {
        "indexer.k_norm.weight": ("index_head_dim",),
        "indexer.k_norm.bias": ("index_head_dim",),
        "indexer.proj.weight": ("index_n_heads", "hidden_size"),
        "indexer.attn_k.weight": ("index_head_dim", "hidden_size"),
        "indexer.attn_q_b.weight": ("index_n_heads · index_head_dim", "q_lora_rank"),
    }
)
"""The small attention (DSA) that chooses which tokens the large one sees."""


def indexer_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of the indexer."""
    return {
        f"{arch}.attention.indexer.head_count": u32(config.need("index_n_heads")),
        f"{arch}.attention.indexer.key_length": u32(config.need("index_head_dim")),
        f"{arch}.attention.indexer.top_k": u32(config.need("index_topk")),
    }


def _deepseek32_pairs(config: Config) -> Pairs:
    arch = "deepseek32"
    return (
        deepseek2_pairs(arch, config)
        | yarn_pairs(arch, config)
        | draft_pairs(arch, config)
        | indexer_pairs(arch, config)
    )


DEEPSEEK32 = replace(
    DEEPSEEK2,
    name="deepseek32",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("deepseek-v3",)),
    classes=("DeepseekV32ForCausalLM",),
    layout=Layout(
        required=TRUNK | LATENT | INDEXER,
        optional=HEAD,
        parts=(
            *queries(lambda config: range(with_drafts(config))),
            *dense_then_experts(BIAS, required=ROUTED | SHARED, count=with_drafts),
            DRAFT,
        ),
        drafts=drafts,
    ),
    layers=with_drafts,
    leaves_out=tied_output,
    names_of="glm-dsa",  # whose layers have the same tensors
    pairs=_deepseek32_pairs,
)

ALL = (DEEPSEEK, DEEPSEEK2_OCR, DEEPSEEK2, YOUTU, DEEPSEEK32)
