"""Command: what a command line of llama-quantize says, llama.cpp's or ik_llama.cpp's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantrecipe.exchange.overrides import Override
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue

__all__ = ["MIXTURES", "Command", "importance_of", "takes_patterns"]

MIXTURES: Mapping[str, str] = {
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "Q3_K": "Q3_K_M",
    "COPY": "COPY",
    **{name: name for name in FILE_TYPES if name != "NVFP4"},
}
"""Names that llama-quantize takes, and the recipe `llama.cpp/…` that is the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What a command line of llama-quantize says. `overrides` aren't lower-cased yet.

    mixture: its type; of ik_llama.cpp's own ones as written
    label:   the `file_type` that `--override-kv general.file_type=int:N` sets; None where it isn't set
    custom:  ik_llama.cpp's `--custom-q`; None where the command has none
    notes:   what it has that its program ignores, or that a recipe can't say
    """

    mixture: str
    overrides: tuple[Override, ...] = ()
    pure: bool = False
    leave_output: bool = False
    output_type: str | None = None
    embedding_type: str | None = None
    imatrix: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prune: tuple[int, ...] = ()
    metadata: Mapping[str, GGUFValue] = field(default_factory=dict)
    label: str | None = None
    custom: tuple[Override, ...] | None = None
    notes: tuple[str, ...] = ()


def importance_of(command: Command) -> dict[str, Any]:
    """Return the key `importance` of a recipe. Of a matrix whose path isn't known it says only that it is required."""
    said: dict[str, Any] = {}
    if command.imatrix:
        said["file"] = command.imatrix
    elif command.imatrix is not None:
        said["required"] = True
    if command.include:
        said["include"] = list(command.include)
    if command.exclude:
        said["exclude"] = list(command.exclude)
    return said


def takes_patterns(mixture: str) -> bool:
    """Say whether llama-quantize minds `--tensor-type` on this preset."""
    return mixture not in ("F32", "F16", "BF16", "COPY")
