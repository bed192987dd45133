"""SHA-256 of files, and lists of them that `sha256sum -c` reads: of a release, and of `sign --checksums`.

5f70bf18…  My-Model-Q4_K_M.gguf
\\9b74c989…  a name with a \\n in it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from quantrecipe.errors import OutputError

__all__ = ["Heard", "hash_file", "sums_text"]

_PIECE = 1 << 22  # bytes read at a time

Heard = Callable[[int], None]
"""Told of bytes as they are hashed."""


def hash_file(path: Path, hear: Heard | None = None) -> str:
    """Compute the SHA-256 of a file, in hex. OutputError where it can't be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                if hear is not None:
                    hear(len(piece))
    except OSError as error:
        raise OutputError(f"can't be read: {error.strerror or error}", file=path) from error
    return digest.hexdigest()


def sums_text(sums: Mapping[str, str]) -> str:
    """Write the hashes by path, sorted. A line whose path has escapes begins with a backslash, as sha256sum's does."""
    lines = []
    for path in sorted(sums):
        escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{'' if escaped == path else chr(92)}{sums[path]}  {escaped}\n")
    return "".join(lines)
