"""What a repository holds, asked of the hub once; and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import ModelError
from quantrecipe.model.hub.address import HubAddress

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["HubEntry", "Listing", "huggingface_hub", "list_repository", "read_listing", "refusals"]

_PATIENCE = 30  # seconds: for one answer
_COMMIT = 40  # hex digits


@dataclass(frozen=True, kw_only=True, slots=True)
class HubEntry:
    """A file of a repository.

    sha256: of its content in hex, "" where the hub doesn't say (small files)
    blob:   of a small file, the SHA-1 that git has for it; "" where the hub doesn't say
    """

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A repository at a commit. private: None where the hub doesn't say"""

    commit: str
    entries: tuple[HubEntry, ...]
    private: bool | None = None


def huggingface_hub() -> ModuleType:
    """The package. ModelError with the line that brings it, where it isn't there."""
    try:
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise ModelError(
            "models on the hub are read with the package huggingface_hub, which isn't there",
            "pip install 'quantrecipe[hub]', or download the model, and give the folder",
        ) from error
    return huggingface_hub


def list_repository(address: HubAddress) -> Listing:
    """All files, with their sizes. ModelError where the hub refuses, can't be reached, or says what can't be."""
    with refusals(address):
        return read_listing(address)


def read_listing(address: HubAddress) -> Listing:
    """The same with huggingface_hub's own errors, for who knows better what they mean."""
    hub = huggingface_hub()
    with _understood(address):
        info = hub.HfApi(library_name="quantrecipe").model_info(
            address.repo, revision=address.revision, files_metadata=True, timeout=_PATIENCE
        )
    commit = info.sha
    if not (isinstance(commit, str) and len(commit) == _COMMIT and set(commit) <= set("0123456789abcdef")):
        raise ModelError(
            f"the hub says that {address} is at the commit {commit!r}, which is none", "try again"
        )
    with _understood(address):
        entries = tuple(_entry(it, address) for it in info.siblings or ())
        return Listing(commit=commit, entries=entries, private=info.private)


def _entry(sibling: Any, address: HubAddress) -> HubEntry:
    path, size = sibling.rfilename, sibling.size
    if not isinstance(path, str):
        raise TypeError(f"a file is called {path!r:.40}")
    parts = path.replace("\\", "/").split("/")
    if (
        not path.isprintable()
        or path.startswith("/")
        or ":" in path
        or any(it in ("", ".", "..") for it in parts)
    ):
        what = f"the hub says that {address} has a file {path!r}, which can't be the name of one"
        raise ModelError(what, "use only models whose source you trust")
    if not isinstance(size, int) or size < 0:
        raise ModelError(f"the hub doesn't say how large {path} of {address} is", "try again")
    sha256, blob = (sibling.lfs.sha256, "") if sibling.lfs else ("", sibling.blob_id or "")
    return HubEntry(path=path, size=size, sha256=sha256, blob=blob)


@contextmanager
def _understood(address: HubAddress) -> Iterator[None]:
    """An answer of another shape, of a mirror or a proxy, becomes a ModelError."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        what = f"what the hub answers for {address} isn't understood: {str(error)[:80]}"
        remedy = "try again later; HF_ENDPOINT may name a server that isn't one"
        raise ModelError(what, remedy) from error


@contextmanager
def refusals(address: HubAddress) -> Iterator[None]:
    """What goes wrong between here and the hub becomes a ModelError that says what to do."""
    hub = huggingface_hub()
    errors = hub.errors
    try:
        yield
    except errors.GatedRepoError as error:
        what = f"{address.repo} is gated: its owner has to let you in"
        remedy = f"ask on https://huggingface.co/{address.repo}, and run `hf auth login`"
        raise ModelError(what, remedy) from error
    except errors.RevisionNotFoundError as error:
        what = f"{address.repo} has no revision {address.revision!r}"
        raise ModelError(what, "leave @REVISION out for main") from error
    except errors.RepositoryNotFoundError as error:
        what = f"the hub has no model {address.repo}, or shows it to some users only"
        raise ModelError(what, "check the name; for a private one, run `hf auth login`") from error
    except errors.OfflineModeIsEnabled as error:
        what = "the hub isn't asked, since HF_HUB_OFFLINE is set"
        raise ModelError(what, "unset it, or give a folder") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "?"
        busy = status == 429
        what = f"the hub answered {status}{' (too many requests)' if busy else ''} for {address}"
        remedy = "wait some minutes, and run the same command: it goes on" if busy else "try again later"
        raise ModelError(what, remedy) from error
    except errors.HTTPError as error:
        raise ModelError(
            f"the hub can't be reached for {address}: {error or type(error).__name__}",
            "check the connection, and run the same command: it goes on",
        ) from error
