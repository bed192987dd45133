"""GPT-2's alphabet: every byte as a printable character, so that byte sequences can be written as text.

Bytes that print as themselves in Latin-1 stay; the others become the characters from U+0100 on, in their order.
"""

from __future__ import annotations

__all__ = ["as_text", "shown"]

_PLAIN = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = [byte for byte in range(256) if byte not in _PLAIN]
_SIGNS = [chr(byte) if byte in _PLAIN else chr(0x100 + _OTHERS.index(byte)) for byte in range(256)]
_LATIN = dict(enumerate(_SIGNS))
_BYTES = {sign: byte for byte, sign in enumerate(_SIGNS)}


def shown(raw: bytes) -> str:
    """The bytes as characters of the alphabet."""
    return raw.decode("latin-1").translate(_LATIN)


def as_text(signs: str) -> str:
    """The text whose bytes these are, with U+FFFD for what isn't UTF-8; itself where it has other characters."""
    if signs.isascii() or not all(map(_BYTES.__contains__, signs)):
        return signs
    return bytes(map(_BYTES.__getitem__, signs)).decode("utf-8", "replace")
