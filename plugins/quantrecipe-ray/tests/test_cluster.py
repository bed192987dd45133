"""Whatever becomes of nodes, the file is the one of a single machine; and nodes that can't do the work say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil
import pytest
from quantrecipe.api import Order, Outcome, Task, Workers
from quantrecipe.errors import PluginError
from quantrecipe.executors.run_tasks import run_tasks
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import load_registry

from quantrecipe_ray import RayExecutor

LAYERS, SIDE = 8, 256
RECIPE = (
    "quantrecipe: 1\nname: spare\ndefault: SPARE\nrules:\n- {tensors: ffn_up, type: Q4_K, why: both kinds}\n"
)
REGISTRY = load_registry()
ORDER = Order(function="quantrecipe.testing.executors:open_job", given=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_head_count(4)
    for layer in range(LAYERS):
        for name in ("attn_q", "ffn_up", "ffn_down"):
            weights = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def plan(model: Path) -> Plan:
    return make_plan(
        load_recipe_text(RECIPE, registry=REGISTRY), open_model(model, registry=REGISTRY), registry=REGISTRY
    )


@pytest.fixture(scope="module")
def peace(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of one machine."""
    out = tmp_path_factory.mktemp("peace") / "out.gguf"
    return apply_plan(plan, out, registry=REGISTRY).path.read_bytes()


class Told(Silent):
    """Gathers what is told."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def told(self, what: str) -> None:
        self.all.append(what)


class Watched(RayExecutor):
    """Calls `look` whenever it is asked what has ended."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def open(self, order: Order) -> Workers:
        return _WatchedWorkers(super().open(order), self._look)


class _WatchedWorkers(Workers):
    def __init__(self, inner: Workers, look: Callable[[], None]) -> None:
        self._inner, self._look = inner, look

    @property
    def width(self) -> int:
        return self._inner.width

    def begin(self, task: Task) -> None:
        self._inner.begin(task)

    def ended(self, seconds: float) -> Outcome | None:
        self._look()
        return self._inner.ended(seconds)

    def close(self) -> None:
        self._inner.close()


def made(executor: RayExecutor, plan: Plan, out: Path, **more: Any) -> bytes:
    """The file that an executor makes, one tensor a unit."""
    result = apply_by(executor, plan, out, registry=REGISTRY, nbytes=SIDE * SIDE * 4, **more)
    return result.path.read_bytes()


def worker_of(mark: Path) -> int:
    """The process that has begun with a tensor; 0 where none has."""
    return int(mark.read_text() or 0) if mark.exists() else 0


def run(tasks: list[tuple[str, Any]], workers: Workers, told: list[str]) -> list[Any]:
    given = [Task(number=number, given=it) for number, it in enumerate(tasks)]
    found = {task.number: result for task, result in run_tasks(workers, given, told=told.append)}
    return [found[number] for number in range(len(tasks))]


