"""Names: what a tensor is called in the GGUF, by gguf's tensor name map and what an architecture adds to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import gguf

__all__ = ["CLIPS", "COMPANIONS", "SUFFIXES", "Names", "layer_of"]

COMPANIONS = (".input_scale", ".scale")
"""Ends of names of what belongs to weights of NVFP4: their factor, and that of their inputs."""

CLIPS = (".input_max", ".input_min", ".output_max", ".output_min")
"""What a matrix of Gemma 4's towers has beside it: bounds of what goes in and comes out."""
SUFFIXES = (".weight", ".bias", *COMPANIONS, *CLIPS)
"""Ends of names that stay as they are."""

_BLOCK = re.compile(r"(?:^|\.)blk\.([0-9]{1,9})\.")
_LAYER = re.compile(r"\.(\d+)\.")


def layer_of(name: str) -> int | None:
    """The number of the layer in a name of a GGUF, of whichever tower: "v.blk.7.ln1.weight" → 7."""
    match = _BLOCK.search(name)
    return None if match is None else int(match[1])


class Names:
    """The names of one model's tensors."""

    def __init__(self, arch: str, layers: int, more: Mapping[str, str]) -> None:
        """`arch` is one that gguf has; `more`: templates with "{layer}", as in `Architecture.names`."""
        number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
        # gguf's class changes its table for an architecture (arctic), and forgets to change it back
        table = dict(gguf.TensorNameMap.block_mappings_cfg)
        own = type("OwnTable", (gguf.TensorNameMap,), {"block_mappings_cfg": table})
        self._map: gguf.TensorNameMap = own(number, layers)
        self._more: dict[str, str] = {}
        for name, to in more.items():
            for layer in range(layers) if "{layer}" in to else (0,):
                self._more[name.format(layer=layer)] = to.format(layer=layer)
        self._targets = frozenset(self._more.values())

    def gguf(self, name: str) -> str | None:
        """The name in the GGUF of a tensor of the checkpoint (or of the GGUF); None for one that isn't known."""
        suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
        stem = name.removesuffix(suffix)
        for whole, end in ((name, ""), (stem, suffix)):
            if whole in self._more or whole in self._targets:
                return self._more.get(whole, whole) + end
        return self._map.get_name(name, try_suffixes=SUFFIXES)

    def usual(self, name: str, taken: Mapping[str, str]) -> str:
        """What a tensor of the GGUF is probably called in the checkpoint: as in another layer, else as in the map.

        taken: tensors of the GGUF → the checkpoint's names of them
        """
        if (layer := _LAYER.search(name)) is not None:
            for other, stored in taken.items():
                same = _LAYER.search(other)
                if same is not None and other.replace(same[0], layer[0], 1) == name:
                    return stored.replace(same[0], layer[0], 1)
        stem, dot, suffix = name.rpartition(".")
        known = self._stored.get(stem)
        return known + dot + suffix if known else name

    @cached_property
    def _stored(self) -> dict[str, str]:
        """The map the other way round; of several names the one that newer models of transformers have."""
        found: dict[str, str] = {}
        for stored, (_, name) in self._map.mapping.items():
            if name != stored and (
                name not in found or stored.startswith(("model.layers.", "model.", "lm_head"))
            ):
                if name in found and found[name].startswith(("model.", "lm_head")):
                    continue
                found[name] = stored
        return found | {to: stored for stored, to in self._more.items()}
