"""Statements of signatures are read without trust."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import SignatureError
from quantrecipe.output.signing.statement import compare, read_statement


def predicate(**more: Any) -> dict[str, Any]:
    resources = [{"name": "a.gguf", "algorithm": "sha256", "digest": "00"}]
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": ["a.sig"]}
    return {"serialization": how, "resources": resources} | more


def written(folder: Path, said: Any) -> Path:
    path = folder / "a.sig"
    payload = base64.b64encode(json.dumps({"predicate": said}).encode()).decode()
    path.write_text(json.dumps({"dsseEnvelope": {"payload": payload}}))
    return path


def test_files_and_stretches_of_files(tmp_path: Path) -> None:
    found = read_statement(written(tmp_path, predicate()))
    assert (found.files, found.digests, found.ignored) == (("a.gguf",), {"a.gguf": "00"}, ("a.sig",))
    resources = [{"name": f"a.gguf:{at}:{at + 5}", "digest": "00"} for at in (0, 5)]
    how = {"method": "shards", "hash_type": "sha256", "shard_size": 5}
    found = read_statement(written(tmp_path, {"serialization": how, "resources": resources}))
    assert (found.files, found.shard_size, len(found.digests)) == (("a.gguf",), 5, 2)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a\\b", "C:a", "a\x1b", "a\nb"])
def test_names_that_lead_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, predicate(resources=[{"name": name, "digest": "00"}]))
    with pytest.raises(SignatureError, match="is no signature of OpenSSF model signing: it names the file"):
        read_statement(path)


@pytest.mark.parametrize(
    "said",
    [
        *(
            [],
            7,
            None,
            {},
            predicate(resources=[]),
            predicate(resources=7),
            predicate(resources=[{"name": 1}]),
        ),
        predicate(serialization={"method": "other", "hash_type": "sha256"}),
        predicate(serialization={"method": "shards", "hash_type": "sha256", "shard_size": []}),
        predicate(serialization={"method": "files", "hash_type": "sha256", "ignore_paths": [7]}),
        predicate(serialization={"method": "files", "hash_type": "md5"}),
        predicate(serialization={"method": "shards", "hash_type": "sha256", "shard_size": 0}),
        predicate(serialization={"method": "shards", "hash_type": "sha256", "shard_size": 10**400}),
    ],
)
def test_what_is_no_statement(said: Any, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="is no signature of OpenSSF model signing"):
        read_statement(written(tmp_path, said))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": {"payload": "!"}}'])
def test_what_is_no_signature(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.sig"
    path.write_bytes(content)
    with pytest.raises(SignatureError, match="is no signature of OpenSSF model signing"):
        read_statement(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="there is no such signature; name it with --signature"):
        read_statement(tmp_path / "none.sig")


def test_all_that_differs_is_named_at_once(tmp_path: Path) -> None:
    resources = [{"name": name, "digest": "00"} for name in ("a", "b", "c")]
    expected = read_statement(written(tmp_path, predicate(resources=resources)))
    with pytest.raises(SignatureError) as caught:
        compare({"a": "00", "b": "11", "d": "00"}, expected, tmp_path, tmp_path / "a.sig")
    first, second, third = (problem.what for problem in caught.value.problems)
    assert first.startswith("has changed")
    assert second.startswith("is missing")
    assert third.startswith("wasn't there")
