"""ObjectAddress: s3://BUCKET/FOLDER, as it is written on a command line; and the file system that it is of."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.objects.refusals import refusals

__all__ = ["ObjectAddress"]

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>[^?]*)(?P<query>\?.*)?", re.ASCII | re.DOTALL
)
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
             "abfss": "adlfs", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko",
             "webdav": "webdav4", "dav": "webdav4", "smb": "smbprotocol"}  # fmt: skip
_TALKATIVE = ("gcsfs", "azure", "adlfs", "paramiko", "s3fs", "fsspec")
"""Loggers that show what becomes an error here, some with a traceback."""
_NOWHERE = logging.NullHandler()


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectAddress:
    """An object, or what a folder is there: all objects whose names begin so.

    scheme: "s3"
    path:   "bucket/folder/name", without a slash at either end, but for what is absolute (memory:///x: "/x")
    query:  what stands behind a "?" in a URL, and isn't shown: it may have a signature in it
    """

    scheme: str
    path: str
    query: str = ""

    @classmethod
    def parse(cls, ref: str | Path) -> ObjectAddress:
        """ModelError for what isn't written like that, and for a password within it."""
        text = os.fspath(ref).replace("\\", "/")
        match = _ADDRESS.fullmatch(text)
        path = match["rest"].rstrip("/") if match else ""
        parts = path.split("/")
        if not match or not path.strip("/") or ".." in parts or "." in parts or not path.isprintable():
            raise ModelError(
                f"{text.partition('?')[0]!r} is no address of a model",
                "write SCHEME://PLACE/FOLDER, such as s3://bucket/models/name, or that of a file",
            )
        user, at, _ = path.lstrip("/").partition("/")[0].rpartition("@")
        if at and ":" in user:
            raise ModelError(
                f"an address in {match['scheme']}:// has a password in it, and addresses stand in logs",
                "leave it out, and put it where fsspec finds it: ~/.config/fsspec, or its own variables",
            )
        return cls(scheme=match["scheme"].lower(), path=path, query=match["query"] or "")

    @property
    def url(self) -> str:
        """As it was written. Not to be shown: it may have a signature in it."""
        return f"{self.scheme}://{self.path}{self.query}"

    @property
    def secret(self) -> bool:
        """There may be a signature in it, so that it is sent to no other process. A version is for everybody."""
        return bool(self.query) and not self.query.lower().startswith("?versionid=")

    @property
    def name(self) -> str:
        """The last part of it."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> ObjectAddress | None:
        """The folder that it lies in; None where it is all that there is (a bucket)."""
        path = self.path.rpartition("/")[0]
        return ObjectAddress(scheme=self.scheme, path=path) if path.strip("/") else None

    @property
    def key(self) -> str:
        """A short name of it, for folders of the cache."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def child(self, name: str) -> ObjectAddress:
        """What lies in it under this name."""
        return ObjectAddress(scheme=self.scheme, path=f"{self.path}/{name}")

    def opened(self, *, alone: bool = False) -> tuple[Any, str]:
        """fsspec's file system, and what it calls this. ModelError where a package is missing.

        alone: a file system of its own, which nobody else in this process has
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise ModelError(
                f"{self.scheme}:// is read with the package fsspec, which isn't there",
                f"pip install 'quantrecipe[fsspec]'{self._package}, or download the model, and give the folder",
            ) from error
        for name in _TALKATIVE:  # a program that has handlers of its own is still told
            logging.getLogger(name).addHandler(_NOWHERE)
        try:
            with refusals(self):
                try:
                    system, path = url_to_fs(self.url, **({"skip_instance_cache": True} if alone else {}))
                except TypeError as error:  # of what can't be said in an address
                    raise ModelError(
                        f"{self.scheme}:// needs more than an address: {error}",
                        f"say it in a .json file in ~/.config/fsspec, below {self.scheme!r}",
                    ) from error
        except ImportError as error:
            package = self._package.strip() or "the package that has it"
            raise ModelError(
                f"{self.scheme}:// can't be read: {error}", f"pip install {package}, and run it again"
            ) from error
        return system, str(path)

    @property
    def _package(self) -> str:
        found = _PACKAGES.get(self.scheme, "")
        return f" {found}" if found else ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}{'?…' if self.query else ''}"
