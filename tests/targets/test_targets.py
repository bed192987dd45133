"""The table of targets: what it says of well-known cases, and that every fact says where it is from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.registry import load_registry
from quantrecipe.targets import DEVICES, Targets, load_targets
from quantrecipe.targets.targets import build_number

TOML = Path(__file__).parents[2] / "quantrecipe/targets/targets.toml"


@pytest.fixture(scope="module")
def targets() -> Targets:
    return load_targets()


@pytest.mark.parametrize(
    ("engine", "build", "device", "type_", "speed"),
    [
        ("llama.cpp", None, "cpu", "Q4_K", "fast"),
        ("llama.cpp", "b7000", "cuda", "IQ3_S", "fast"),
        ("llama.cpp", "b7000", "metal", "IQ3_S", "slow"),
        ("llama.cpp", "b7000", "cpu", "IQ2_XXS", "slow"),
        ("llama.cpp", "b2000", "cuda", "IQ4_XS", "no"),  # it came with b2281
        ("llama.cpp", None, "cuda", "IQ1_M", "slow"),
        ("llama.cpp", None, "cuda", "TQ2_0", "slow"),  # left on the CPU
        ("llama.cpp", None, "metal", "TQ2_0", "fast"),
        ("llama.cpp", "b9000", "metal", "TQ2_0", "slow"),  # before its kernel
        ("llama.cpp", None, "metal", "NVFP4", "slow"),
        ("llama.cpp", None, "cpu", "IQ4_KS", "no"),
        ("llama.cpp", "b8681", "cpu", "Q1_0", "no"),
        ("llama.cpp", "b8682", "cpu", "Q1_0", "fast"),
        ("llama.cpp", "b5000", "cpu", "MXFP4", "unknown"),
        ("ik_llama.cpp", None, "cpu", "IQ4_KS", "fast"),
        ("ik_llama.cpp", None, "cpu", "IQ3_S", "fast"),
        ("ik_llama.cpp", "b3454", "cuda", "IQ4_KS", "no"),
        ("ik_llama.cpp", None, "cuda", "NVFP4", "no"),
        ("ik_llama.cpp", None, "metal", "Q4_K", "slow"),
        ("ollama", "0.34.2", "cuda", "IQ4_XS", "fast"),
        ("ollama", None, "metal", "IQ4_XS", "slow"),
        ("ollama", None, "cpu", "TQ1_0", "no"),
        ("ollama", None, "cpu", "MXFP4", "fast"),
        ("lm-studio", None, "vulkan", "Q6_K", "fast"),
        ("lm-studio", None, "cuda", "IQ2_KS", "no"),
        ("lm-studio", None, "cuda", "NVFP4", "unknown"),
    ],
)
def test_cases(targets: Targets, engine: str, build: str | None, device: str, type_: str, speed: str) -> None:
    support = targets.runs(engine, build, device, type_)
    assert support.speed == speed
    assert support.why or speed == "fast"


def test_without_a_device_the_best_one_counts(targets: Targets) -> None:
    assert targets.runs("llama.cpp", None, None, "IQ3_S").speed == "fast"
    assert targets.runs("llama.cpp", None, None, "IQ4_KS").speed == "no"


def test_what_came_later_is_told(targets: Targets) -> None:
    assert targets.runs("llama.cpp", "b2000", "cuda", "IQ4_XS").why == "llama.cpp has it since b2281"


def test_newer_builds_are_taken_for_the_newest(targets: Targets) -> None:
    assert targets.is_newer("llama.cpp", "b99999")
    assert not targets.is_newer("llama.cpp", "b7000")
    assert not targets.is_newer("lm-studio", "1.0")  # its builds don't count
    assert targets.runs("llama.cpp", "b99999", "cpu", "Q1_0").speed == "fast"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ["llama.cpp", "ik_llama.cpp", "ollama", "lm-studio"])
def test_every_built_in_type_has_an_answer_everywhere(targets: Targets, engine: str, device: str) -> None:
    silent = [
        name
        for name in load_registry(plugins=False).formats
        if "has nothing about" in targets.runs(engine, None, device, name).why
    ]
    assert silent == []


def test_of_a_type_that_nobody_looked_up_nothing_is_said(targets: Targets) -> None:
    support = targets.runs("llama.cpp", None, "cpu", "P8_0")
    assert (support.speed, support.why) == ("unknown", "the table has nothing about P8_0 on llama.cpp")


def test_every_fact_is_sourced_and_reasons_are_given(targets: Targets) -> None:
    for engine in targets.engines.values():
        assert engine.note
        for fact in engine.facts:
            assert fact.source
            assert fact.why or fact.speed == "fast", fact
            assert set(fact.devices) <= set(DEVICES)
            for build in filter(None, (fact.since, fact.seen)):
                assert build_number(build) <= build_number(engine.newest)


def test_groups_are_all_used_and_keys_all_known() -> None:
    content = tomllib.loads(TOML.read_text(encoding="utf-8"))
    facts = [fact for engine in content["engines"].values() for fact in engine["facts"]]
    used = {name for fact in facts for name in fact["types"] if name.startswith("@")}
    assert used == {f"@{name}" for name in content["groups"]}
    assert {key for fact in facts for key in fact} <= {
        *("types", "devices", "speed", "since", "seen", "why", "source")
    }


@pytest.mark.parametrize("text", ["", "latest", "b", "1.2.3.4.5", "b٣"])
def test_what_is_no_build(text: str) -> None:
    with pytest.raises(RecipeError, match="is no build"):
        build_number(text)


def test_builds_are_in_order() -> None:
    assert build_number("b7000") == build_number(" 7000") < build_number("b11312")
    assert build_number("0.9.10") < build_number("v0.34.2")


def test_unknown_names(targets: Targets) -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'llama\.cpp'"):
        targets.runs("llamacpp", None, None, "Q4_K")
    with pytest.raises(RecipeError, match="there is no device 'gpu'"):
        targets.runs("llama.cpp", None, "gpu", "Q4_K")


def test_the_page_s_table_is_true(targets: Targets) -> None:
    page = (TOML.parents[2] / "docs/targets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (.+?) \| (\w+) \| (\w+) \| (\w+) \| (\w+) \|$", page, re.MULTILINE)
    told: set[tuple[str, str]] = set()
    for engine, types, *speeds in rows[1:]:
        for type_ in types.replace("ik_llama.cpp's own", "IQ4_KS").split(", "):
            assert [targets.runs(engine, None, device, type_).speed for device in DEVICES] == speeds
            told.add((engine, type_))
    formats = [name for name, fmt in load_registry(plugins=False).formats.items() if fmt.spec.codec]
    assert told == {(engine, name) for engine in targets.engines for name in [*formats, "IQ4_KS"]}
    assert all(engine.newest in page for engine in targets.engines.values())
