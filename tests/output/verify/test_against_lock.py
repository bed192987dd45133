"""A file held against a lock: each difference is told with the tensor and with both sides."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from support.made_files import Made, findings, made_file

from quantrecipe import __version__
from quantrecipe.output.verify.verification import Finding
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.review.lock import Lock, make_lock
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    return made_file(tmp_path_factory.mktemp("locked"), registry)


def found(made: Made, lock: Lock, registry: Registry) -> list[Finding]:
    return list(findings(verify_file(made.path, registry=registry, lock=lock), "lock"))


def changed(lock: Lock, name: str, **fields: Any) -> Lock:
    tensors = {**lock.tensors, name: replace(lock.tensors[name], **fields)}
    return replace(lock, tensors=MappingProxyType(tensors))


def test_its_own(made: Made, registry: Registry) -> None:
    verification = verify_file(made.path, registry=registry, lock=make_lock(made.plan, registry))
    (check,) = (it for it in verification.checks if it.name == "lock")
    assert (check.status, check.said) == ("ok", f"{len(made.plan.assignments)} tensors, digests and versions")


def test_tensors(made: Made, registry: Registry) -> None:
    lock = make_lock(made.plan, registry)
    name = "blk.0.attn_v.weight"
    assert found(made, changed(lock, name, type="Q5_K"), registry) == [
        Finding(what="is Q6_K (locked: Q5_K)", tensor=name)
    ]
    assert found(made, changed(lock, name, shape=(1, 2)), registry) == [
        Finding(what="has the shape (128, 256) (locked: (1, 2))", tensor=name)
    ]


def test_tensors_that_one_side_lacks(made: Made, registry: Registry) -> None:
    lock = make_lock(made.plan, registry)
    tensors = dict(lock.tensors)
    tensors["blk.9.attn_v.weight"] = tensors.pop("blk.1.attn_v.weight")
    del tensors["output.weight"]
    assert found(made, replace(lock, tensors=MappingProxyType(tensors)), registry) == [
        Finding(what="the file doesn't have it (locked: Q6_K)", tensor="blk.9.attn_v.weight"),
        Finding(what="the lock doesn't have it", tensor="blk.1.attn_v.weight"),
        Finding(what="the lock doesn't have it", tensor="output.weight"),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe_digest": "0" * 32}, r"the digest of the recipe is {recipe} (locked: " + "0" * 32 + ")"),
        ({"plan_digest": "1" * 32}, r"the digest of the plan is {plan} (locked: " + "1" * 32 + ")"),
        (
            {"importance": "2" * 32},
            "the digest of the importance matrix is not there (locked: " + "2" * 32 + ")",
        ),
        (
            {"distributions": MappingProxyType({"quantrecipe": "9.9"})},
            "the version of quantrecipe is {version} (locked: 9.9)",
        ),
        ({"distributions": MappingProxyType({})}, "the version of quantrecipe is {version} (locked: none)"),
    ],
)
def test_digests_and_versions(made: Made, registry: Registry, change: dict[str, Any], said: str) -> None:
    lock = replace(make_lock(made.plan, registry), **change)
    expected = said.format(recipe=made.plan.recipe_digest, plan=made.plan.digest, version=__version__)
    assert found(made, lock, registry) == [Finding(what=expected, file=made.path)]
    assert found(made, replace(lock, provenance=False), registry) == []


def test_sizes_of_files(made: Made, registry: Registry) -> None:
    lock = make_lock(made.plan, registry)
    ((nbytes, count),) = lock.files
    said = f"the files have {nbytes:,} bytes of data with {count} tensors (locked: 32 bytes of data with 1 tensors, "
    other = replace(lock, files=((32, 1), (nbytes, count)))
    assert found(made, other, registry) == [
        Finding(what=f"{said}{nbytes:,} bytes of data with {count} tensors)", file=made.path)
    ]
