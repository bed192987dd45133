"""Multipart: an upload whose parts may come in any order, and from any machine, as S3 has it.

Parts have the same size, but for the last one, since some stores that speak S3's protocol want that. Until the upload
is completed nothing has the file's name, and the store keeps the parts; whoever knows the upload's identifier can ask
which are there.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress, lacks_rights, shown
from quantrecipe.output.uploads.sending import writing

__all__ = ["Multipart", "SentPart", "takes_parts"]

_SCHEMES = ("s3", "s3a")
_GONE = "NoSuchUpload"


@dataclass(frozen=True, kw_only=True, slots=True)
class SentPart:
    """A part that the store has.

    number: counted from 0, where S3 counts from 1
    md5:    of its bytes, in hex
    etag:   what the store calls it: the MD5, unless it encrypts what it keeps
    """

    number: int
    nbytes: int
    md5: str
    etag: str


def takes_parts(address: ObjectAddress) -> bool:
    """True where a file can be sent in parts that come in any order."""
    return address.scheme in _SCHEMES


@dataclass(frozen=True, kw_only=True, slots=True)
class Multipart:
    """An upload that was begun. It may be sent to other processes, and used by several threads.

    upload: the store's identifier of it
    """

    address: ObjectAddress
    upload: str

    @classmethod
    def begin(cls, address: ObjectAddress) -> Multipart:
        """OutputError where nothing may be written there."""
        with writing(address):
            told = _call(address, "create_multipart_upload")
        return cls(address=address, upload=told["UploadId"])

    def send(self, number: int, data: bytes | bytearray) -> SentPart:
        """Send a part; one that was sent before is replaced. The store holds it against its MD5. OutputError."""
        md5 = hashlib.md5(data, usedforsecurity=False)
        with writing(self.address):
            try:
                told = self._call(
                    "upload_part",
                    PartNumber=number + 1,
                    Body=bytes(data),
                    ContentMD5=base64.b64encode(md5.digest()).decode(),
                )
            except FileNotFoundError as error:
                if _code(error) != _GONE:
                    raise
                raise self.gone() from error
        return SentPart(number=number, nbytes=len(data), md5=md5.hexdigest(), etag=_bare(told["ETag"]))

    def listed(self) -> dict[int, tuple[int, str]] | None:
        """Size and ETag of the parts that the store has, by number; None where it doesn't know the upload any more."""
        found: dict[int, tuple[int, str]] = {}
        after = 0
        with writing(self.address):
            while True:
                try:
                    told = self._call("list_parts", PartNumberMarker=after)
                except FileNotFoundError as error:
                    if _code(error) != _GONE:
                        raise
                    return None
                except Exception as error:
                    if not lacks_rights(error):
                        raise
                    raise OutputError(
                        f"the parts that were sent of {self.address} can't be listed: {shown(error)}",
                        "allow the keys of this machine to list them (s3:ListMultipartUploadParts); or leave out "
                        "--executor, and the file is sent from here, which needs no such list",
                    ) from error
                for part in told.get("Parts", ()):
                    found[part["PartNumber"] - 1] = (part["Size"], _bare(part["ETag"]))
                if not told.get("IsTruncated"):
                    return found
                after = int(told["NextPartNumberMarker"])

    def complete(self, parts: Sequence[SentPart]) -> None:
        """Make a file of all parts, in their order. OutputError."""
        said = [{"PartNumber": part.number + 1, "ETag": f'"{part.etag}"'} for part in parts]
        with writing(self.address):
            try:
                self._call("complete_multipart_upload", MultipartUpload={"Parts": said})
            except FileNotFoundError as error:
                if _code(error) != _GONE:
                    raise
                # An answer that was lost on its way makes the store be asked once more, for what is done.
                if not self.is_there(parts):
                    raise self.gone() from error

    def gone(self) -> OutputError:
        """What to raise where the store doesn't know the upload any more."""
        return OutputError(
            f"{self.address} can't be written: the upload is gone, since somebody, or a rule of the bucket, has given "
            "it up",
            "run the same command again: it begins anew",
        )

    def is_there(self, parts: Sequence[SentPart]) -> bool:
        """True where the file has its name, and is made of these parts. OutputError where the store can't say."""
        with writing(self.address):
            try:
                return bool(self.compared(parts))
            except (FileNotFoundError, PermissionError):
                return False

    def is_complete(self, parts: Sequence[SentPart]) -> bool:
        """True where the file has its name, and the store says that it is made of these parts."""
        system, path = self.address.opened()
        system.invalidate_cache()
        try:
            info: Mapping[str, Any] = system.info(path)
        except (FileNotFoundError, PermissionError):
            return False
        sums = b"".join(bytes.fromhex(part.md5) for part in parts)
        together = hashlib.md5(sums, usedforsecurity=False).hexdigest()
        size = sum(part.nbytes for part in parts)
        return info["size"] == size and _bare(str(info.get("ETag"))) == f"{together}-{len(parts)}"

    def compared(self, parts: Sequence[SentPart]) -> str:
        """How the file was found to be made of these parts, for people; "" where it isn't. Its errors pass."""
        if self.is_complete(parts):
            return "the store's MD5 of its parts"
        system, path = self.address.opened()
        if system.info(path)["size"] != sum(part.nbytes for part in parts):
            return ""
        begin = 0
        for part in parts:
            data = system.cat_file(path, start=begin, end=begin + part.nbytes)
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != part.md5:
                return ""
            begin += part.nbytes
        return "reading it back"

    def give_up(self) -> None:
        """Have the store throw the parts away, if it still has them."""
        with suppress(Exception):  # what ended the work is told
            self._call("abort_multipart_upload")

    def _call(self, method: str, **more: Any) -> Any:
        return _call(self.address, method, UploadId=self.upload, **more)


def _call(address: ObjectAddress, method: str, **more: Any) -> Any:
    """Ask the store, by the method of botocore's client; s3fs tries again what is worth it."""
    system, path = address.opened()
    bucket, _, key = path.partition("/")
    return system.call_s3(method, Bucket=bucket, Key=key, **more)


def _code(error: BaseException) -> str:
    """What S3 calls an error that s3fs has made one of Python's of."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _bare(etag: str) -> str:
    return etag.strip('"')
