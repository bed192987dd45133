"""SentencePiece models, put together from their fields."""

from __future__ import annotations

import struct


def message(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def piece(token: str, score: float, kind: int | None = None) -> bytes:
    body = message(1, token.encode()) + b"\x15" + struct.pack("<f", score)
    return message(1, body if kind is None else body + bytes([3 << 3, kind]))


BPE = message(2, bytes([3 << 3, 2]))
IDENTITY = message(3, message(1, b"identity") + bytes([4 << 3, 0]))
PIECES = (
    piece("<unk>", 0, 2)
    + piece("<s>", 0, 3)
    + piece("<0x00>", 0, 6)
    + piece("▁a", -1.5)
    + piece("<u>", -2, 4)
)
