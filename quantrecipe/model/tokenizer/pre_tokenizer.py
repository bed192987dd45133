"""recognise: llama.cpp's name for the rules by which a tokenizer.json cuts text before merging.

The rules themselves are compared, brought into one form, with those of `pre_tokenizers.json`; never a hash of
what becomes of a sample text, which every retrained tokenizer changes. Forms that mean the same are one:

    Digits(individual)                         Split("\\p{N}", Isolated)
    ByteLevel(use_regex)                       Split(GPT-2's expression, Isolated), then bytes
    Split(…, Removed, invert)                  Split(…, Isolated), where every character is in some match

llama.cpp doesn't normalize what it tokenizes. NFC is let through, since it leaves practically all text as it
is; for text that isn't in NFC, llama.cpp's ids are those of the text as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.packaged import packaged_table
from quantrecipe.typed import typed

__all__ = ["PreTokenizer", "check_name", "known_names", "known_pre_tokenizers", "recognise"]

_TABLE = "model/tokenizer/pre_tokenizers.json"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel(use_regex) splits by. Source: Hugging Face tokenizers, pre_tokenizers/byte_level.rs."""
_BYTES = "bytes"
_OVERRIDE = "if you know that one of these is right, say so: --pre NAME"


@dataclass(frozen=True, kw_only=True, slots=True)
class PreTokenizer:
    """Rules of cutting text that llama.cpp has under a name.

    splits:        expressions, one after the other; each match is a piece of its own
    ignore_merges: True where a piece that is a token is taken whole
    """

    name: str
    splits: tuple[str, ...]
    ignore_merges: bool


@cache
def known_pre_tokenizers() -> tuple[PreTokenizer, ...]:
    """Return the table of rules that are recognised."""
    return typed(packaged_table(_TABLE)["pre_tokenizers"], tuple[PreTokenizer, ...])


@cache
def known_names() -> tuple[str, ...]:
    """All names that llama.cpp loads, those of rules that the table doesn't have, too."""
    return tuple(packaged_table(_TABLE)["names"])


def check_name(name: str) -> None:
    """ModelError for a name that llama.cpp doesn't know: it would refuse the file."""
    if name not in known_names():
        close = get_close_matches(name.lower(), known_names(), 3, 0.6)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(known_names())}"
        raise ModelError(f"--pre {name}: llama.cpp has no pre-tokenizer of this name", remedy)


def recognise(path: Path, tokenizer: Mapping[str, Any]) -> str:
    """The name of the rules in tokenizer.json. ModelError, which shows them, where llama.cpp has none such."""
    known = known_pre_tokenizers()
    names = ", ".join(rules.name for rules in known)
    try:
        normalizers = list(_normalizers(tokenizer.get("normalizer")))
        steps = list(_steps(tokenizer.get("pre_tokenizer")))
    except (AttributeError, TypeError, KeyError) as error:
        raise ModelError(
            f"its pre_tokenizer is not understood: {error!r}", "download it again", file=path
        ) from error
    if unknown := [step for step in normalizers if step != "NFC"]:
        what = f"normalizes text by {', '.join(unknown)}, which llama.cpp doesn't (known rules: {names})"
        raise ModelError(what, _OVERRIDE, file=path)
    whole = bool(tokenizer["model"].get("ignore_merges"))
    if steps[-1:] == [_BYTES]:
        splits = _isolated(steps[:-1])
        for rules in known:
            if rules.splits == splits and rules.ignore_merges == whole:
                return rules.name
    shown = json.dumps(tokenizer.get("pre_tokenizer"), ensure_ascii=False)
    what = (
        f"llama.cpp has no name for its rules: pre_tokenizer {shown} with ignore_merges {str(whole).lower()}"
    )
    raise ModelError(f"{what} (known: {names})", _OVERRIDE, file=path)


def _normalizers(normalizer: Any) -> Iterator[str]:
    if normalizer is None:
        return
    if normalizer["type"] == "Sequence":
        for step in normalizer["normalizers"]:
            yield from _normalizers(step)
    else:
        yield normalizer["type"]


def _steps(rule: Any) -> Iterator[Any]:
    """The rules in a row: splits as (expression, behavior, invert), "bytes", and what has no such form as it is."""
    if rule is None:
        return
    match rule["type"]:
        case "Sequence":
            for step in rule["pretokenizers"]:
                yield from _steps(step)
        case "ByteLevel" if not rule.get("add_prefix_space", True):
            if rule.get("use_regex", True):
                yield (_GPT2, "Isolated", False)
            yield _BYTES
        case "Digits":
            yield (r"\p{N}" if rule["individual_digits"] else r"\p{N}+", "Isolated", False)
        case "Split" if "Regex" in rule["pattern"]:
            yield (rule["pattern"]["Regex"], rule["behavior"], bool(rule.get("invert", False)))
        case _:
            yield rule


def _isolated(steps: list[Any]) -> tuple[str, ...] | None:
    """The expressions of steps that isolate all their matches, None where one does something else."""
    if len(steps) == 1 and isinstance(steps[0], tuple) and steps[0][1:] == ("Removed", True):
        return (steps[0][0],)  # all single expressions of the table match every character
    if all(isinstance(step, tuple) and step[1:] == ("Isolated", False) for step in steps):
        return tuple(step[0] for step in steps)
    return None
