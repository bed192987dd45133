"""llama.cpp's structs, checked before they are trusted: parameters of a model and of a context, the batch, and tensors.

A library says nothing about the layout of its structs, and llama.cpp changes them several times a year: fields are put
in between, and the rest moves. So as little as possible is believed, and that is held against what the library does:

    model     n_gpu_layers is written. It stands between one or two pointers that are NULL, and split_mode, which is 1.
    context   n_ctx, n_batch, n_ubatch and n_seq_max are written. They are the first fields, and 512, 2048, 512 and 1;
              rope_scaling_type, pooling_type and attention_type follow a few fields later, each -1.
    batch     everything is used. `llama_batch_init` leaves it with five pointers, and NULL for the embeddings.

For the model that is looked into and changed there are three more; without them a model can still be run:

    model     load_mode, or formerly use_mmap, and use_extra_bufts are written, so that weights can be; where they lie
              tells afterwards whether that was so. kv_overrides is written for what the file says otherwise. load_mode
              is the field after split_mode. The flags come after main_gpu and four pointers that are NULL, the last of
              which is kv_overrides; of those flags that are looked at, only these two are set.
    context   cb_eval is written: two pointers that are NULL, before type_k and type_v, both F16. It was the right place
              if it is called.
    tensor    is read. ggml makes some, and they are held against what its own functions say of them: see `graph`.

What is found elsewhere is an error, not a guess; `language_model.py` asks the context, once it is made, for the values
it got.
That is right for the headers of llama.cpp from January 2025 to October 2026; tests have the defaults of each layout.

All these structs have more than 16 bytes, so calling conventions return them through a pointer and pass them as a copy
in memory. A struct that is longer than the library's is therefore harmless where it is the last parameter, as it is
in every function that is called here: the library writes and reads the bytes that it knows. So the length needn't
be known.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

__all__ = [
    "KNOWN",
    "Batch",
    "InitParameters",
    "ModelFields",
    "Override",
    "Parameters",
    "StructError",
    "Tensor",
    "callback_offset",
    "check_batch",
    "check_context",
    "gpu_layers_offset",
    "model_fields",
]

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
_F16 = 1  # ggml.h: GGML_TYPE_F16, the default of type_k and type_v
_LOAD_MODES = range(-1, 5)  # llama.h: llama_load_mode, since summer of 2026
_LOAD_MODE_NONE = 0
_FLAGS = 6  # of llama_model_params, up to use_extra_bufts


class StructError(Exception):
    """What a library's struct holds where something else was expected."""


class Parameters(ctypes.Structure):
    """llama_model_params or llama_context_params: bytes, of which the library knows the first 80 to 200."""

    _fields_ = [("words", ctypes.c_uint64 * 128)]

    def set(self, offset: int, value: int) -> None:
        """Write a 32-bit number."""
        struct.pack_into("=i", self.words, offset, value)

    def set_byte(self, offset: int, value: int) -> None:
        """Write a flag."""
        struct.pack_into("=B", self.words, offset, value)

    def set_pointer(self, offset: int, function: object) -> None:
        """Write the address of a function, which the caller keeps alive."""
        struct.pack_into("P", self.words, offset, ctypes.cast(function, ctypes.c_void_p).value)  # type: ignore[arg-type]  # a function pointer


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


class InitParameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Override(ctypes.Structure):
    """llama_model_kv_override, of a whole number. A list of them ends with one whose key is empty."""

    _fields_ = [
        ("tag", ctypes.c_int),  # 0: LLAMA_KV_OVERRIDE_TYPE_INT
        ("key", ctypes.c_char * 128),
        ("number", ctypes.c_int64),
        ("rest", ctypes.c_char * 120),  # of a union with texts
    ]


class Tensor(ctypes.Structure):
    """ggml_tensor, as it is since November 2024."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
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


def callback_offset(defaults: bytes) -> int:
    """Where cb_eval is in llama_context_params, from its defaults. StructError where it is in no known place."""
    first = -(-_INT * (len(_CONTEXT) + _BETWEEN.start) // _POINTER) * _POINTER
    for offset in range(first, len(defaults) - 3 * _POINTER, _POINTER):
        pointers = defaults[offset : offset + 2 * _POINTER]
        if not any(pointers) and struct.unpack_from("=2i", defaults, offset + 2 * _POINTER) == (_F16, _F16):
            return offset
    raise StructError("cb_eval, type_k and type_v are in no known place of llama_context_params")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFields:
    """Where fields of llama_model_params are that are rarely written: offsets.

    load_mode:       None until summer of 2026
    kv_overrides:    a pointer
    use_mmap:        a flag; None since there is load_mode
    use_extra_bufts: a flag; None until summer of 2025
    """

    load_mode: int | None
    kv_overrides: int
    use_mmap: int | None
    use_extra_bufts: int | None


def model_fields(defaults: bytes, gpu_layers: int, *, load_mode: bool) -> ModelFields:
    """Find them, from the defaults. StructError where they are in no known place.

    load_mode: the library has a field of this name
    """
    after = gpu_layers + 2 * _INT  # split_mode stands between
    if load_mode and struct.unpack_from("=i", defaults, after)[0] not in _LOAD_MODES:
        raise StructError("load_mode isn't behind split_mode in llama_model_params")
    # main_gpu, which load_mode and lazy_mode may stand before, and four pointers, which are NULL.
    for main_gpu in (after + 2 * _INT, after + _INT) if load_mode else (after,):
        start = -(-(main_gpu + _INT) // _POINTER) * _POINTER
        flags = start + 4 * _POINTER
        if any(defaults[main_gpu : main_gpu + _INT]) or any(defaults[start:flags]):
            continue
        ones = [flags + number for number in range(_FLAGS) if defaults[flags + number] == 1]
        # vocab_only is first; use_mmap is next, if there is no load_mode; the next that is set is use_extra_bufts.
        if ones and ones[0] == flags + (2 if load_mode else 1):
            use_mmap, *extra = (None, *ones) if load_mode else ones
            return ModelFields(
                load_mode=after if load_mode else None,
                kv_overrides=flags - _POINTER,
                use_mmap=use_mmap,
                use_extra_bufts=extra[0] if extra else None,
            )
    raise StructError("the flags are in no known place of llama_model_params")


def check_batch(batch: Batch, size: int) -> None:
    """What llama_batch_init made for `size` tokens, one sequence each. StructError where it is something else."""
    pointers = [bool(getattr(batch, name)) for name in ("token", "pos", "n_seq_id", "seq_id", "logits")]
    if batch.n_tokens != 0 or batch.embd or not all(pointers):
        raise StructError("llama_batch_init leaves other fields than those of the llama_batch that is known")
    ends = [bool(batch.seq_id[number]) for number in (0, size - 1, size)]
    if ends != [True, True, False]:  # llama.cpp ends this list with NULL
        raise StructError("seq_id isn't in its place in llama_batch")
