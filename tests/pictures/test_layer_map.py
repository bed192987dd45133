"""Maps: every tensor is in one field; stacks, experts and what no recipe is about are told apart."""

from __future__ import annotations

from quantrecipe.pictures.layer_map import REST, folded_role, layer_map
from quantrecipe.plan.review.sides import Fate
from quantrecipe.tensor import TensorInfo


def fate(name: str, shape: tuple[int, ...] = (256, 256), type_: str = "Q4_K") -> Fate:
    return Fate(tensor=TensorInfo.from_name(name, shape, "BF16"), type=type_, nbytes=100)


def layers(*names: str, count: int = 2) -> list[Fate]:
    return [fate(f"blk.{layer}.{name}") for layer in range(count) for name in names]


class TestMap:
    def test_roles_are_columns_in_their_order(self) -> None:
        found = layer_map([*layers("attn_q.weight", "ffn_up.weight"), fate("output.weight")])
        (stack,) = found.stacks
        assert (stack.name, stack.layers, stack.roles) == ("", (0, 1), ("attn_q", "ffn_up"))
        assert stack.fields[1, "ffn_up"] == ("blk.1.ffn_up.weight",)
        assert found.outside == {"output": ("output.weight",)}

    def test_every_tensor_is_in_one_place(self) -> None:
        fates = [
            *layers("attn_q.weight", "ffn_down.0.weight", "ffn_down.1.weight"),
            fate("blk.0.attn_norm.weight", (256,), "F32"),
            fate("v.blk.0.attn_q.weight"),
            fate("mm.0.weight"),
            fate("token_embd.weight"),
        ]
        found = layer_map(fates)
        names = [name for stack in found.stacks for field in stack.fields.values() for name in field]
        names += [name for field in found.outside.values() for name in field]
        assert sorted(names) == sorted(it.tensor.name for it in fates)

    def test_experts_that_are_tensors_of_their_own_share_a_field(self) -> None:
        (stack,) = layer_map(layers(*(f"ffn_down.{expert}.weight" for expert in range(384)))).stacks
        assert stack.roles == ("ffn_down.*",)
        assert len(stack.fields[0, "ffn_down.*"]) == 384

    def test_vectors_and_small_floats_share_the_last_column(self) -> None:
        fates = [
            fate("blk.0.attn_norm.weight", (256,), "F32"),
            fate("blk.0.ffn_gate_inp.weight", (8, 256), "F32"),
            fate("blk.0.attn_q.weight", (4096, 4096)),
            fate("blk.0.attn_k.weight", (4096, 4096), "F16"),
            fate("blk.0.ssm_small.weight", (8, 256)),
        ]
        (stack,) = layer_map(fates).stacks
        assert stack.roles == ("attn_q", "attn_k", "ssm_small", REST)
        assert stack.fields[0, REST] == ("blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight")

    def test_what_is_small_and_quantized_on_one_side_has_a_column(self) -> None:
        big = fate("blk.0.attn_q.weight", (4096, 4096))
        sides = [fate("blk.0.router.weight", (8, 256), type_) for type_ in ("F32", "Q8_0")]
        (stack,) = layer_map([big, *sides]).stacks
        assert stack.roles == ("attn_q", "router")
        assert stack.fields[0, "router"] == ("blk.0.router.weight",)

    def test_towers_are_stacks_of_their_own(self) -> None:
        names = ("enc.blk.0.attn_q.weight", "dec.blk.0.attn_q.weight", "v.blk.11.ffn_up.weight")
        stacks = layer_map([fate(name) for name in names] + layers("attn_q.weight")).stacks
        assert [it.name for it in stacks] == ["", "enc.blk", "dec.blk", "v.blk"]
        assert stacks[3].layers == (11,)
        assert folded_role(fate(names[2]).tensor) == "v.blk.*.ffn_up"
        assert folded_role(fate("blk.3.ffn_up.weight").tensor) == "ffn_up"

    def test_hybrid_models_have_empty_fields(self) -> None:
        (stack,) = layer_map([fate("blk.0.ssm_in.weight"), fate("blk.1.attn_q.weight")]).stacks
        assert (0, "attn_q") not in stack.fields
        assert stack.fields == {
            (0, "ssm_in"): ("blk.0.ssm_in.weight",),
            (1, "attn_q"): ("blk.1.attn_q.weight",),
        }
