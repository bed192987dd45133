"""A text in double quotes, for YAML."""

from __future__ import annotations

__all__ = ["quoted"]


def quoted(text: str) -> str:
    """The text in double quotes, with escapes that every YAML reader knows."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
