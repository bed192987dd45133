"""A cluster on this machine: a node without CPUs, which these tests are on, and three with one CPU each.

A Ray that hangs is ended: a test has TEST_SECONDS, all of them SESSION_SECONDS.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "tests"))  # the hub of quantrecipe's own tests

from support.hub_server import HubServer

NODES = Path(__file__).parent / "nodes"
"""Folders for PYTHONPATH, which make nodes unlike each other."""
TEST_SECONDS, SESSION_SECONDS = 100, 400
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}
"""A node that has died is found within 3 seconds, not 15; one that is only slow isn't taken for dead."""
STORE_BYTES = 80 << 20
"""Ray's memory for objects on each node: the least that it takes."""

os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # as the executor sets it, but Ray is imported here before that
    "RAY_USAGE_STATS_ENABLED": "0",
}
sys.path.insert(0, str(NODES / "spare"))  # this process has the plugin, too


class TestCluster:
    """What tests do with the cluster. gate: SPARE_GATE of the three nodes."""

    __test__ = False

    def __init__(self, gate: Path) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args=self._arguments("head", "", 0) | {"_system_config": _HEALTH}
        )
        self.address: str = self._cluster.address
        self.gate = gate
        self.session = Path(self._cluster.head_node.get_session_dir_path())

    def add(self, name: str, paths: str = "spare", cpus: int = 1, **environment: str) -> Any:
        """A node, which `wait` waits for. paths: folders of NODES, separated as in PYTHONPATH."""
        return self._cluster.add_node(wait=False, **self._arguments(name, paths, cpus, **environment))

    def wait(self) -> None:
        """Until all nodes that were added are there, and none that were killed."""
        self._cluster.wait_for_nodes(timeout=TEST_SECONDS)

    def kill(self, node: Any) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def raylet(self, node: Any) -> int:
        """The process that is the node: all its workers are its children."""
        return int(node.all_processes["raylet"][0].process.pid)

    def end(self) -> None:
        self._cluster.shutdown()

    def _arguments(self, name: str, paths: str, cpus: int, **environment: str) -> dict[str, Any]:
        folders = os.pathsep.join(str(NODES / it) for it in paths.split(os.pathsep) if it)
        return {
            "num_cpus": cpus,
            "node_name": name,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "env_vars": {"PYTHONPATH": folders, **environment},
        }


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub without files. The environment, which all nodes have from this process, names it, a token and a cache."""
    from quantrecipe.core.cache import cache_folder

    folder = tmp_path_factory.mktemp("cache")
    (folder / "kernels").symlink_to((cache_folder() / "kernels").absolute())
    with HubServer({}) as server, pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_ENDPOINT", server.endpoint)
        patched.setenv("HF_TOKEN", "hf_of_the_nodes")
        patched.setenv("HF_HUB_CACHE", str(folder / "theirs"))
        patched.setenv("QUANTRECIPE_CACHE_DIR", str(folder))
        yield server


@pytest.fixture(scope="session")
def empty_cluster(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """The cluster without a node that works."""
    cluster = TestCluster(tmp_path_factory.mktemp("cluster") / "gate")

    def give_up() -> None:
        cluster.end()
        os._exit(99)

    timer = threading.Timer(SESSION_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    del os.environ["RAY_ADDRESS"]
    timer.cancel()
    cluster.end()


@pytest.fixture(scope="session")
def cluster(empty_cluster: TestCluster) -> TestCluster:
    for name in ("one", "two", "three"):
        empty_cluster.add(name, SPARE_GATE=str(empty_cluster.gate))
    empty_cluster.wait()
    return empty_cluster


@pytest.fixture
def node(cluster: TestCluster) -> Iterator[Callable[..., Any]]:
    """Adds a node to the cluster; it goes when the test ends."""
    added: list[Any] = []

    def add(name: str, paths: str = "spare", cpus: int = 1, **environment: str) -> Any:
        added.append(cluster.add(name, paths, cpus, **environment))
        return added[-1]

    yield add
    cluster.gate.unlink(missing_ok=True)
    for it in added:
        if it.any_processes_alive():
            os.kill(cluster.raylet(it), signal.SIGCONT)
            cluster.kill(it)
    cluster.wait()  # until all see that they are gone: the next test would count them, too


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TimeoutError(f"the test takes more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
