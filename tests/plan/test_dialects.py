"""Types that mainline llama.cpp doesn't have: said in the plan; ids that would mean two types: refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
from support.formats import format_type
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.api import FormatSpec
from quantrecipe.errors import PlanError
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.dialects import check_dialects, dialect_warnings
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Origin, Recipe, Target
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

Q4_0 = format_type("Q4_0")


class Ours(Q4_0):
    """Q4_0's bytes, as a type of ik_llama.cpp."""

    spec: ClassVar[FormatSpec] = replace(Q4_0.spec, name="OURS", ggml_type=144, dialect="ik")


class Theirs(Q4_0):
    """The same, as a type of an engine of its own, with the id of another's."""

    spec: ClassVar[FormatSpec] = replace(Q4_0.spec, name="THEIRS", ggml_type=144, dialect="fork")


@pytest.fixture(scope="module")
def registry() -> Registry:
    plain = load_registry(plugins=False)
    formats = {**plain.formats, "OURS": Ours(), "THEIRS": Theirs()}
    return replace(plain, formats=MappingProxyType(formats))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors())


def plan(recipe: Recipe, source: Path, registry: Registry) -> Plan:
    return make_plan(recipe, open_model(source, registry=registry), registry=registry)


def test_a_file_that_mainline_cannot_read_is_said_to_be_one(source: Path, registry: Registry) -> None:
    made = plan(recipe(rule("attn_v", "OURS"), default="Q8_0"), source, registry)
    (warning,) = (text for text in made.warnings if "mainline" in text)
    count = sum(a.type == "OURS" for a in made.assignments)
    assert warning == (
        f"{count} tensors in types of ik_llama.cpp (OURS): "
        "mainline llama.cpp, and what is built on it, can't read the file"
    )


def test_nothing_is_said_of_ggml_types_nor_where_the_target_has_them(
    source: Path, registry: Registry
) -> None:
    assert not plan(recipe(default="Q8_0"), source, registry).warnings
    target = Target(engine="ik_llama.cpp", build=None, device=None, origin=Origin(file="r.yaml", line=1))
    assert not plan(recipe(default="OURS", target=target), source, registry).warnings


def test_an_id_that_would_mean_two_types_is_refused(source: Path, registry: Registry) -> None:
    with pytest.raises(PlanError) as caught:
        plan(recipe(rule("attn_v", "THEIRS", line=7), default="OURS"), source, registry)
    said = str(caught.value)
    assert "have the same id in files, 144: no program would tell them apart" in said
    assert "OURS (a type of ik_llama.cpp; " in said
    assert "THEIRS (a type of fork; recipe.yaml:7)" in said


def test_either_alone_is_fine(source: Path, registry: Registry) -> None:
    for name in ("OURS", "THEIRS"):
        assert any("mainline" in text for text in plan(recipe(default=name), source, registry).warnings)


def assigned(names: list[str], registry: Registry) -> list[Assignment]:
    """A tensor of each of these types."""
    return [
        Assignment(
            tensor=TensorInfo.from_name(f"blk.{i}.attn_v.weight", (4, 256), "BF16"),
            format=registry.formats[name],
            nbytes=0,
            offset=0,
            because=f"r.yaml:{i}",
        )
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "engine", "said"),
    [
        (
            ["OURS", "Q4_0", "OURS"],
            None,
            ["2 tensors in types of ik_llama.cpp (OURS): mainline llama.cpp, and what"],
        ),
        (["Q4_0", "THEIRS"], None, ["1 tensor in types of fork (THEIRS): mainline"]),
        (["THEIRS", "Q4_0"], None, ["1 tensor in types of fork (THEIRS): mainline"]),
        (["OURS"], "ik_llama.cpp", []),
        (["OURS"], "llama.cpp", ["1 tensor in types of ik_llama.cpp (OURS)"]),
        (["THEIRS"], "fork", []),
        (["Q4_0", "Q8_0"], None, []),
        (
            ["OURS", "THEIRS"],
            None,
            [
                "1 tensor in types of fork (THEIRS)",
                "1 tensor in types of ik_llama.cpp (OURS)",
                "types of fork and ik_llama.cpp in one file: neither may know the other's",
            ],
        ),
        (["OURS", "THEIRS"], "fork", ["1 tensor in types of ik_llama.cpp (OURS)"]),
    ],
)
def test_what_is_said(names: list[str], engine: str | None, said: list[str], registry: Registry) -> None:
    found = dialect_warnings(assigned(names, registry), engine)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


@pytest.mark.parametrize(
    "names", [["OURS", "THEIRS"], ["THEIRS", "Q4_0", "OURS"], ["Q4_0", "OURS", "OURS", "THEIRS"]]
)
def test_two_types_of_one_id_anywhere(names: list[str], registry: Registry) -> None:
    with pytest.raises(PlanError) as error:
        check_dialects(assigned(names, registry))
    (problem,) = error.value.problems
    places = {name: names.index(name) for name in ("OURS", "THEIRS")}
    both = {
        "OURS": f"OURS (a type of ik_llama.cpp; r.yaml:{places['OURS']})",
        "THEIRS": f"THEIRS (a type of fork; r.yaml:{places['THEIRS']})",
    }
    order = sorted(both, key=places.__getitem__)
    assert problem.what == (
        f"{both[order[0]]} and {both[order[1]]} have the same id in files, 144: no program would tell them apart"
    )
    assert problem.remedy == "use one of them"
    check_dialects(assigned(["OURS", "Q4_0", "OURS"], registry))
