"""hf://OWNER/NAME[@REVISION][/PATH], as it is written on a command line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import ModelError

__all__ = ["HubAddress"]

_SCHEME = re.compile(r"hf:/{1,2}", re.ASCII)  # a Path has only one slash left
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_ADDRESS = re.compile(
    rf"(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[^/@\s]{{1,200}}))?(?:/(?P<path>[^@]*))?",
    re.ASCII,
)
_FORM = "write hf://OWNER/NAME, with @REVISION and /FOLDER or /FILE behind it if you like"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAddress:
    """A repository with a model, and what of it is meant.

    repo:     "owner/name"
    revision: a branch, a tag or a commit; slashes in it are written %2F
    path:     of a folder or a file in it, "" for all of it
    """

    repo: str
    revision: str = "main"
    path: str = ""

    @classmethod
    def parse(cls, ref: str | Path) -> HubAddress:
        """ModelError for what isn't written like that."""
        text = os.fspath(ref).replace("\\", "/")
        match = _ADDRESS.fullmatch(_SCHEME.sub("", text, count=1).rstrip("/"))
        parts = (match["path"] or "").split("/") if match else [".."]
        if not match or any(part in (".", "..") for part in parts):
            raise ModelError(f"{text!r} is no address on the hub", _FORM)
        revision = (match["revision"] or "main").replace("%2F", "/").replace("%2f", "/")
        return cls(
            repo=f"{match['owner']}/{match['name']}", revision=revision, path="/".join(filter(None, parts))
        )

    @property
    def name(self) -> str:
        """The repository's, without its owner."""
        return self.repo.partition("/")[2]

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        return f"hf://{self.repo}{'' if self.revision == 'main' else f'@{self.revision}'}{path}"
