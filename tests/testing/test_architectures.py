"""The conformance kit's checks of architectures: built-in ones keep them, broken ones are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import write_recorded

from quantrecipe.model.architectures import Architecture, Gather, Layout, change
from quantrecipe.model.architectures.families import ALL
from quantrecipe.model.architectures.families.llama import LLAMA
from quantrecipe.model.source.layout import Rows
from quantrecipe.testing import CheckFailure, check_folder, checks_of, parametrize_with_checks


@parametrize_with_checks(ALL)
def test_built_in_architectures(check: Any) -> None:
    check()


@pytest.mark.parametrize("name", ["llama3", "mixtral", "qwen3moe"])
def test_folders(name: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path)
    classes = {
        "llama3": "LlamaForCausalLM",
        "mixtral": "MixtralForCausalLM",
        "qwen3moe": "Qwen3MoeForCausalLM",
    }
    check_folder(next(it for it in ALL if classes[name] in it.classes), folder)


def failures(architecture: Architecture) -> str:
    found = []
    for check in checks_of(architecture):
        try:
            check()
        except CheckFailure as error:
            found.append(str(error))
    return " ".join(found)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"name": "a b"}, "'a b' is no name"),
        ({"name": "marvin"}, "gguf has no architecture 'marvin': name one in `names_of`"),
        ({"classes": ()}, "has no classes"),
        ({"part": "tail"}, "has the part 'tail'"),
        ({"layout": Layout()}, "its layout has no tensors"),
        ({"layout": Layout(required={"x" * 70: ()})}, "ggml loads at most 63"),
        ({"layout": Layout(required={"a.{expert}": ()})}, "'a.{expert}' in the layout"),
        ({"layout": Layout(required={"a": ()}, optional={"a": ()})}, "'a' stands in the layout twice"),
        ({"rules": (change("{layer}.{layer}", lambda it: it.source),)}, "is no template of names"),
        (
            {"rules": (Gather(names=("x.{layer}", "y"), make=lambda config, layer, found: ()),)},
            "belong together, and only some have {layer}",
        ),
    ],
)
def test_broken_ones(broken: dict[str, Any], told: str) -> None:
    assert told in failures(replace(LLAMA, **broken))


class Odd(Rows):
    """Rows that are counted from the start of each run."""

    def read(self, start: int, stop: int, reading: Any) -> Any:
        return Rows.read(self, 0, stop - start, reading)


def test_rows_that_depend_on_the_run(tmp_path: Path) -> None:
    rule = change(
        "model.layers.{layer}.self_attn.q_proj.weight",
        lambda it: Odd(source=it.source, start=0, stop=it.source.rows, step=1),
    )
    with pytest.raises(CheckFailure, match=r"attn_q.weight has other rows where it is read in 5 runs"):
        check_folder(replace(LLAMA, rules=(rule,)), write_recorded("llama3", tmp_path))
