"""What generating one token reads."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo

SHAPES = {
    "token_embd.weight": (1000, 256),
    "output.weight": (1000, 256),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.ffn_gate_inp.weight": (8, 256),
    "blk.0.ffn_up_exps.weight": (8, 512, 256),
    "blk.1.ffn_up_exps.weight": (8, 512, 256),
}


def model(*left_out: str, **keys: int) -> Model:
    return Model(
        path=Path("model"),
        container="shapes",
        arch="llama",
        tensors=tuple(
            TensorInfo.from_name(name, shape, "F16") for name, shape in SHAPES.items() if name not in left_out
        ),
        metadata={f"llama.{key}": GGUFValue.of(ValueType.UINT32, value) for key, value in keys.items()},
        sources={},
    )


def read(model: Model) -> dict[str, int]:
    """Of tensors with 8000 bytes each."""
    active = ActiveBytes(model)
    return {tensor.name: active(tensor, 8000) for tensor in model.tensors}


def test_experts_count_as_far_as_a_token_is_sent_to_them() -> None:
    found = read(model(expert_used_count=2))
    assert found["blk.0.ffn_up_exps.weight"] == 2000
    assert found["blk.0.ffn_gate_inp.weight"] == found["blk.0.attn_q.weight"] == 8000


def test_of_the_embedding_one_row_is_read() -> None:
    assert read(model())["token_embd.weight"] == 8
    assert read(model())["output.weight"] == 8000


def test_a_tied_embedding_is_read_as_the_head() -> None:
    assert read(model("output.weight"))["token_embd.weight"] == 8000


def test_layers_for_the_tokens_after_next_run_beside_the_model() -> None:
    found = read(model(block_count=2, nextn_predict_layers=1, expert_used_count=8))
    assert found["blk.0.ffn_up_exps.weight"] == 8000
    assert found["blk.1.ffn_up_exps.weight"] == 0


def test_a_model_that_doesn_t_say_how_many_experts_a_token_is_sent_to() -> None:
    assert not ActiveBytes(model()).known
    assert ActiveBytes(model(expert_used_count=2)).known
    assert ActiveBytes(model("blk.0.ffn_up_exps.weight", "blk.1.ffn_up_exps.weight")).known
