"""What the metadata of a GGUF says of weights that a checkpoint stores quantized.

    general.file_type                                       NVFP4, MXFP4_MOE, or else BF16
    general.tensor_extra.name, general.tensor_extra.prec_a4 NVFP4 weights whose activations have 16 bits (W4A16_NVFP4)

Source: llama.cpp's conversion/base.py, _tag_prec_a4 and prepare_metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.quantized.quantization import module_name, quantization_of
from quantrecipe.model.pairs import Pairs, texts

__all__ = ["computes_in_16_bits", "quantized_file_type", "tensor_extra_pairs"]


def quantized_file_type(types: Iterable[str]) -> str:
    """What `general.file_type` the converter gives a file with tensors of these types: a name of FILE_TYPES."""
    found = set(types)
    return "NVFP4" if "NVFP4" in found else "MXFP4_MOE" if "MXFP4" in found else "BF16"


def computes_in_16_bits(config: Config) -> Callable[[str], bool]:
    """Whether NVFP4 weights of this name are for activations of 16 bits (W4A16_NVFP4), and not of 4.

    A name is one of the checkpoint; for a stack of experts, without their numbers: "….mlp.experts.up_proj.weight".
    """
    quantization = quantization_of(config)
    everywhere = "" if quantization is None else str(quantization.settings.get("quant_algo"))
    algorithms = {} if quantization is None else quantization.algorithms

    def find(name: str) -> bool:
        module = module_name(name).removesuffix(".weight")
        while module and module not in algorithms:
            module = module.rpartition(".")[0]
        return algorithms.get(module, everywhere) == "W4A16_NVFP4"

    return find


def tensor_extra_pairs(names: Iterable[str]) -> Pairs:
    """The keys that tell llama.cpp not to round activations to 4 bits for these tensors, by GGUF name."""
    found = sorted(names)
    if not found:
        return {}
    return {
        "general.tensor_extra.name": texts(found),
        "general.tensor_extra.prec_a4": GGUFValue.array(ValueType.BOOL, [False] * len(found)),
    }
