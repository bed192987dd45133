"""Measurements are kept as files, found again for the machine and the nearest model, and removed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.timed_machine import profile

from quantrecipe.errors import EvaluationError
from quantrecipe.model.open_model import open_model
from quantrecipe.speed.kept import find_profiles, forget, kept_profiles, remember
from quantrecipe.speed.profile import Profile

SMALL, LARGE = open_model("shapes/qwen3-0.6b"), open_model("shapes/qwen3-14b")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("quantrecipe.speed.folder.speed_folder", lambda: tmp_path / "speed")
    return tmp_path / "speed"


def made(days: int, **more: object) -> Profile:
    first = profile(SMALL)
    return replace(first, made=first.made + timedelta(days=days), **more)  # type: ignore[arg-type]  # any field


def test_what_is_kept_comes_back_as_it_was(folder: Path) -> None:
    path = remember(made(0))
    assert path == folder / f"{made(0).key}.json"
    (found,) = kept_profiles()
    assert found == made(0)


def test_a_second_measurement_of_the_same_replaces_the_first() -> None:
    remember(made(0, misfit=0.1))
    remember(made(1, misfit=0.2))
    remember(made(2, threads=8))
    assert [it.misfit for it in kept_profiles()] == [0.01, 0.2]  # the newest first


def test_the_model_s_own_shapes_go_before_those_of_the_nearest_width() -> None:
    own = made(0, width=1024)
    remember(own)
    remember(made(5, shapes="near", width=5000))
    remember(made(9, shapes="far", width=20000))
    assert find_profiles(SMALL, "a processor")["cpu"] == own
    assert find_profiles(LARGE, "a processor")["cpu"].shapes == "near"


def test_of_measurements_that_are_as_near_the_newest_counts_unless_threads_are_named() -> None:
    for days, threads in enumerate((2, 4, 8)):
        remember(made(days, threads=threads))
    assert find_profiles(SMALL, "a processor")["cpu"].threads == 8
    assert find_profiles(SMALL, "a processor", threads=2)["cpu"].threads == 2
    assert find_profiles(SMALL, "a processor", threads=3) == {}


def test_another_machine_has_none() -> None:
    remember(made(0))
    remember(made(0, device="a GPU"))
    assert set(find_profiles(SMALL, "a processor")) == {"cpu", "gpu"}
    assert find_profiles(SMALL, "another processor") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"quantrecipe_speed": 2},
        {"threads": 0},
        {"token": {"constant": 0.0, "by": {"Q4_K": {"attention": -1.0}}}},
        {"token": {"constant": 0.0, "by": {"Q4_K": {"no role": 1.0}}}},
        {"made": "2026-11-30T12:00:00"},
        {"engine": "another than its name says"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_file_that_is_not_understood_counts_as_none(change: dict[str, object]) -> None:
    path = remember(made(0))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert kept_profiles() == []
    path.write_text("{")
    assert kept_profiles() == []


def test_removing() -> None:
    first, second = made(0), made(1, threads=8)
    for it in (first, second):
        remember(it)
    assert forget(first.key[:6]) == [first]
    assert kept_profiles() == [second]
    assert forget("all") == [second]
    for key in ("all", "", "zz"):
        with pytest.raises(EvaluationError, match="nothing was measured under the key"):
            forget(key)


def test_an_empty_key_removes_nothing() -> None:
    remember(made(0))
    with pytest.raises(EvaluationError, match="under the key ''"):
        forget("")
    assert len(kept_profiles()) == 1


def test_a_folder_that_can_not_be_written(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(EvaluationError, match=r"can't be written .*QUANTRECIPE_CACHE_DIR"):
        remember(made(0))
