"""Clock: the time of a token is the sum of what its matrices take, where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.timed_machine import CONSTANT, PROMPT, TOKEN, profile, seconds_of

from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.speed.clock import Clock, Needs
from quantrecipe.tensor import TensorInfo

Mix = list[tuple[TensorInfo, int, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("clock") / "m.gguf"
    metadata = llama_metadata(expert_count=4, expert_used_count=2, embedding_length=256)
    return open_model(write_gguf(path, llama_tensors(experts=4), metadata))


def mix(model: Model, type_: str, **others: str) -> Mix:
    """All matrices in a type, half a byte for each weight; roles named in `others` in another."""
    return [(t, t.size // 2, others.get(t.role, type_) if len(t.shape) > 1 else "F32") for t in model.tensors]


def test_a_token_takes_what_its_matrices_take_together(model: Model) -> None:
    clock = Clock(model, {"cpu": profile(model)})
    some = mix(model, "Q4_K", output="Q6_K", attn_v="Q6_K")
    pace = clock.pace(some)
    by_name = {tensor.name: (nbytes, type_) for tensor, nbytes, type_ in some}
    assert pace.token == pytest.approx(1 / seconds_of(model, by_name))
    assert pace.missing == ()


def test_of_experts_only_those_in_use_take_time(model: Model) -> None:
    clock = Clock(model, {"cpu": profile(model)})
    up = next(t for t in model.tensors if t.role == "ffn_up_exps")
    assert clock.seconds(up, 1000, "Q4_K", "cpu") == pytest.approx(500 * TOKEN["Q4_K"])
    assert clock.seconds(up, 1000, "Q2_K", "cpu") is None
    norm = next(t for t in model.tensors if len(t.shape) == 1)
    assert clock.seconds(norm, 1000, "F32", "cpu") == 0


def test_a_prompt_leaves_out_the_head_and_the_last_layer_s_feed_forward(model: Model) -> None:
    needs = Needs(model)
    last = {t.name for t in model.tensors if len(t.shape) > 1 and needs.only_last(t)}
    assert last == {
        "output.weight",
        *(
            f"blk.1.{name}.weight"
            for name in ("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
        ),
    }
    pace = Clock(model, {"cpu": profile(model)}).pace(mix(model, "Q4_K"))
    weights = sum(needs.prompt(t) for t in model.tensors if len(t.shape) > 1)
    assert pace.prompt == pytest.approx(1 / (CONSTANT + weights * PROMPT["Q4_K"]))


def test_each_matrix_takes_the_time_of_its_device(model: Model) -> None:
    fast = profile(model, device="a GPU")
    clock = Clock(model, {"cpu": profile(model), "gpu": fast})
    some = mix(model, "Q4_K")
    everything = clock.pace(some)
    assert clock.pace(some, lambda tensor: "gpu") == everything
    slow = profile(model, token=type(fast.token)(constant=CONSTANT, by={"Q4_K": {"attention": 1e-9}}))
    mixed = Clock(model, {"cpu": slow, "gpu": fast})
    only_experts = mixed.pace(some, lambda tensor: "cpu" if "exps" in tensor.role else "gpu").token
    all_slow = mixed.pace(some, lambda tensor: "cpu").token
    assert all_slow is not None and only_experts is not None and everything.token is not None
    assert all_slow < only_experts < everything.token


def test_a_type_that_was_not_measured_leaves_it_open(model: Model) -> None:
    clock = Clock(model, {"cpu": profile(model)})
    pace = clock.pace(mix(model, "Q4_K", ffn_up_exps="Q2_K", attn_k="IQ2_S"))
    assert (pace.token, pace.prompt) == (None, None)
    assert pace.missing == ("IQ2_S", "Q2_K")


@pytest.mark.parametrize("type_", ["F32", "BF16"])
def test_routers_that_nobody_quantizes_are_in_the_time_of_the_others(model: Model, type_: str) -> None:
    """However large they are: the files that were timed have them, too."""
    clock = Clock(model, {"cpu": profile(model)})
    some = [
        (t, 4 * t.size, type_) if t.role == "ffn_gate_inp" else (t, nbytes, other)
        for t, nbytes, other in mix(model, "Q4_K")
    ]
    without = [(t, nbytes, other) for t, nbytes, other in some if t.role != "ffn_gate_inp"]
    assert clock.pace(some) == clock.pace(without)
    router = next(t for t in model.tensors if t.role == "ffn_gate_inp")
    assert clock.seconds(router, 4 * router.size, type_, "cpu") == 0


def test_others_in_f32_leave_it_open_unless_they_are_a_hundredth(model: Model) -> None:
    clock = Clock(model, {"cpu": profile(model)})

    def with_first_v(nbytes: int) -> Mix:
        return [
            (t, nbytes, "F32") if t.name == "blk.0.attn_v.weight" else (t, before, type_)
            for t, before, type_ in mix(model, "Q4_K")
        ]

    assert clock.pace(with_first_v(16)).token is not None
    assert clock.pace(with_first_v(1 << 20)).missing == ("F32",)


def test_without_profiles_and_without_the_number_of_experts_nothing_is_said(
    model: Model, tmp_path: Path
) -> None:
    assert Clock(model, {}).pace(mix(model, "Q4_K")).token is None
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(experts=4), llama_metadata(expert_count=4))
    silent = open_model(path)
    assert Clock(silent, {"cpu": profile(silent)}).pace(mix(silent, "Q4_K")).token is None


def test_json(model: Model) -> None:
    pace = Clock(model, {"cpu": profile(model)}).pace(mix(model, "Q4_K"))
    document = pace.to_json()
    assert list(document) == ["tokens_per_second", "prompt_tokens_per_second", "not_measured"]
    assert pace.token is not None and document["tokens_per_second"] == pytest.approx(pace.token, rel=1e-3)
