"""Quantization: what a folder says of how its weights are quantized, checked when it is asked for.

    config.json            quantization_config: the method, and settings that each method calls differently
    hf_quant_config.json   the same from NVIDIA's ModelOpt, which older exports have beside a config.json that is silent

A file may name a type for all weights, or one for each module (`quantized_layers`, `config_groups`). Which type a
tensor has is told by the tensor itself: its dtype, and the scales beside it. So the settings only say what tensors
don't: bits and groups of packed integers, and the rows and columns of blocks.

Source: llama.cpp's conversion/base.py, prepare_tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, TypeAlias

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.json_file import read_json_object
from quantrecipe.wording import shortened

__all__ = ["ORIGINAL", "Block", "Integers", "Quantization", "module_name", "quantization_of"]

Block: TypeAlias = tuple[int, int] | None
"""Rows and columns that share a scale; None where the shape of the scales says what they are of."""

ORIGINAL = "start from the model's BF16, F16 or F32 weights"

_MODELOPT_FILE = "hf_quant_config.json"
_VARIANTS = {"compressed-tensors": "format", "modelopt": "quant_algo"}
"""Methods of which each variant stores weights in another way, and what names the variant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Integers:
    """Integers that are packed into I32. group: columns that share a scale, None where a row has one."""

    bits: int
    group: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """The settings of a quantized checkpoint.

    path:     the file that they are in, for errors
    method:   "fp8", "compressed-tensors", …; "" where it isn't given as a text
    settings: all that the file says
    """

    path: Path
    method: str
    settings: Mapping[str, Any]

    @property
    def variant(self) -> str:
        """compressed-tensors' format, or ModelOpt's algorithm; "" for other methods, and where it is missing."""
        return str(self.settings.get(_VARIANTS.get(self.method, "")) or "")

    @property
    def called(self) -> str:
        """The method as messages call it: "compressed-tensors float-quantized"."""
        if not self.method:
            return "an unknown method"
        return shortened(f"{self.method} {self.variant}".strip())

    @property
    def block(self) -> Block:
        """What method fp8 says of blocks. ModelError where it is none."""
        return self._block("weight_block_size", self.settings.get("weight_block_size"))

    @property
    def algorithms(self) -> Mapping[str, str]:
        """ModelOpt's algorithms of single modules: {"model.layers.0.mlp.up_proj": "W4A16_NVFP4"}."""
        modules = self._object("quantized_layers")
        return {
            module_name(name): str(entry.get("quant_algo"))
            for name, entry in modules.items()
            if isinstance(entry, dict)
        }

    @property
    def eight_bits(self) -> Block:
        """Blocks of compressed-tensors' 8-bit weights. ModelError where they aren't of a kind that can be read."""
        blocks = {
            self._eight_bits(format_, group) for format_, group in self._groups() if format_ in _EIGHT_BITS
        }
        if len(blocks) > 1:
            self.fail("has config_groups whose 8-bit weights have scales of different kinds")
        return blocks.pop() if blocks else None

    @property
    def integers(self) -> Integers:
        """compressed-tensors' packed integers. ModelError where groups differ, or are of a kind that can't be read."""
        found = {self._integers(group) for format_, group in self._groups() if format_ == "pack-quantized"}
        if len(found) != 1:
            self.fail(f"has {len(found)} kinds of packed integers among its config_groups (expected: 1)")
        return found.pop()

    @property
    def formats(self) -> frozenset[str]:
        """The formats of compressed-tensors' groups: several where the format is mixed-precision."""
        return frozenset(format_ for format_, _ in self._groups())

    def fail(self, what: str, remedy: str = ORIGINAL) -> Never:
        """Raise a ModelError about the settings."""
        raise ModelError(what, remedy, file=self.path)

    def _groups(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Format and settings of the weights of each of compressed-tensors' groups."""
        groups = self._object("config_groups")
        if not groups:
            self.fail("has 0 config_groups of quantized weights (expected: 1 or more)")
        found: list[tuple[str, Mapping[str, Any]]] = []
        for group in groups.values():
            weights = group.get("weights") if isinstance(group, dict) else None
            if not isinstance(weights, dict):
                self.fail("doesn't say how its weights are quantized (expected: config_groups with weights)")
            found.append((str(group.get("format") or self.variant), weights))
        return found

    def _eight_bits(self, format_: str, group: Mapping[str, Any]) -> Block:
        type_, bits = group.get("type"), group.get("num_bits")
        if (type_, bits) not in _EIGHT_BITS[format_]:
            expected = " or ".join(f"{type_!r} of {bits} bits" for type_, bits in _EIGHT_BITS[format_])
            said = f"{shown(type_)} of {shown(bits)} bits"
            self.fail(f"says that its weights are {said} (expected: {expected})")
        strategy = group.get("strategy")
        if strategy == "block":
            return self._block("block_structure", group.get("block_structure"))
        if strategy not in ("channel", "tensor"):
            self.fail(f"says strategy: {shown(strategy)} (expected: tensor, channel or block)")
        return None

    def _integers(self, group: Mapping[str, Any]) -> Integers:
        type_, bits, strategy = group.get("type", "int"), group.get("num_bits"), group.get("strategy")
        if (
            strategy not in ("group", "channel")
            or type_ != "int"
            or type(bits) is not int
            or bits not in (4, 8)
        ):
            said = f"{shown(type_)} of {shown(bits)} bits by {shown(strategy)}"
            self.fail(
                f"says that its weights are {said} (expected: 'int' of 4 or 8 bits by 'group' or 'channel')"
            )
        if strategy == "channel":
            return Integers(bits=bits, group=None)
        size = group.get("group_size")
        if type(size) is not int or size < 1:
            self.fail(f"says group_size: {shown(size)} (expected: a whole number above 0)")
        return Integers(bits=bits, group=size)

    def _object(self, name: str) -> Mapping[str, Any]:
        value = self.settings.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(f"says {name}: {shown(value)} (expected: an object)")
        return value

    def _block(self, name: str, value: Any) -> Block:
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) != 2
            or any(type(length) is not int or length < 1 for length in value)
        ):
            self.fail(f"says {name}: {shown(value)} (expected: rows and columns, such as [128, 128])")
        return value[0], value[1]


