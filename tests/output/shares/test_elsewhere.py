"""Workers and parts that read a model from the hub, or from an object store: each its own bytes, with its own keys."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.elsewhere import (
    EXAMPLE,
    IN_MEMORY,
    IN_STORE,
    example_in_memory,
    example_in_store,
    example_on_hub,
)
from support.hub_server import COMMIT, REPO, HubServer
from support.object_server import ObjectServer

from quantrecipe import remote_files
from quantrecipe.errors import ModelError
from quantrecipe.executors import run_tasks
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.model.objects.address import ObjectAddress
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.run_key import file_key
from quantrecipe.output.shares.assemble import assemble
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.output.shares.into import IntoFiles
from quantrecipe.output.shares.order import order_of
from quantrecipe.output.shares.part import Part, make_part
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
MIX = load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY)
UNSEEN = IntoFiles(paths=[Path("no-such-folder/out.gguf")], token=b"", system=("", []), part_bytes=1)
ON_HUB = f"hf://{REPO}"
WEIGHTS = "model.safetensors"
STORED = f"bucket/models/tiny-code/{WEIGHTS}"
SMALL = 300_000
"""Bytes of a unit: rows of the large tensors, whose sources are read once more for their hashes."""
WHOLE = 1_200_000
"""Bytes of a unit of whole tensors."""

hub = pytest.fixture(example_on_hub)
store = pytest.fixture(example_in_store)
memory = pytest.fixture(example_in_memory)


@pytest.fixture(autouse=True)
def nobody_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, what another worker does once more is read once more."""
    monkeypatch.setattr(run_tasks, "_SLOW_SECONDS", math.inf)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is made of the folder on this machine."""
    folder = tmp_path_factory.mktemp("here") / "tiny-code"
    folder.symlink_to(EXAMPLE)
    return apply_plan(planned(folder), folder.with_name("out.gguf"), registry=REGISTRY).path.read_bytes()


def planned(address: str | Path) -> Plan:
    return make_plan(MIX, open_model(address, registry=REGISTRY), registry=REGISTRY)


def kept(tmp_path: Path) -> list[Path]:
    """Blocks, and parts of them, that lie in the cache."""
    return [it for it in (tmp_path / "cache").rglob("0*") if it.is_file()]


def tensors_bytes() -> int:
    return sum(it.nbytes for source in open_model(EXAMPLE).sources.values() for it in source.extents)


def once(ranges: list[tuple[Any, Any]]) -> int:
    """How many bytes ranges have together, of which none comes twice."""
    ordered = sorted(ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ordered)), ordered
    return sum(last - first + 1 for first, last in ordered)


@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
def test_each_range_is_read_once(
    in_pieces: bool, store: ObjectServer, expected: bytes, tmp_path: Path
) -> None:
    plan = planned(IN_STORE)
    store.asked.clear()
    pieces = tmp_path / "pieces" if in_pieces else None
    result = apply_by(Threads(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=WHOLE, pieces=pieces)
    assert result.path.read_bytes() == expected
    assert result.unchecked == ()
    assert once(store.ranges_of(STORED)) == tensors_bytes()
    assert kept(tmp_path) == []


def test_rows_of_a_tensor_are_read_once_more_for_its_hash_alone(
    memory: Any, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    cat_file = type(memory).cat_file

    def noting(self: Any, path: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return cat_file(self, path, start, end)

    plan = planned(IN_MEMORY)
    monkeypatch.setattr(type(memory), "cat_file", noting)
    result = apply_by(Threads(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=SMALL)
    assert result.path.read_bytes() == expected
    assert result.read == sum(read)


def test_an_order_has_no_secret_and_no_file_of_this_machine(hub: HubServer, tmp_path: Path) -> None:
    order = order_of(planned(ON_HUB), REGISTRY, nan="error", into=UNSEEN)
    assert b"hf_secret" not in pickle.dumps(order)
    assert order.given["files"] == []
    assert [it.identity for _, it in order.given["places"]] == [f"{REPO}@{COMMIT}/{WEIGHTS}"]


def test_the_hub_s_hash_can_t_be_compared_by_workers(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    plan = planned(ON_HUB)
    result = apply_by(Threads(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=WHOLE)
    assert result.path.read_bytes() == expected
    assert [path.name for path in result.unchecked] == [WEIGHTS]


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
def test_processes_read_from_the_hub_with_their_own_token(
    in_pieces: bool, hub: HubServer, expected: bytes, tmp_path: Path
) -> None:
    """They have nothing of this process but the order and the environment."""
    plan = planned(ON_HUB)
    hub.asked.clear()
    pieces = tmp_path / "pieces" if in_pieces else None
    result = apply_by(
        Processes(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=WHOLE, pieces=pieces
    )
    assert result.path.read_bytes() == expected
    assert once(hub.ranges_of(WEIGHTS)) == tensors_bytes()
    assert {it.token for it in hub.asked if "resolve" in it.path} == {"Bearer hf_secret"}


@pytest.mark.slow  # starts processes
def test_processes_read_from_a_store(store: ObjectServer, expected: bytes, tmp_path: Path) -> None:
    plan = planned(IN_STORE)
    store.asked.clear()
    result = apply_by(Processes(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=WHOLE)
    assert result.path.read_bytes() == expected
    assert once(store.ranges_of(STORED)) == tensors_bytes()


@pytest.mark.slow  # starts processes
def test_a_process_without_keys_says_so(
    store: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(IN_STORE)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ModelError, match="isn't shown to you: NoCredentialsError") as caught:
        apply_by(Processes(), plan, tmp_path / "out.gguf", registry=REGISTRY)
    assert "a worker couldn't be opened on" in str(caught.value)
    assert list(tmp_path.glob("out*")) == []


def in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of files elsewhere any more."""
    monkeypatch.setattr(remote_files, "_files", {})
    monkeypatch.setattr(remote_files, "_places", {})


