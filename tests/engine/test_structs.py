"""The layouts of llama.cpp's structs that are known, by their defaults; and what is refused."""

from __future__ import annotations

import struct

import pytest

from quantrecipe.engine.structs import (
    Batch,
    ModelFields,
    Override,
    Parameters,
    StructError,
    Tensor,
    callback_offset,
    check_context,
    gpu_layers_offset,
    model_fields,
)

PAD = bytes(200)

MODELS = {
    # llama_model_default_params: devices, tensor_buft_overrides, n_gpu_layers, split_mode, …; offset of n_gpu_layers
    "2025-01": (struct.pack("=Qiiiixxxx", 0, 0, 1, 0, 0), 8),
    "2025-05": (struct.pack("=QQiiixxxx", 0, 0, 0, 1, 0), 16),
    "2025-05, Metal": (struct.pack("=QQiiixxxx", 0, 0, 999, 1, 0), 16),
    "2026-03": (struct.pack("=QQiiixxxx", 0, 0, -1, 1, 0), 16),
    "2026-10, load_mode and lazy_mode": (struct.pack("=QQiiiiixxxx", 0, 0, -1, 1, 3, 2, 0), 16),
}

CONTEXTS = {
    # llama_context_default_params: n_ctx, n_batch, n_ubatch, n_seq_max, …, rope_scaling_type and its two, …
    "2025-01": struct.pack("=9i", 512, 2048, 512, 1, 4, 4, -1, -1, -1),
    "2026-03, flash_attn_type": struct.pack("=10i", 512, 2048, 512, 1, 4, 4, -1, -1, -1, -1),
    "2026-06, n_rs_seq": struct.pack("=12i", 512, 2048, 512, 1, 0, 4, 4, 0, -1, -1, -1, -1),
    "2026-06, n_outputs_max": struct.pack("=13i", 512, 2048, 512, 1, 0, 0, 4, 4, 0, -1, -1, -1, -1),
    "2026-08, n_outputs_max_per_seq": struct.pack(
        "=14i", 512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, -1, -1, -1, -1
    ),
}


FLAGS = {
    # What comes from n_gpu_layers on: numbers, padding, four pointers, flags; what follows a struct may be anything.
    "2025-01": (struct.pack("=iii4x4Q4?4x", 0, 1, 0, 0, 0, 0, 0, False, True, False, False), 49, None),
    "2025-08, use_extra_bufts": (
        struct.pack("=iii4x4Q6?2x", 0, 1, 0, 0, 0, 0, 0, False, True, False, False, True, False),
        49,
        52,
    ),
    "2026-03, use_direct_io": (
        struct.pack("=iii4x4Q8?", -1, 1, 0, 0, 0, 0, 0, False, True, False, False, False, True, False, False),
        49,
        53,
    ),
}
LOAD_MODES = {
    "2026-07, load_mode": struct.pack(
        "=iiii4Q6?", -1, 1, -1, 0, 0, 0, 0, 0, False, False, True, False, False, False
    ),
    "2026-10, lazy_mode": struct.pack(
        "=iiiii4x4Q6?", -1, 1, -1, 1, 0, 0, 0, 0, 0, False, False, True, False, False, False
    ),
}
ANYTHING = b"\1\7\xff" * 60


@pytest.mark.parametrize(("data", "use_mmap", "extra"), FLAGS.values(), ids=FLAGS)
def test_flags_of_a_model(data: bytes, use_mmap: int, extra: int | None) -> None:
    fields = model_fields(data + bytes(3) + ANYTHING, 0, load_mode=False)
    assert fields == ModelFields(load_mode=None, kv_overrides=40, use_mmap=use_mmap, use_extra_bufts=extra)


@pytest.mark.parametrize("data", LOAD_MODES.values(), ids=LOAD_MODES)
def test_load_mode_of_a_model(data: bytes) -> None:
    flags = len(data) - 6
    expected = ModelFields(load_mode=8, kv_overrides=flags - 8, use_mmap=None, use_extra_bufts=flags + 2)
    assert model_fields(data + ANYTHING, 0, load_mode=True) == expected


