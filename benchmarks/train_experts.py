"""Train a small mixture of experts on a CPU: a Hugging Face folder of Qwen3-MoE's shape, to measure encoders on.

    python benchmarks/train_experts.py OUT --start tiny-code --text texts/code.calib.txt texts/prose.calib.txt \\
        /usr/lib/python3.11 --held-out texts/code.val.txt texts/prose.val.txt

The vocabulary, the embeddings, the norms and the attention begin as those of a dense llama of the same width (--start),
and each expert begins as a slice of its feed-forward, as in sparse upcycling (Komatsuzaki et al., 2022). All of it is
trained on. So short a training would not get far from nothing.

A text is a file, or a folder of Python sources. What the held-out texts have a passage of is left out. Needs PyTorch,
tokenizers and safetensors, which nothing else here needs.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

CONTEXT = 512
CHUNKS = 40
"""Of each held-out text, that are read at the end."""
PASSAGE = 120
"""Characters that a source has to share with a held-out text to be left out."""
BALANCE = 0.01
"""How much of the loss makes the router use all experts alike (Fedus et al., 2021)."""
COPIED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What config.json says. experts: of each layer, of which `used` run for a token."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    experts: int
    used: int
    expert: int
    eps: float
    theta: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True, help="a folder of a dense llama")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, nargs="*", default=[])
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--used", type=int, default=2)
    parser.add_argument("--expert-length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4, help=f"contexts of {CONTEXT} tokens")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    config = json.loads((args.start / "config.json").read_text(encoding="utf-8"))
    shape = shape_of(config, args)
    model = Model(shape)
    begin_as(model, load_file(args.start / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(args.start / "tokenizer.json"))
    held = [path.read_text(encoding="utf-8") for path in args.held_out]
    tokens = tokens_of(list(sources(args.text, held)), tokenizer)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} weights, {len(tokens):,} tokens of text", flush=True)  # noqa: T201
    train(model, tokens, steps=args.steps, batch=args.batch, rate=args.rate)
    save(model, shape, config, args.start, args.out)
    for path, text in zip(args.held_out, held, strict=True):
        ids = torch.tensor(tokenizer.encode(text).ids)
        print(f"{path.name}: perplexity {perplexity(model, ids):.2f}", flush=True)  # noqa: T201  # a script's output


def shape_of(config: dict[str, Any], args: argparse.Namespace) -> Shape:
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head=config["head_dim"],
        vocabulary=config["vocab_size"],
        experts=args.experts,
        used=args.used,
        expert=args.expert_length,
        eps=config["rms_norm_eps"],
        theta=config["rope_parameters"]["rope_theta"],
    )


class Attention(nn.Module):
    """With norms of q and k, and rotation of halves of a head, as Qwen3 has it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.hidden, bias=False)
        self.q_norm = nn.RMSNorm(shape.head, eps=shape.eps)
        self.k_norm = nn.RMSNorm(shape.head, eps=shape.eps)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            proj(x).view(b, t, -1, self.shape.head) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (
            turned(norm(it.float()).transpose(1, 2), turn)
            for norm, it in ((self.q_norm, q), (self.k_norm, k))
        )
        v = v.transpose(1, 2)
        y = functional.scaled_dot_product_attention(
            q.to(v.dtype), k.to(v.dtype), v, is_causal=True, enable_gqa=True
        )
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat((-second, first), dim=-1) * turn[1]


