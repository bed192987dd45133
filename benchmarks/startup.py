"""How long commands take that read no weights (--help, check, plan of a model), and a small apply.

    python benchmarks/startup.py [--runs 9] [--json]

The model is a GGUF of 78 layers (705 tensors) with a vocabulary of 150,000 tokens; the folder has the names and shapes
of Kimi K2, whose experts are 69,120 tensors in 62 files. Each figure is the median wall time of a whole process, start
of Python included. apply quantizes the example model, of 7 MB; its kernels are compiled already. Nobody watches: there
is no terminal, and so no bar.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.tokenizer.alphabet import shown

ROOT = Path(__file__).parents[1]
LAYERS, VOCABULARY = 78, 150_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        write_headers(model)
        commands = {
            "python -c pass": ["-c", "pass"],
            "import quantrecipe": ["-c", "import quantrecipe"],
            "quantrecipe --help": ["-m", "quantrecipe", "--help"],
            "quantrecipe check": ["-m", "quantrecipe", "check", "llama.cpp/Q4_K_M"],
            "quantrecipe plan": ["-m", "quantrecipe", "plan", "llama.cpp/Q4_K_M", str(model)],
            "quantrecipe plan, many experts": [
                *("-m", "quantrecipe", "plan", "llama.cpp/Q4_K_M", str(write_experts(Path(folder) / "kimi"))),
            ],
            "quantrecipe apply": [
                *("-m", "quantrecipe", "apply", str(ROOT / "recipes/chat.yaml")),
                *(str(ROOT / "examples/tiny-code/model.safetensors"), "--force", "-o", f"{folder}/out.gguf"),
            ],
        }
        seconds = {name: measure([sys.executable, *line], args.runs) for name, line in commands.items()}
    if args.json:
        print(json.dumps(seconds, indent=2))  # noqa: T201  # a script's output
        return
    table = Table("command", "wall time")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f} s")
    Console().print(table)


def measure(command: list[str], runs: int) -> float:
    """Median seconds of the whole process."""
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run() -> float:
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=keep)
        return time.perf_counter() - started

    run()  # files into the page cache, bytecode and kernels compiled
    return statistics.median(run() for _ in range(runs))


def write_headers(path: Path) -> None:
    """A GGUF whose data is a hole: plans never read it."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, 4096)}
    for i in range(LAYERS):
        for role, shape in {
            "attn_norm": (4096,),
            "attn_q": (4096, 4096),
            "attn_k": (1024, 4096),
            "attn_v": (1024, 4096),
            "attn_output": (4096, 4096),
            "ffn_norm": (4096,),
            "ffn_gate": (14336, 4096),
            "ffn_up": (14336, 4096),
            "ffn_down": (4096, 14336),
        }.items():
            shapes[f"blk.{i}.{role}.weight"] = shape
    shapes |= {"output_norm.weight": (4096,), "output.weight": (VOCABULARY, 4096)}
    entries, offset = [], 0
    for name, shape in shapes.items():
        kind, size = (0, 4) if len(shape) == 1 else (30, 2)
        entries.append(TensorEntry(name=name, shape=shape, ggml_type=kind, offset=offset))
        for dimension in shape:
            size *= dimension
        offset += size
    numbers = {"block_count": LAYERS, "attention.head_count": 32, "attention.head_count_kv": 8}
    metadata = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    metadata |= {f"llama.{key}": GGUFValue.of(ValueType.UINT32, value) for key, value in numbers.items()}
    words = [f"token{i}" for i in range(VOCABULARY)]
    metadata["tokenizer.ggml.tokens"] = GGUFValue.array(ValueType.STRING, words)
    metadata["tokenizer.ggml.merges"] = GGUFValue.array(ValueType.STRING, [f"{word} x" for word in words])
    header = encode_header(metadata, entries)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)


def write_experts(folder: Path) -> Path:
    """A Hugging Face folder of Kimi K2's shapes (DeepSeek V3's architecture), whose data are holes."""
    folder.mkdir()
    layers, experts, hidden, length, words = 61, 384, 7168, 2048, 163_840
    sizes = {
        "num_hidden_layers": layers, "n_routed_experts": experts, "hidden_size": hidden, "vocab_size": words,
        "moe_intermediate_size": length, "intermediate_size": 18432, "num_attention_heads": 64,
        "num_key_value_heads": 64, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 1, "n_shared_experts": 1,
        "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 0,
        "max_position_embeddings": 131072, "routed_scaling_factor": 2.827,
    }  # fmt: skip
    named = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "scoring_func": "sigmoid",
    }
    (folder / "config.json").write_text(json.dumps({**named, **sizes}))
    attention: dict[str, list[int]] = {
        "input_layernorm": [hidden], "post_attention_layernorm": [hidden], "self_attn.q_a_proj": [1536, hidden],
        "self_attn.q_a_layernorm": [1536], "self_attn.q_b_proj": [64 * 192, 1536],
        "self_attn.kv_a_proj_with_mqa": [576, hidden], "self_attn.kv_a_layernorm": [512],
        "self_attn.kv_b_proj": [64 * 256, 512], "self_attn.o_proj": [hidden, 64 * 128],
    }  # fmt: skip

    def network(size: int) -> dict[str, list[int]]:
        return {"gate_proj": [size, hidden], "up_proj": [size, hidden], "down_proj": [hidden, size]}

    ends = {"model.embed_tokens": [words, hidden], "model.norm": [hidden], "lm_head": [words, hidden]}
    for layer in range(layers):
        tensors = dict(attention)
        if layer == 0:
            tensors |= {f"mlp.{name}": shape for name, shape in network(18432).items()}
        else:
            tensors |= {f"mlp.shared_experts.{name}": shape for name, shape in network(length).items()}
            tensors |= {"mlp.gate": [experts, hidden], "mlp.gate.e_score_correction_bias": [experts]}
            for expert in range(experts):
                of_one = network(length).items()
                tensors |= {f"mlp.experts.{expert}.{name}": shape for name, shape in of_one}
        named_tensors = {f"model.layers.{layer}.{name}": shape for name, shape in tensors.items()}
        write_shard(folder / f"model-{layer + 1:05}-of-{layers + 1:05}.safetensors", named_tensors)
    write_shard(folder / f"model-{layers + 1:05}-of-{layers + 1:05}.safetensors", ends)
    letters = [shown(bytes([byte])) for byte in range(256)]
    tokenizer = {
        "model": {
            "type": "BPE",
            "vocab": {it: i for i, it in enumerate([*letters, "ab"])},
            "merges": ["a b"],
        },
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def write_shard(path: Path, tensors: dict[str, list[int]]) -> None:
    """A safetensors file of BF16 tensors whose data is a hole."""
    entries, offset = {}, 0
    for name, shape in tensors.items():
        stop = offset + 2 * math.prod(shape)
        whole = name if name.endswith("_bias") else f"{name}.weight"
        entries[whole] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, stop]}
        offset = stop
    raw = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + offset)


if __name__ == "__main__":
    main()