def test_an_object_that_was_replaced_is_refused_by_a_worker(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = pickle.loads(pickle.dumps(order_of(planned(IN_MEMORY), REGISTRY, nan="error", into=UNSEEN)))
    memory.pipe("/store/tiny-code/model.safetensors", memory.cat_file("/store/tiny-code/model.safetensors"))
    in_another_process(monkeypatch)
    with pytest.raises(ModelError, match="has been replaced since its header was read"):
        order.open()


@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
def test_an_object_that_is_replaced_meanwhile_gives_no_file(
    in_pieces: bool, memory: Any, tmp_path: Path
) -> None:
    """Each worker has read something; who gave the tasks asks at the end."""
    plan = planned(IN_MEMORY)
    memory.pipe("/store/tiny-code/model.safetensors", memory.cat_file("/store/tiny-code/model.safetensors"))
    pieces = tmp_path / "pieces" if in_pieces else None
    with pytest.raises(ModelError, match="has been replaced since its header was read"):
        apply_by(Threads(), plan, tmp_path / "out.gguf", registry=REGISTRY, pieces=pieces)
    assert list(tmp_path.glob("out*")) == []


def test_a_signature_in_an_address_isn_t_sent(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectAddress, "secret", property(lambda self: True))
    plan = planned(IN_MEMORY)
    with pytest.raises(ModelError, match="a signature in it, which isn't sent to workers"):
        order_of(plan, REGISTRY, nan="error", into=UNSEEN)


@pytest.mark.parametrize("address", [IN_MEMORY, ON_HUB])
def test_parts_read_their_own_ranges(
    address: str, memory: Any, hub: HubServer, expected: bytes, tmp_path: Path
) -> None:
    plan, out = planned(address), tmp_path / "out.gguf"
    for number in (1, 2):
        make_part(plan, out, Part(number=number, count=2), registry=REGISTRY, nbytes=WHOLE)
    assert kept(tmp_path) == []
    if address == ON_HUB:
        assert once([it for it in hub.ranges_of(WEIGHTS) if it != (0, (1 << 18) - 1)]) == tensors_bytes()
    result = assemble(plan, out, registry=REGISTRY, make=False)
    assert result.path.read_bytes() == expected


def test_what_is_assembled_says_what_of_the_hub_it_read_in_part(
    hub: HubServer, expected: bytes, tmp_path: Path
) -> None:
    """A piece that somebody removed is made again, from a part of a file whose hash nobody could compare."""
    plan, out = planned(ON_HUB), tmp_path / "out.gguf"
    make_part(plan, out, Part(number=1, count=1), registry=REGISTRY, nbytes=WHOLE)
    min(tmp_path.rglob("*.piece")).unlink()
    result = assemble(plan, out, registry=REGISTRY)
    assert result.path.read_bytes() == expected
    assert [path.name for path in result.unchecked] == [WEIGHTS]


def test_a_part_of_a_replaced_object_leaves_no_pieces(memory: Any, tmp_path: Path) -> None:
    plan, out = planned(IN_MEMORY), tmp_path / "out.gguf"
    memory.pipe("/store/tiny-code/model.safetensors", memory.cat_file("/store/tiny-code/model.safetensors"))
    with pytest.raises(ModelError, match="has been replaced"):
        make_part(plan, out, Part(number=1, count=1), registry=REGISTRY, nbytes=WHOLE)
    assert list(tmp_path.rglob("*.piece")) == []


def test_machines_that_have_the_file_in_a_cache_share_with_those_that_don_t(
    hub: HubServer, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(ON_HUB)
    path = next(it for it in plan.model.files if it.name == WEIGHTS)
    read, order = file_key(path, copies=True), order_of(plan, REGISTRY, nan="error", into=UNSEEN)
    snapshot = tmp_path / f"their-cache/models--owner--tiny-code/snapshots/{COMMIT}"
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(hub.files[WEIGHTS])
    path.unlink()
    in_another_process(monkeypatch)
    again = planned(ON_HUB)
    assert path.is_symlink()
    assert file_key(path, copies=True) == read
    hub.asked.clear()
    order.open()  # a worker that has it reads it there
    result = apply_by(Threads(), again, tmp_path / "out.gguf", registry=REGISTRY)
    assert result.path.read_bytes() == expected
    assert hub.ranges_of(WEIGHTS) == []
    assert result.unchecked == ()
