"""Make a shape file from a model's public config.json: a model to plan with, without downloading it.

    python tools/make_shapes.py config.json > model.shapes.json

The tensors are those that llama.cpp's converter makes of the checkpoint, as its loader (src/models/*.cpp,
`load_arch_tensors`) expects them: without MTP layers and rotary factors, experts stacked, matrices BF16, and F32
what the converter makes F32. A config.json says nearly everything; keys with a leading `_` are this tool's:

    _source                    where the configuration is from
    _lm_head                   true where the checkpoint stores a head although embeddings are tied
    _full_attention_interval   Step 3.5: in place of its list of `layer_types`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import shapes_text
from quantrecipe.plan.assign import kept_type
from quantrecipe.tensor import TensorInfo

Config = Mapping[str, Any]
Tensors = Iterator[tuple[str, tuple[int, ...]]]


def outside(c: Config) -> Tensors:
    """Embeddings, last norm, head."""
    yield "token_embd.weight", (c["vocab_size"], c["hidden_size"])
    yield "output_norm.weight", (c["hidden_size"],)
    if not c.get("tie_word_embeddings", False) or c.get("_lm_head", False):
        yield "output.weight", (c["vocab_size"], c["hidden_size"])


def attention(c: Config, *, heads: int | None = None, q_rows: int = 1, bias: bool = False) -> Tensors:
    """Grouped-query attention; `q_rows` 2 where a gate is stored beside each query."""
    heads = heads or c["num_attention_heads"]
    kv_heads, size = c["num_key_value_heads"], c["hidden_size"]
    head = c.get("head_dim") or size // heads
    rows = {"attn_q": heads * head * q_rows, "attn_k": kv_heads * head, "attn_v": kv_heads * head}
    for role, n in rows.items():
        yield f"{role}.weight", (n, size)
        if bias:
            yield f"{role}.bias", (n,)
    yield "attn_output.weight", (size, heads * head)


def qk_norms(c: Config) -> Tensors:
    for role in ("attn_q_norm", "attn_k_norm"):
        yield f"{role}.weight", (c["head_dim"],)


def norms(c: Config, *roles: str) -> Tensors:
    for role in roles:
        yield f"{role}.weight", (c["hidden_size"],)


def dense(c: Config, *, gate: bool = True, inner: int | None = None, suffix: str = "") -> Tensors:
    """One feed-forward network: of the layer, or its shared expert."""
    size, inner = c["hidden_size"], inner or c["intermediate_size"]
    if gate:
        yield f"ffn_gate{suffix}.weight", (inner, size)
    yield f"ffn_up{suffix}.weight", (inner, size)
    yield f"ffn_down{suffix}.weight", (size, inner)


def experts(c: Config, count: int, inner: int, *, gate: bool = True, bias: bool = False) -> Tensors:
    """The router and the stacked experts."""
    size = c["hidden_size"]
    yield "ffn_gate_inp.weight", (count, size)
    shapes = {"gate": (inner, size), "up": (inner, size), "down": (size, inner)}
    for role, shape in shapes.items():
        if role != "gate" or gate:
            yield f"ffn_{role}_exps.weight", (count, *shape)
            if bias:
                yield f"ffn_{role}_exps.bias", (count, shape[0])
    if bias:
        yield "ffn_gate_inp.bias", (count,)


def llama(c: Config, _: int) -> Tensors:
    yield from norms(c, "attn_norm", "ffn_norm")
    yield from attention(c)
    yield from dense(c)


def qwen3(c: Config, layer: int) -> Tensors:
    yield from llama(c, layer)
    yield from qk_norms(c)


def mixtral(c: Config, _: int) -> Tensors:
    yield from norms(c, "attn_norm", "ffn_norm")
    yield from attention(c)
    yield from experts(c, c["num_local_experts"], c["intermediate_size"])


def qwen3_moe(c: Config, _: int) -> Tensors:
    yield from norms(c, "attn_norm", "ffn_norm")
    yield from attention(c)
    yield from qk_norms(c)
    yield from experts(c, c["num_experts"], c["moe_intermediate_size"])


def gemma3(c: Config, layer: int) -> Tensors:
    yield from qwen3(c, layer)
    yield from norms(c, "post_attention_norm", "post_ffw_norm")


def gpt_oss(c: Config, _: int) -> Tensors:
    yield from norms(c, "attn_norm", "post_attention_norm")
    yield from attention(c, bias=True)
    yield "attn_output.bias", (c["hidden_size"],)
    yield "attn_sinks.weight", (c["num_attention_heads"],)
    yield from experts(c, c["num_local_experts"], c["intermediate_size"], bias=True)


def glm4_moe(c: Config, layer: int) -> Tensors:
    yield from norms(c, "attn_norm", "post_attention_norm")
    yield from attention(c, bias=c["attention_bias"])
    if c["use_qk_norm"]:
        yield from qk_norms(c)
    if layer < c["first_k_dense_replace"]:
        yield from dense(c)
        return
    inner = c["moe_intermediate_size"]
    yield from experts(c, c["n_routed_experts"], inner)
    yield "exp_probs_b.bias", (c["n_routed_experts"],)
    yield from dense(c, inner=inner * c["n_shared_experts"], suffix="_shexp")


def deepseek(c: Config, layer: int) -> Tensors:
    """Multi-head latent attention, with keys and values absorbed (MLA)."""
    size, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    yield from norms(c, "attn_norm", "ffn_norm")
    yield "attn_q_a.weight", (c["q_lora_rank"], size)
    yield "attn_q_a_norm.weight", (c["q_lora_rank"],)
    yield "attn_q_b.weight", (heads * (nope + rope), c["q_lora_rank"])
    yield "attn_kv_a_mqa.weight", (rank + rope, size)
    yield "attn_kv_a_norm.weight", (rank,)
    yield "attn_k_b.weight", (heads, rank, nope)
    yield "attn_v_b.weight", (heads, v, rank)
    yield "attn_output.weight", (size, heads * v)
    if layer < c["first_k_dense_replace"]:
        yield from dense(c)
        return
    inner = c["moe_intermediate_size"]
    yield from experts(c, c["n_routed_experts"], inner)
    yield "exp_probs_b.bias", (c["n_routed_experts"],)
    yield from dense(c, inner=inner * c["n_shared_experts"], suffix="_shexp")


def step3p5(c: Config, layer: int) -> Tensors:
    """Head counts differ between full and sliding attention; a gate for each head."""
    full = layer % c["_full_attention_interval"] == 0
    heads = c["num_attention_heads"] if full else c["attention_other_setting"]["num_attention_heads"]
    yield from norms(c, "attn_norm", "ffn_norm")
    yield from attention({**c, "num_key_value_heads": c["num_attention_groups"]}, heads=heads)
    yield from qk_norms(c)
    yield "attn_gate.weight", (heads, c["hidden_size"])
    if layer not in map(int, c["moe_layers_enum"].split(",")):
        yield from dense(c)
        return
    yield from experts(c, c["moe_num_experts"], c["moe_intermediate_size"])
    yield "exp_probs_b.bias", (c["moe_num_experts"],)
    yield from dense(c, inner=c["share_expert_dim"], suffix="_shexp")


def nemotron_h(c: Config, layer: int) -> Tensors:
    """One thing in each layer: M a Mamba-2 mixer, * attention, E experts."""
    size = c["hidden_size"]
    yield from norms(c, "attn_norm")
    kind = c["hybrid_override_pattern"][layer]
    if kind == "*":
        yield from attention(c)
    elif kind == "E":
        yield from experts(c, c["n_routed_experts"], c["moe_intermediate_size"], gate=False)
        yield "exp_probs_b.bias", (c["n_routed_experts"],)
        yield from dense(c, gate=False, inner=c["moe_shared_expert_intermediate_size"], suffix="_shexp")
    else:
        heads, groups, state = c["mamba_num_heads"], c["n_groups"], c["ssm_state_size"]
        inner = heads * c["mamba_head_dim"]
        mixed = inner + 2 * groups * state
        yield "ssm_in.weight", (inner + mixed + heads, size)
        yield "ssm_conv1d.weight", (mixed, c["conv_kernel"])
        yield "ssm_conv1d.bias", (mixed,)
        yield "ssm_dt.bias", (heads,)
        yield "ssm_a", (heads, 1)
        yield "ssm_d", (heads, 1)
        yield "ssm_norm.weight", (groups, inner // groups)
        yield "ssm_out.weight", (size, inner)


def gated_delta_net(c: Config, *, joint: bool) -> Tensors:
    """Linear attention; `joint`: beta and alpha in one matrix (Qwen3-Next)."""
    size, k_heads, v_heads = c["hidden_size"], c["linear_num_key_heads"], c["linear_num_value_heads"]
    keys, values = k_heads * c["linear_key_head_dim"], v_heads * c["linear_value_head_dim"]
    yield "attn_qkv.weight", (2 * keys + values, size)
    yield "attn_gate.weight", (values, size)
    yield "ssm_conv1d.weight", (2 * keys + values, c["linear_conv_kernel_dim"])
    yield "ssm_dt.bias", (v_heads,)
    yield "ssm_a", (v_heads,)
    if joint:
        yield "ssm_ba.weight", (2 * v_heads, size)
    else:
        yield "ssm_alpha.weight", (v_heads, size)
        yield "ssm_beta.weight", (v_heads, size)
    yield "ssm_norm.weight", (c["linear_value_head_dim"],)
    yield "ssm_out.weight", (size, values)


def qwen3_hybrid(c: Config, layer: int) -> Tensors:
    """Qwen3-Next, Qwen3.5, Qwen3.6: every fourth layer has full attention with a gate, the others linear attention."""
    yield from norms(c, "attn_norm", "post_attention_norm")
    if (layer + 1) % c["full_attention_interval"] == 0:
        yield from attention(c, q_rows=2)
        yield from qk_norms(c)
    else:
        yield from gated_delta_net(c, joint=c["model_type"] == "qwen3_next")
    if not c.get("num_experts"):
        yield from dense(c)
        return
    yield from experts(c, c["num_experts"], c["moe_intermediate_size"])
    yield "ffn_gate_inp_shexp.weight", (c["hidden_size"],)
    yield from dense(c, inner=c["shared_expert_intermediate_size"], suffix="_shexp")


ARCHITECTURES: Mapping[str, tuple[str, Callable[[Config, int], Tensors]]] = {
    "deepseek_v3": ("deepseek2", deepseek),
    "gemma3_text": ("gemma3", gemma3),
    "glm4v_moe_text": ("glm4moe", glm4_moe),
    "gpt_oss": ("gpt-oss", gpt_oss),
    "llama": ("llama", llama),
    "mistral": ("llama", llama),
    "mixtral": ("llama", mixtral),
    "nemotron_h": ("nemotron_h_moe", nemotron_h),
    "qwen3": ("qwen3", qwen3),
    "qwen3_5_moe_text": ("qwen35moe", qwen3_hybrid),
    "qwen3_5_text": ("qwen35", qwen3_hybrid),
    "qwen3_moe": ("qwen3moe", qwen3_moe),
    "qwen3_next": ("qwen3next", qwen3_hybrid),
    "step3p5": ("step35", step3p5),
}
"""`model_type` → the architecture's name in GGUF, and the tensors of a layer."""

