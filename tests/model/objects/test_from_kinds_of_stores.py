"""Models in all kinds of stores: each says in its own way what an object is, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.elsewhere import BLOCK, EXAMPLE
from support.store_kinds import KINDS, HttpResponseError, Stored, example_of_kind

from quantrecipe.errors import ModelError
from quantrecipe.model.objects import ObjectAddress, lacks_folder, lacks_rights, worth_another_try
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
MIX = load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY)
WEIGHTS = "store/tiny-code/model.safetensors"


@pytest.fixture(params=KINDS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stored]:
    with example_of_kind(scheme, monkeypatch, tmp_path) as found:
        yield found


def applied(address: str | Path, out: Path) -> bytes:
    plan = make_plan(MIX, open_model(address, registry=REGISTRY), registry=REGISTRY)
    return apply_plan(plan, out, registry=REGISTRY, threads=2).path.read_bytes()


def test_the_same_bytes_as_from_a_folder_and_each_block_once(
    scheme: str, stored: Stored, tmp_path: Path
) -> None:
    here = tmp_path / "tiny-code"
    here.symlink_to(EXAMPLE)
    found = applied(f"{scheme}://store/tiny-code", tmp_path / "out.gguf")
    assert found == applied(here, tmp_path / "here.gguf")
    size = len(stored.objects[WEIGHTS][0])
    ranges = sorted((start, min(end, size)) for path, start, end in stored.asked if path == WEIGHTS)
    assert ranges[1:] == [(at, min(at + BLOCK, size)) for at in range(0, size, BLOCK)]


def test_an_object_of_the_same_size_that_takes_its_place(scheme: str, stored: Stored, tmp_path: Path) -> None:
    model = open_model(f"{scheme}://store/tiny-code", registry=REGISTRY)
    plan = make_plan(MIX, model, registry=REGISTRY)
    stored.put(WEIGHTS, stored.objects[WEIGHTS][0])  # of the same bytes, even
    with pytest.raises(ModelError, match=r"model.safetensors has been replaced since its header was read"):
        apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)
    assert not (tmp_path / "out.gguf").exists()


def test_who_may_not_read_is_told_at_once(scheme: str, stored: Stored) -> None:
    stored.forbidden = {"read"}
    with pytest.raises(ModelError, match=r"isn't shown to you: .*check its name, and the keys"):
        open_model(f"{scheme}://store/tiny-code", registry=REGISTRY)


@pytest.mark.parametrize("address", ["store/other", "store/tiny-code/other.gguf"])
def test_nothing_of_that_name(address: str, scheme: str, stored: Stored) -> None:
    with pytest.raises(ModelError, match="there is nothing of that name"):
        open_model(f"{scheme}://{address}", registry=REGISTRY)


def named(name: str, said: str) -> Exception:
    """As a package has it that isn't there."""
    error: Exception = type(name, (Exception,), {})(said)
    return error


def behind(cause: Exception, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "rights", "again"),
    [
        (OSError("Forbidden: https://storage/b/x\nno access"), True, False),  # gcsfs
        (OSError("the connection is gone"), False, True),
        (behind(HttpResponseError(403), RuntimeError("Failed to upload block")), True, False),  # adlfs
        (behind(HttpResponseError(503), RuntimeError("Failed to upload block")), False, True),
        (behind(HttpResponseError(400), RuntimeError("Failed to upload block")), False, False),
        (ValueError("Must provide a connection_string or account_name with credentials!!"), True, False),
        (ValueError("no number"), False, False),
        (named("ClientAuthenticationError", "DefaultAzureCredential failed"), True, False),
        (named("AuthenticationException", "Authentication failed."), True, False),  # paramiko
        (named("SSHException", "No authentication methods available"), True, False),
        (named("SSHException", "Error reading SSH protocol banner"), False, True),
        (named("error_perm", "530 Login incorrect."), True, False),  # ftplib
        (named("error_perm", "553 Not allowed"), False, False),
        (named("error_temp", "421 Too many connections"), False, True),
    ],
    ids=repr,
)
def test_what_the_packages_raise(error: Exception, rights: bool, again: bool) -> None:
    assert lacks_rights(error) is rights
    assert worth_another_try(error) is again


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (FileNotFoundError("container"), True),
        (HttpResponseError(409), True),  # WebDAV
        (behind(HttpResponseError(404), RuntimeError("Failed to upload block")), True),  # adlfs
        (named("error_perm", "550 No such file or directory."), True),
        (named("error_perm", "530 Login incorrect."), False),
        (HttpResponseError(403), False),
        (TimeoutError(), False),
    ],
    ids=repr,
)
def test_no_folder_to_write_to(error: Exception, lacks: bool) -> None:
    assert lacks_folder(error) is lacks


@pytest.mark.parametrize("package", ["sftp paramiko", "gs gcsfs", "webdav webdav4", "smb smbprotocol"])
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def missing(*_: object, **__: object) -> None:
        raise ImportError("there is no such module")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    scheme, name = package.split()
    with pytest.raises(
        ModelError, match=rf"{scheme}:// can't be read: .*; pip install {name}, and run it again"
    ):
        ObjectAddress.parse(f"{scheme}://host/model").opened()


def test_what_an_address_can_t_say_is_said_in_fsspec_s_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def opened(*_: object, **__: object) -> None:
        raise TypeError("missing 1 required positional argument: 'base_url'")

    monkeypatch.setattr(fsspec.core, "url_to_fs", opened)
    with pytest.raises(
        ModelError, match=r"'base_url'; say it in a .json file in ~/.config/fsspec, below 'webdav'"
    ):
        ObjectAddress.parse("webdav://model").opened()


def test_a_version_is_for_all_workers() -> None:
    assert not ObjectAddress.parse("az://container/x.gguf?versionid=3").secret  # Azure
    assert not ObjectAddress.parse("s3://bucket/x.gguf?versionId=3").secret
    assert ObjectAddress.parse("https://host/x.gguf?sig=3").secret


def test_what_a_package_logs_isn_t_shown_beside_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a program has no handlers, Python shows warnings of all loggers that have none."""
    logger = logging.getLogger("gcsfs.retry")
    handlers = logging.getLogger().handlers[:]
    ObjectAddress.parse("memory://store/model").opened()
    for handler in handlers:  # pytest's
        logging.getLogger().removeHandler(handler)
    try:
        logger.error("out of retries")
        logging.getLogger("another").error("a word of somebody else")
    finally:
        for handler in handlers:
            logging.getLogger().addHandler(handler)
    assert capsys.readouterr().err == "a word of somebody else\n"
