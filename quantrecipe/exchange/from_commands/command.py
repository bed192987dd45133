"""Command: what a command line of llama-quantize says, llama.cpp's or ik_llama.cpp's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantrecipe.exchange.from_commands.overrides import Override
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue

__all__ = ["MIXTURES", "Command"]

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

    @property
    def importance(self) -> dict[str, Any]:
        """The key `importance` of a recipe. Of a matrix whose path isn't known it says only that it is required."""
        said: dict[str, Any] = {}
        if self.imatrix:
            said["file"] = self.imatrix
        elif self.imatrix is not None:
            said["required"] = True
        if self.include:
            said["include"] = list(self.include)
        if self.exclude:
            said["exclude"] = list(self.exclude)
        return said

    @property
    def takes_patterns(self) -> bool:
        """False if llama-quantize ignores `--tensor-type` on this preset, since it quantizes nothing."""
        return self.mixture not in ("F32", "F16", "BF16", "COPY")