EXPERT_COUNTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")


def hyper_parameters(c: Config, arch: str) -> dict[str, GGUFValue]:
    """What a recipe's facts are made of, and for how long a context the model was made."""
    layers, heads = range(c["num_hidden_layers"]), c["num_attention_heads"]
    kv_heads: int | list[int] = c.get("num_key_value_heads") or c.get("num_attention_groups") or heads
    if c["model_type"] == "deepseek_v3":
        kv_heads = 1  # absorbed: all heads share the latent vector
    if (pattern := c.get("hybrid_override_pattern")) is not None:
        kv_heads = [kv_heads if kind == "*" else 0 for kind in pattern]  # type: ignore[misc]  # an int here
    numbers: dict[str, int | list[int]] = {
        "block_count": len(layers),
        "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
    }
    if c["model_type"] == "step3p5":
        other, step = c["attention_other_setting"]["num_attention_heads"], c["_full_attention_interval"]
        numbers["attention.head_count"] = [other if layer % step else heads for layer in layers]
    if count := next((c[key] for key in EXPERT_COUNTS if c.get(key)), None):
        numbers["expert_count"] = count
    return {
        f"{arch}.{key}": GGUFValue.array(ValueType.UINT32, value)
        if isinstance(value, list)
        else GGUFValue.of(ValueType.UINT32, value)
        for key, value in numbers.items()
    }


def make_model(config: Config) -> Model:
    """The model that a config.json describes; ValueError where its architecture isn't among those here."""
    text = config.get("text_config", {})
    c = {**config, **text, "model_type": text.get("model_type", config["model_type"])}
    if c["model_type"] not in ARCHITECTURES:
        raise ValueError(f"unknown model_type {c['model_type']!r}; known: {', '.join(ARCHITECTURES)}")
    arch, layer_tensors = ARCHITECTURES[c["model_type"]]
    named = list(outside(c))
    for layer in range(c["num_hidden_layers"]):
        named += ((f"blk.{layer}.{name}", shape) for name, shape in layer_tensors(c, layer))
    return Model(
        path=Path("config.json"),
        container="huggingface",
        arch=arch,
        tensors=tuple(TensorInfo.from_name(name, shape, "BF16") for name, shape in named),
        metadata=hyper_parameters(c, arch),
        sources={},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="the model's config.json")
    config = json.loads(parser.parse_args().config.read_text(encoding="utf-8"))
    model = make_model(config)
    sys.stdout.write(shapes_text(model, {t.name: kept_type(t, model) for t in model.tensors}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
