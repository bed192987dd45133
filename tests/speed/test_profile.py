"""Profiles: rates by type and role, what a matrix does, and which models have the same shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.timed_machine import profile

from quantrecipe.model.open_model import open_model
from quantrecipe.speed.profile import Rates, role_of, shapes_digest
from quantrecipe.tensor import TensorInfo


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("output.weight", "head"),
        ("token_embd.weight", "attention"),
        ("blk.0.attn_q.weight", "attention"),
        ("blk.0.ssm_out.weight", "attention"),
        ("blk.0.ffn_down.weight", "feed-forward"),
        ("blk.0.ffn_down_shexp.weight", "feed-forward"),
        ("blk.0.ffn_down_exps.weight", "experts"),
        ("blk.0.ffn_up_chexps.weight", "experts"),
    ],
)
def test_what_a_matrix_does(name: str, role: str) -> None:
    assert role_of(TensorInfo.from_name(name, (8, 8), "F32"), "output.weight") == role


def test_an_embedding_that_makes_the_logits_is_the_head() -> None:
    tensor = TensorInfo.from_name("token_embd.weight", (8, 8), "F32")
    assert role_of(tensor, "token_embd.weight") == "head"


def test_a_role_that_was_not_measured_takes_what_the_type_takes_elsewhere() -> None:
    rates = Rates(constant=0.0, by={"Q4_K": {"attention": 1.0, "feed-forward": 3.0}})
    assert rates.of("Q4_K", "attention") == 1.0
    assert rates.of("Q4_K", "experts") == 2.0
    assert rates.of("Q5_K", "attention") is None


def test_models_of_one_shape_have_one_digest_however_many_layers_they_have() -> None:
    model, other = open_model("shapes/qwen3-0.6b"), open_model("shapes/qwen3-14b")
    shorter = replace(model, tensors=tuple(t for t in model.tensors if t.layer is None or t.layer < 3))
    assert shapes_digest(shorter) == shapes_digest(model) != shapes_digest(other)


def test_the_key_depends_on_how_it_was_measured_and_not_on_what_was_found() -> None:
    model = open_model("shapes/qwen3-0.6b")
    first = profile(model)
    assert replace(first, misfit=0.5, model="another name").key == first.key
    others = [
        replace(first, **{name: value})  # type: ignore[arg-type]  # one field at a time
        for name, value in {
            "processor": "x",
            "device": "x",
            "threads": 1,
            "engine": "x",
            "shapes": "x",
        }.items()
    ]
    assert len({first.key, *(it.key for it in others)}) == 6


def test_where_it_was_measured_in_words() -> None:
    first = profile(open_model("shapes/qwen3-0.6b"))
    assert first.where == "a processor, 4 threads"
    assert replace(first, threads=1).where == "a processor, 1 thread"
    assert replace(first, device="a GPU").where == "a GPU"
    assert (first.place, replace(first, device="a GPU").place) == ("cpu", "gpu")
