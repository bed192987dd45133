"""llama.cpp's structs, checked before they are trusted: the parameters of a model and of a context, and the batch.

A library says nothing about the layout of its structs, and llama.cpp changes them several times a year: fields are put
in between, and the rest moves. So as little as possible is believed, and that is held against what the library does:

    model     n_gpu_layers is written. It stands between one or two pointers that are NULL, and split_mode, which is 1.
    context   n_ctx, n_batch, n_ubatch and n_seq_max are written. They are the first fields, and 512, 2048, 512 and 1;
              rope_scaling_type, pooling_type and attention_type follow a few fields later, each -1.
    batch     everything is used. `llama_batch_init` leaves it with five pointers, and NULL for the embeddings.

What is found elsewhere is an error, not a guess; `engine.py` asks the context, once it is made, for the values it got.
That is right for the headers of llama.cpp from January 2025 to October 2026; tests have the defaults of each layout.

All these structs have more than 16 bytes, so calling conventions return them through a pointer and pass them as a copy
in memory. A struct that is longer than the library's is therefore harmless where it is the last parameter, as it is
in every function that is called here: the library writes and reads the bytes that it knows. So the length needn't
be known.
"""

from __future__ import annotations

import ctypes
import struct

__all__ = ["KNOWN", "Batch", "Parameters", "StructError", "check_batch", "check_context", "gpu_layers_offset"]

KNOWN = "llama.cpp from January 2025 (b4500) to October 2026"
"""The versions whose headers were looked at."""

_POINTER = struct.calcsize("P")
_INT = struct.calcsize("i")

_GPU_LAYERS = (0, 999, -1)  # defaults of n_gpu_layers: until 2025, the same with Metal, and since
_SPLIT_MODE_LAYER = 1  # llama.h: LLAMA_SPLIT_MODE_LAYER, the default of split_mode

_CONTEXT = {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1}  # llama_context_default_params
_UNSPECIFIED = (-1, -1, -1)  # of rope_scaling_type, pooling_type, attention_type
_BETWEEN = range(2, 13)
"""Fields between n_seq_max and rope_scaling_type: the two numbers of threads, and since 2026 up to four more."""


class StructError(Exception):
    """What a library's struct holds where something else was expected."""


class Parameters(ctypes.Structure):
    """llama_model_params or llama_context_params: bytes, of which the library knows the first 80 to 200."""

    _fields_ = [("words", ctypes.c_uint64 * 128)]

    def set(self, offset: int, value: int) -> None:
        """Write a 32-bit number."""
        struct.pack_into("=i", self.words, offset, value)


class Batch(ctypes.Structure):
    """llama_batch, and room for what a newer one may have behind it."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
        ("behind", ctypes.c_uint64 * 16),
    ]


def gpu_layers_offset(defaults: bytes) -> int:
    """Where n_gpu_layers is in llama_model_params, from its defaults. StructError where it is in no known place."""
    for pointers in (2, 1):  # `devices`, and since April 2025 `tensor_buft_overrides`
        offset = pointers * _POINTER
        layers, split_mode = struct.unpack_from("=ii", defaults, offset)
        if not any(defaults[:offset]) and layers in _GPU_LAYERS and split_mode == _SPLIT_MODE_LAYER:
            return offset
    raise StructError("n_gpu_layers and split_mode are in no known place of llama_model_params")


def check_context(defaults: bytes) -> dict[str, int]:
    """The offsets of the fields of llama_context_params that are written. StructError where they hold no defaults."""
    found = dict(zip(_CONTEXT, struct.unpack_from("=4i", defaults), strict=True))
    if found != _CONTEXT:
        wrong = next(name for name in found if found[name] != _CONTEXT[name])
        raise StructError(f"{wrong} is {found[wrong]} in llama_context_params, not {_CONTEXT[wrong]}")
    first = len(_CONTEXT)
    if not any(
        struct.unpack_from("=3i", defaults, _INT * (first + between)) == _UNSPECIFIED for between in _BETWEEN
    ):
        raise StructError("rope_scaling_type is in no known place of llama_context_params")
    return {name: _INT * place for place, name in enumerate(_CONTEXT)}


def check_batch(batch: Batch, size: int) -> None:
    """What llama_batch_init made for `size` tokens, one sequence each. StructError where it is something else."""
    pointers = [bool(getattr(batch, name)) for name in ("token", "pos", "n_seq_id", "seq_id", "logits")]
    if batch.n_tokens != 0 or batch.embd or not all(pointers):
        raise StructError("llama_batch_init leaves other fields than those of the llama_batch that is known")
    ends = [bool(batch.seq_id[number]) for number in (0, size - 1, size)]
    if ends != [True, True, False]:  # llama.cpp ends this list with NULL
        raise StructError("seq_id isn't in its place in llama_batch")