def turns(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (length, head)."""
    rates = shape.theta ** -(torch.arange(0, shape.head, 2) / shape.head)
    angles = torch.outer(torch.arange(length), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


class Experts(nn.Module):
    """The router's best experts for each token, weighted by its softmax over these."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.used = shape.used
        self.gate = nn.Linear(shape.hidden, shape.experts, bias=False)
        self.gate_proj, self.up_proj, self.down_proj = (
            nn.Parameter(torch.empty(shape.experts, *size))
            for size in (
                (shape.expert, shape.hidden),
                (shape.expert, shape.hidden),
                (shape.hidden, shape.expert),
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the experts answer, and how unevenly they are used: 1 where all are used alike."""
        flat = x.reshape(-1, x.shape[-1])
        p = self.gate(flat).float().softmax(-1)
        best, which = p.topk(self.used, dim=-1)
        weight = best / best.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        experts = p.shape[1]
        for e in range(experts):
            token, place = torch.where(which == e)
            y = flat[token]
            y = functional.silu(functional.linear(y, self.gate_proj[e])) * functional.linear(
                y, self.up_proj[e]
            )
            y = functional.linear(y, self.down_proj[e]) * weight[token, place, None]
            out = out.index_add(0, token, y.to(out.dtype))
        share = torch.bincount(which.reshape(-1), minlength=experts) / which.numel()
        return out.view_as(x), experts * (share * p.mean(0)).sum()


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.mlp = Experts(shape)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x = x + self.self_attn(self.input_layernorm(x), turn)
        y, uneven = self.mlp(self.post_attention_layernorm(x))
        return x + y, uneven


class Model(nn.Module):
    """Names of parameters are those of the checkpoint, but for "model." before each, and the experts."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.turn = turns(shape, CONTEXT)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the mean of how unevenly experts are used."""
        x, uneven = self.embed_tokens(ids), torch.zeros(())
        for layer in self.layers:
            x, one = layer(x, self.turn)
            uneven = uneven + one / len(self.layers)
        return functional.linear(self.norm(x), self.embed_tokens.weight), uneven


def begin_as(model: Model, dense: dict[str, Tensor]) -> None:
    """All that a dense llama has goes in; of each expert, a run of its feed-forward, with noise to tell them apart."""
    dense = {name.removeprefix("model."): it.float() for name, it in dense.items()}
    own = model.state_dict()
    for name in own.keys() & dense.keys():
        own[name] = dense[name]
    for number, layer in enumerate(model.layers):
        experts, length = layer.mlp.gate_proj.shape[:2]
        stem = f"layers.{number}.mlp."
        for matrix, by_row in (("gate_proj", True), ("up_proj", True), ("down_proj", False)):
            whole = dense[f"{stem}{matrix}.weight"]
            whole = whole if by_row else whole.T
            noise = 0.3 * whole.std()
            for e in range(experts):
                rows = (torch.arange(length) + e * length) % len(whole)
                part = whole[rows] + noise * torch.randn(length, whole.shape[1])
                own[f"{stem}{matrix}"][e] = part if by_row else part.T
    model.load_state_dict(own)


def sources(paths: list[Path], held: list[str]) -> Iterator[str]:
    """Texts, without those that share a passage with a held-out one."""
    seen = {text[at : at + PASSAGE] for text in held for at in range(len(text) - PASSAGE)}
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if not any(text[at : at + PASSAGE] in seen for at in range(0, len(text) - PASSAGE, PASSAGE)):
                yield text


def tokens_of(texts: list[str], tokenizer: Tokenizer) -> Tensor:
    """All texts one after the other, the end of text between them."""
    end = tokenizer.token_to_id("<|endoftext|>")
    ids = [[*it.ids, end] for it in tokenizer.encode_batch(texts)]
    return torch.from_numpy(np.concatenate([np.array(it, np.int64) for it in ids]))


def train(model: Model, tokens: Tensor, *, steps: int, batch: int, rate: float) -> None:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)
    warm = max(1, steps // 20)
    started = time.perf_counter()
    for step in range(steps):
        part = step / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
        for group in optimiser.param_groups:
            group["lr"] = rate * max(part, 0.02)
        at = torch.randint(len(tokens) - CONTEXT - 1, (batch,))
        ids = torch.stack([tokens[a : a + CONTEXT + 1] for a in at])
        with torch.autocast("cpu", torch.bfloat16):
            logits, uneven = model(ids[:, :-1])
        loss = functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        (loss + BALANCE * uneven).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            seconds = time.perf_counter() - started
            print(f"{step:5} loss {loss:.3f} uneven {uneven:.3f} {seconds:.0f} s", flush=True)  # noqa: T201


@torch.no_grad()
def perplexity(model: Model, ids: Tensor) -> float:
    """Over the second halves of the first contexts, as llama-perplexity has it."""
    losses = []
    for one in ids[: len(ids) // CONTEXT * CONTEXT].view(-1, 1, CONTEXT)[:CHUNKS]:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(one)[0][0, CONTEXT // 2 : -1]
        losses.append(functional.cross_entropy(logits.float(), one[0, CONTEXT // 2 + 1 :]))
    return float(torch.stack(losses).mean().exp())


def save(model: Model, shape: Shape, config: dict[str, Any], start: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, values in model.state_dict().items():
        stem, _, matrix = name.rpartition(".")
        if values.ndim == 3:
            for e, one in enumerate(values):
                tensors[f"model.{stem}.experts.{e}.{matrix}.weight"] = one
        else:
            tensors[f"model.{name}"] = values
    tensors = {name: it.to(torch.bfloat16).contiguous() for name, it in tensors.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    own = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "dtype": "bfloat16",
        "head_dim": shape.head,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.expert * shape.used,
        "max_position_embeddings": config["max_position_embeddings"],
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": shape.expert,
        "norm_topk_prob": True,
        "num_attention_heads": shape.heads,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.used,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "vocab_size": shape.vocabulary,
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
    }
    (out / "config.json").write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
    for name in COPIED:
        if (start / name).exists():
            shutil.copyfile(start / name, out / name)


if __name__ == "__main__":
    main()