@pytest.mark.parametrize(
    ("data", "load_mode", "message"),
    [
        (
            struct.pack("=iii4x4Q4?4x", 0, 1, 0, 0, 0, 7, 0, False, True, False, False),
            False,
            "the flags are in no",
        ),
        (
            struct.pack("=iii4x4Q4?4x", 0, 1, 0, 0, 0, 0, 0, True, True, False, False),
            False,
            "the flags are in no",
        ),
        (bytes(80), False, "the flags are in no known place"),
        (struct.pack("=iii", -1, 1, 9) + bytes(80), True, "load_mode isn't behind split_mode"),
    ],
)
def test_flags_of_no_known_layout(data: bytes, load_mode: bool, message: str) -> None:
    with pytest.raises(StructError, match=message):
        model_fields(data + bytes(100), 0, load_mode=load_mode)


@pytest.mark.parametrize("between", [9, 11, 14])
def test_the_callback_of_a_context(between: int) -> None:
    """Behind numbers, some of which are 0: two pointers, then the types of the cache."""
    numbers = [7] * between + [0, 0]
    start = struct.pack(f"={len(numbers)}i", *numbers).ljust(-(-4 * len(numbers) // 8) * 8, b"\1")
    data = start + struct.pack("=fIf4xQQii", 1.0, 0, -1.0, 0, 0, 1, 1)
    assert callback_offset(data + ANYTHING) == len(data) - 24
    with pytest.raises(StructError, match="cb_eval, type_k and type_v are in no known place"):
        callback_offset(data[:-8] + struct.pack("=ii", 1, 0) + bytes(100))


def test_ggml_s_own_structs() -> None:
    assert (Tensor.ne.offset, Tensor.src.offset, Tensor.name.offset) == (16, 152, 256)
    assert (Override.key.offset, Override.number.offset) == (4, 136)


@pytest.mark.parametrize(("data", "offset"), MODELS.values(), ids=MODELS)
def test_parameters_of_a_model(data: bytes, offset: int) -> None:
    assert gpu_layers_offset(data + PAD) == offset


@pytest.mark.parametrize("data", CONTEXTS.values(), ids=CONTEXTS)
def test_parameters_of_a_context(data: bytes) -> None:
    assert check_context(data + PAD) == {"n_ctx": 0, "n_batch": 4, "n_ubatch": 8, "n_seq_max": 12}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=QQQii", 0, 0, 0, -1, 1),  # another pointer
        struct.pack("=QQii", 0, 0, -1, 2),  # another split_mode
        struct.pack("=QQii", 0, 0, 33, 1),
        struct.pack("=QQii", 0, 7, -1, 1),  # no pointer that is NULL
        struct.pack("=iiQQ", 0, 1, 0, 0),  # before November 2024: no devices
        b"",
    ],
)
def test_models_of_no_known_layout(data: bytes) -> None:
    with pytest.raises(StructError, match="n_gpu_layers and split_mode are in no known place"):
        gpu_layers_offset(data + PAD)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # before May 2024: a seed first
        (
            struct.pack("=10i", -1, 512, 2048, 512, 1, 4, 4, -1, -1, -1),
            "n_ctx is -1 in llama_context_params, not 512",
        ),
        (struct.pack("=10i", 512, 2048, 512, 7, 1, 4, 4, -1, -1, -1), "n_seq_max is 7"),
        (struct.pack("=10i", 512, 512, 2048, 1, 4, 4, -1, -1, -1, 0), "n_batch is 512"),
        (struct.pack("=9i", 512, 2048, 512, 1, 4, 4, 0, 0, 0), "rope_scaling_type is in no known place"),
        (
            struct.pack("=4i", 512, 2048, 512, 1) + bytes(80) + struct.pack("=3i", -1, -1, -1),
            "rope_scaling_type",
        ),
        (b"", "n_ctx is 0"),
    ],
)
def test_contexts_of_no_known_layout(data: bytes, message: str) -> None:
    with pytest.raises(StructError, match=message):
        check_context(data + PAD)


def test_there_is_room_for_more_than_any_llama_cpp_has() -> None:
    """The library writes what it has into them; its longest struct has less than 200 bytes."""
    parameters = Parameters()
    parameters.set(16, -7)
    assert len(bytes(parameters)) == 1024
    assert struct.unpack_from("=i", bytes(parameters), 16) == (-7,)
    assert Batch.behind.offset == 56
