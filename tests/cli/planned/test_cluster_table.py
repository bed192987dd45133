"""plan --cluster: what is typed, what is told, and what is assumed where nothing is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from quantrecipe.cli import main
from quantrecipe.cli.options.cluster import ClusterText
from quantrecipe.output.shares.forecast import Cluster

Output = pytest.CaptureFixture[str]
PLAN = ["--no-plugins", "plan", "llama.cpp/Q8_0", "shapes/qwen3-14b"]


def told(capsys: Output, said: str) -> str:
    assert main([*PLAN, "--cluster", said]) == 0
    return " ".join(capsys.readouterr().out.split())


def document(capsys: Output, said: str) -> dict:
    assert main([*PLAN, "--json", "--cluster", said]) == 0
    return json.loads(capsys.readouterr().out)["cluster"]


def test_hours_bytes_and_money(capsys: Output) -> None:
    text = told(capsys, "nodes=10,threads=16,rate=12M,read=2GB/s,write=1GB/s,price=1.2/h")
    assert "on 10 nodes of 16 threads: " in text
    assert "to write the file; bound by reading" in text
    assert re.search(r"\d+ units of work; reads [45]\d(\.\d+)? GB .* writes 31\.\d+ GB", text)
    assert "at 1.2 an hour" in text
    assert (
        "12.00 M weights/s a thread (given), read=2GB/s, write=1GB/s, network=1.25GB/s (typical), start=30s (typical)"
        in text
    )
    assert "lost" not in text


def test_as_json(capsys: Output) -> None:
    found = document(capsys, "nodes=4,threads=2,rate=1M,network=10GB/s,start=0,price=2,lost=3/h,back=never")
    assert found["assumed"] | {} == found["assumed"]
    assumed = found["assumed"]
    assert (assumed["nodes"], assumed["threads"], assumed["network"], assumed["start"]) == (4, 2, 1e10, 0)
    assert (assumed["lost"], assumed["back"], assumed["rate"], assumed["rate_measured"]) == (
        3,
        None,
        1e6,
        False,
    )
    assert found["seconds"] == pytest.approx(found["making"] + found["assembling"])
    assert found["cost"] == pytest.approx(2 * found["node_seconds"] / 3600, rel=0.2)
    assert found["making"] > 14.7e9 / 1e6 / 8
    assert found["bound_by"] == "computing"


def test_without_a_rate_this_machine_is_timed(capsys: Output) -> None:
    found = document(capsys, "nodes=2")
    assert found["assumed"]["rate_measured"] is True
    assert found["assumed"]["rate"] > 1e6
    assert found["assumed"]["threads"] == 8
    assert found["cost"] is None


def test_what_was_lost_is_told(capsys: Output) -> None:
    text = told(capsys, "nodes=4,threads=1,rate=1M,lost=5")
    assert "units made again, whose nodes were lost" in text
    assert "a node is lost 5 times an hour, and is back in 10 min 00 s" in text


@pytest.mark.parametrize(
    ("said", "field", "value"),
    [
        ("read=2GB/s", "read", 2e9),
        ("read=2GiB/s", "read", 2 * 2**30),
        ("write=500M/s", "write", 5e8),
        ("rate=12M", "rate", 12e6),
        ("rate=1.5G/s", "rate", 1.5e9),
        ("back=10min", "back", 600),
        ("back=never", "back", None),
        ("start=2h", "start", 7200),
        ("price=1.2/h", "price", 1.2),
        ("lost=0.05", "lost", 0.05),
    ],
)
def test_values(said: str, field: str, value: float | None) -> None:
    assert ClusterText().convert(f"nodes=3, {said}", None, None) == {"nodes": 3, field: value}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("threads=4", "doesn't say how many nodes there are"),
        ("nodes", "'nodes' is none of nodes, threads, read"),
        ("nodes=3,disk=4", "'disk=4' is none of"),
        ("nodes=3,nodes=4", "nodes is given twice"),
        ("nodes=0", "nodes=0 (expected: a whole number of at least 1"),
        ("nodes=1e3", "expected: a whole number"),
        ("nodes=3,read=2GB", "read=2GB (expected: bytes per second, such as 2GB/s)"),
        ("nodes=3,read=x/s", "expected: bytes per second"),
        ("nodes=3,rate=0", "expected: weights per second"),
        ("nodes=3,rate=fast", "expected: weights per second"),
        ("nodes=3,price=cheap", "expected: a number for an hour"),
        ("nodes=3,back=soon", "expected: a time, such as 30s"),
    ],
)
def test_what_can_t_be_meant(said: str, problem: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        ClusterText().convert(said, None, None)
    assert problem in str(caught.value)


def test_every_name_is_a_field() -> None:
    from quantrecipe.cli.options.cluster import _READERS

    assert set(_READERS) - {"rate"} <= set(Cluster.__slots__)
    text = (Path(__file__).parents[3] / "docs/cluster.md").read_text(encoding="utf-8")
    assert [name for name in _READERS if f"`{name}`" not in text] == []