_EIGHT_BITS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "float-quantized": (("float", 8),),
    "int-quantized": (("int", 8),),
    "naive-quantized": (("float", 8), ("int", 8)),
}
"""compressed-tensors' formats of whole bytes, and the types that may be in them."""


def quantization_of(config: Config) -> Quantization | None:
    """How the folder says that its weights are quantized; None where it says nothing.

    ModelError where a setting has a type that it can't have.
    """
    settings = config.find("quantization_config")
    if not isinstance(settings, dict):
        settings = {}
    path = config.path
    modelopt = config.folder / _MODELOPT_FILE
    if not (settings.get("quant_algo") and settings.get("quantized_layers")) and modelopt.is_file():
        found, producer = _of_modelopt(modelopt)
        if not settings:
            path = modelopt
        settings = {"quant_method": producer, **settings, **found}
    if not settings:
        return None
    method = settings.get("quant_method")
    return Quantization(path=path, method=method if isinstance(method, str) else "", settings=settings)


def _of_modelopt(path: Path) -> tuple[Mapping[str, Any], str]:
    """What hf_quant_config.json says that can stand for what config.json doesn't, and which program made it."""
    content = read_json_object(path)
    quantization, producer = content.get("quantization") or {}, content.get("producer") or {}
    for name, value in (("quantization", quantization), ("producer", producer)):
        if not isinstance(value, dict):
            raise ModelError(f"says {name}: {shown(value)} (expected: an object)", ORIGINAL, file=path)
    keys = ("quant_algo", "quant_method", "format", "config_groups", "quantized_layers")
    known = {key: value for key in keys if (value := quantization.get(key)) is not None}
    return known, str(producer.get("name") or "").lower()


def module_name(name: str) -> str:
    """A module's name without the prefix that a model with several parts has for its text."""
    return name.replace("language_model.", "")
