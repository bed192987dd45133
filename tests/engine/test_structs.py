"""The layouts of llama.cpp's structs that are known, by their defaults; and what is refused."""

from __future__ import annotations

import struct

import pytest

from quantrecipe.engine.structs import Batch, Parameters, StructError, check_context, gpu_layers_offset

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
