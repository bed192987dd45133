"""The example model on a hub, in an object store, and in memory, each in this process's place of the real one.

These are fixtures, to which a file of tests gives names of its own: `store = pytest.fixture(example_in_store)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from quantrecipe.model.remote import blocks
from support.hub_server import HubServer
from support.object_server import ObjectServer

__all__ = [
    "BLOCK",
    "EXAMPLE",
    "IN_MEMORY",
    "IN_STORE",
    "blocks_in",
    "example_in_memory",
    "example_in_store",
    "example_on_hub",
    "refused_from",
]

T = TypeVar("T")

EXAMPLE = Path(__file__).parents[2] / "examples/tiny-code"
IN_MEMORY, IN_STORE = "memory://store/tiny-code", "s3://bucket/models/tiny-code"
BLOCK = 1 << 18
"""Bytes of the blocks that are downloaded, so that there are many."""


def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a cache of the test's own, but for the kernels; and nobody waits before another try."""
    from quantrecipe.core.cache import cache_folder
    from quantrecipe.model.objects import object_place

    cache = tmp_path / "cache"
    if not cache.exists():
        cache.mkdir()
        (cache / "kernels").symlink_to((cache_folder() / "kernels").absolute())
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(blocks, "_BLOCK", BLOCK)
    monkeypatch.setattr(object_place, "_FIRST_WAIT", 0)


def example_on_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """Processes that are started meanwhile find it, too."""
    import huggingface_hub.constants

    from quantrecipe.model.hub import fetching

    small_blocks(monkeypatch, tmp_path)
    with HubServer({path.name: path.read_bytes() for path in EXAMPLE.iterdir()}) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "their-cache"))
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "their-cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr(fetching, "_FIRST_WAIT", 0)
        monkeypatch.setattr(fetching, "_moved", {})
        yield server


def example_in_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ObjectServer]:
    """Processes that are started meanwhile find it, too. The test is skipped without s3fs."""
    s3fs = pytest.importorskip("s3fs")
    small_blocks(monkeypatch, tmp_path)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    objects = {f"bucket/models/tiny-code/{path.name}": path.read_bytes() for path in EXAMPLE.iterdir()}
    with ObjectServer(objects) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        s3fs.S3FileSystem.clear_instance_cache()


def example_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """fsspec's file system of this process."""
    import fsspec

    small_blocks(monkeypatch, tmp_path)
    system = fsspec.filesystem("memory")
    for path in EXAMPLE.iterdir():
        system.pipe(f"/store/tiny-code/{path.name}", path.read_bytes())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def blocks_in(cache: Path) -> set[int]:
    """Where the blocks begin that lie in the cache as a whole."""
    return {int(path.name) * BLOCK for path in cache.rglob("0*") if path.name.isdigit()}


def refused_from(begin: int, cache: Path, refusal: T) -> Callable[[Any], T | None]:
    """Trouble for what begins there or behind it, as soon as some of what lies before has come."""

    def trouble(asked: Any) -> T | None:
        if (asked.first or 0) < begin:
            return None
        while len(blocks_in(cache)) < 4:
            time.sleep(0.002)
        return refusal

    return trouble