@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
def test_four_workers_make_the_same_file(
    in_pieces: bool, plan: Plan, peace: bytes, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    node("four")
    cluster.wait()
    pieces = tmp_path / "pieces" if in_pieces else None
    assert made(RayExecutor(), plan, tmp_path / "out.gguf", pieces=pieces) == peace


def test_nodes_read_a_model_on_the_hub_by_themselves(
    model: Path, peace: bytes, hub: Any, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each the ranges of its own units, each range once, with the token of its own environment."""
    import huggingface_hub.constants as known

    monkeypatch.setattr(known, "ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(known, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "hf_of_who_asks")
    hub.files = {model.name: model.read_bytes()}
    opened = open_model(f"hf://owner/tiny-code/{model.name}", registry=REGISTRY)
    recipe = load_recipe_text(RECIPE, registry=REGISTRY)
    plan = make_plan(recipe, opened, registry=REGISTRY)
    hub.asked.clear()
    assert made(RayExecutor(), plan, tmp_path / "out.gguf") == peace
    tensors = sum(extent.nbytes for source in opened.sources.values() for extent in source.extents)
    sent = sorted(hub.ranges_of(model.name))
    # A unit that is overtaken on a busy machine is read by two nodes; nothing else is asked for twice.
    once = set(sent)
    assert sum(last - first + 1 for first, last in once) == tensors
    assert 3 < len(once) <= len(sent) < 2 * len(once)
    assert {it.token for it in hub.asked if "resolve" in it.path} == {"Bearer hf_of_the_nodes"}


def test_a_node_that_dies_at_work_is_told_and_missed_by_nobody(
    plan: Plan, peace: bytes, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    mark, told, killed = tmp_path / "mark", Told(), []
    doomed = node("doomed", SPARE_MARK=str(mark), SPARE_SECONDS="60")
    cluster.wait()
    cluster.gate.touch()

    def look() -> None:
        if worker_of(mark) and not killed:
            killed.append(doomed)
            cluster.kill(doomed)
        if told.all:
            cluster.gate.unlink(missing_ok=True)

    assert made(Watched(look), plan, tmp_path / "out.gguf", progress=told) == peace
    assert killed
    assert len(told.all) == 1
    assert "doomed" in told.all[0]
    assert "gone away" in told.all[0]


def test_a_node_that_stops_for_a_while_is_overtaken(
    plan: Plan, peace: bytes, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    mark, stopped = tmp_path / "mark", []
    raylet = cluster.raylet(node("stopped", SPARE_MARK=str(mark), SPARE_SECONDS="3"))
    cluster.wait()
    cluster.gate.touch()

    def look() -> None:
        if (worker := worker_of(mark)) and not stopped:
            stopped.extend((raylet, worker))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            cluster.gate.unlink()

    assert made(Watched(look), plan, tmp_path / "out.gguf") == peace
    assert [psutil.Process(pid).status() for pid in stopped] == [psutil.STATUS_STOPPED] * 2
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert made(RayExecutor(), plan, tmp_path / "again.gguf") == peace


def test_nodes_that_lack_something_are_told_together_at_once(
    plan: Plan, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    node("bare", "")
    node("old", os.pathsep.join(("spare", "other_version")), SPARE_MARK=str(mark))
    node("empty", os.pathsep.join(("spare", "without_quantrecipe")))
    cluster.wait()
    cluster.gate.touch()  # the nodes that lack nothing don't make all before the others have said a word
    with pytest.raises(PluginError) as caught:
        made(RayExecutor(), plan, tmp_path / "out.gguf")
    lines = str(caught.value).splitlines()
    assert any("bare" in it and "has no spare-format" in it for it in lines)
    assert any("old" in it and "has quantrecipe 0.0.7 (expected: " in it for it in lines)
    assert any("empty" in it and "has no quantrecipe" in it for it in lines)
    assert not mark.exists()
    assert [*tmp_path.iterdir()] == []


def test_nodes_that_join_are_used_if_they_can_do_the_work(cluster: Any, node: Callable[..., Any]) -> None:
    told: list[str] = []
    with RayExecutor({"address": cluster.address}).open(ORDER) as workers:
        run([("where", None)], workers, told)
        assert workers.width <= 3
        node("empty", "without_quantrecipe")
        node("four")
        cluster.wait()
        begin = time.monotonic()
        while len({pid for _, pid in run([("sleep", 0.2)] * 8, workers, told)}) < 4:
            assert time.monotonic() - begin < 60
        assert workers.width == 4
    assert sum("empty" in it and "isn't used" in it for it in told) == 1


def test_results_wait_where_they_were_made(cluster: Any) -> None:
    """All together they are several times what Ray has memory for, and nothing of them goes to the disk."""
    with RayExecutor().open(ORDER) as workers:
        count = 0
        for _, result in run_tasks(workers, [Task(number=it, given=("bytes", 9 << 20)) for it in range(40)]):
            count += len(result)
    assert count == 40 * (9 << 20) > 4 * 80 << 20
    assert not [it for it in cluster.session.rglob("*") if "spilled" in it.name and it.is_file()]


def test_workers_are_as_many_as_wanted(cluster: Any) -> None:
    with RayExecutor({"workers": 2}).open(ORDER) as workers:
        assert len({pid for _, pid in run([("where", None)] * 20, workers, [])}) <= 2
        assert workers.width == 2


def test_a_cluster_without_room_is_waited_for_and_told(cluster: Any) -> None:
    with (
        RayExecutor({"threads": 2, "wait": 2}).open(ORDER) as workers,
        pytest.raises(PluginError, match=r"no node with 2 CPUs for 2 s .*one \(.*: 1"),
    ):
        run([("multiply", 1)], workers, [])


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:9", "no Ray cluster can be joined under 127.0.0.1:9"), ("ray://x:10001", "Ray's client")],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, said: str) -> None:
    begin = time.monotonic()
    with pytest.raises(PluginError, match=said):
        RayExecutor({"address": address}).open(ORDER)
    assert time.monotonic() - begin < 15


def test_a_connection_that_was_there_is_used_and_stays(cluster: Any) -> None:
    import ray

    ray.init(cluster.address, log_to_driver=False)
    try:
        with pytest.raises(
            PluginError, match=f"is connected with the Ray cluster {cluster.address}, not with local"
        ):
            RayExecutor({"address": "local"}).open(ORDER)
        with RayExecutor().open(ORDER) as workers:
            assert run([("multiply", 2)], workers, []) == [6]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_a_worker_that_dies_is_replaced(cluster: Any, tmp_path: Path) -> None:
    told: list[str] = []
    marks = [("die once", str(tmp_path / str(number))) for number in range(3)]
    with RayExecutor({"workers": 1}).open(ORDER) as workers:
        assert run([*marks, ("multiply", 2)], workers, told) == ["alive"] * 3 + [6]
    assert len(told) == 3
    assert all(it.startswith(("one (", "two (", "three (")) for it in told)


def listening() -> None:
    """What a shell starts in the background ignores SIGINT, and all that it starts: not so the command of a user."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_stopped_ends_all_workers_and_leaves_nothing(
    sent: int, status: int, model: Path, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    mark, recipe, out = tmp_path / "mark", tmp_path / "recipe.yaml", tmp_path / "out.gguf"
    recipe.write_text(RECIPE)
    cluster.gate.touch()
    node("slow", SPARE_MARK=str(mark), SPARE_SECONDS="60")
    cluster.wait()
    process = subprocess.Popen(
        [sys.executable, "-m", "quantrecipe", "apply", recipe, model, "-o", out, "--executor", "ray"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listening,  # noqa: PLW1509  # no threads that matter run here
    )
    try:
        begin = time.monotonic()
        while not worker_of(mark):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - begin < 60
            time.sleep(0.05)
        worker = psutil.Process(worker_of(mark))
        process.send_signal(sent)
        said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == status, said
    assert not any(it in said[1] for it in ("Traceback", "***", "ray")), said[1]
    worker.wait(timeout=20)
    assert sorted(it.name for it in tmp_path.iterdir()) == ["mark", "recipe.yaml"]


def test_a_node_has_no_more_workers_than_memory_for_them(cluster: Any, node: Callable[..., Any]) -> None:
    node("wide", cpus=3)
    cluster.wait()
    told: list[str] = []
    with RayExecutor({"threads": 1}).open(replace(ORDER, memory=1 << 60)) as workers:
        assert run([("multiply", 2)], workers, told) == [6]
        assert workers.width == 4
        assert workers.per_machine == 1
    assert [it for it in told if "memory for 1 of 3 workers" in it]
    with RayExecutor({"threads": 1}).open(ORDER) as workers:
        assert run([("multiply", 2)], workers, told) == [6]
        assert (workers.width, workers.per_machine) == (6, 3)
