"""FolderUpload: an object store that is a folder here, and fails with it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.uploads.multipart import Multipart, SentPart
from quantrecipe.output.uploads.sending import writing

__all__ = ["FolderUpload"]


class FolderUpload(Multipart):
    """Parts are files in FOLDER/UPLOAD; when it is completed, FOLDER/NAME is made of them. The address is FOLDER's."""

    @property
    def file(self) -> Path:
        """Which the upload becomes."""
        return Path(f"/{self.address.path}")

    @property
    def parts(self) -> Path:
        """The folder of what was sent."""
        return self.file.with_name(self.upload)

    @classmethod
    def begin(cls, address: ObjectAddress) -> FolderUpload:
        upload = cls(address=address, upload=secrets.token_hex(8))
        with writing(address):
            upload.parts.mkdir(parents=True, exist_ok=True)
        return upload

    def send(self, number: int, data: bytes | bytearray) -> SentPart:
        with writing(self.address):
            if not self.parts.is_dir():
                raise self.gone()
            _put(self.parts / str(number), data)
        md5 = hashlib.md5(data).hexdigest()
        return SentPart(number=number, nbytes=len(data), md5=md5, etag=md5)

    def listed(self) -> dict[int, tuple[int, str]] | None:
        with writing(self.address):
            if not self.parts.is_dir():
                return None
            found = {
                int(path.name): path.read_bytes() for path in self.parts.iterdir() if path.name.isdigit()
            }
        return {number: (len(data), hashlib.md5(data).hexdigest()) for number, data in found.items()}

    def complete(self, parts: Sequence[SentPart]) -> None:
        with writing(self.address):
            data = [(self.parts / str(part.number)).read_bytes() for part in parts]
            if [hashlib.md5(it).hexdigest() for it in data] != [part.etag for part in parts]:
                raise OSError("InvalidPart")  # as S3 says it
            _put(self.file, b"".join(data))
        self.give_up()

    def is_complete(self, parts: Sequence[SentPart]) -> bool:
        return False  # it is read, as where ETags are no MD5s

    def compared(self, parts: Sequence[SentPart]) -> str:
        data = self.file.read_bytes()
        for part in parts:
            if hashlib.md5(data[: part.nbytes]).hexdigest() != part.md5:
                return ""
            data = data[part.nbytes :]
        return "" if data else "reading it back"

    def give_up(self) -> None:
        shutil.rmtree(self.parts, ignore_errors=True)


def _put(path: Path, data: bytes | bytearray) -> None:
    """As any store does it: durable, and whole or not at all."""
    new = path.with_name(f"new-{secrets.token_hex(8)}")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
