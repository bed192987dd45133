"""The benchmark of clusters: its model has the size of the real one, and its forecast of two parts is half of one."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.shared_work import plan_of_kind

from quantrecipe.output.shares import units
from quantrecipe.registry import load_registry

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def cluster() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("cluster", BENCHMARKS / "cluster.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_kimi_k2_has_a_trillion_weights(cluster: ModuleType) -> None:
    model = cluster.kimi_k2()
    assert sum(it.size for it in model.tensors) == pytest.approx(1.0264e12, rel=1e-3)
    assert len({it.name for it in model.tensors}) == len(model.tensors)


def test_a_line_for_each_case_and_size(cluster: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CASES", cluster.CASES[:1])
    args = argparse.Namespace(recipe="llama.cpp/Q8_0", rate="12M", threads=16, runs=1)
    assert cluster.clusters(args).row_count == 2


def test_two_parts_take_half_of_one_s_work(
    cluster: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "LEAST", 30_000)
    plan = plan_of_kind("dense", tmp_path, load_registry(plugins=False))
    guess = cluster.foreseen(plan, plan.size, one=100.0, seconds=90.0)
    assert guess == pytest.approx(10 + 45, rel=0.05)
