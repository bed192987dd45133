"""recognise: llama.cpp's name for the rules by which a tokenizer.json cuts text before merging.

The rules themselves are compared, brought into one form, with those of `pre_tokenizers.json`; never a hash of
what becomes of a sample text, which every retrained tokenizer changes. Forms that mean the same are one:

    Digits(individual)                         Split("\\p{N}", Isolated)
    ByteLevel(use_regex)                       Split(GPT-2's expression, Isolated), then bytes
    Split(…, Removed, invert)                  Split(…, Isolated), where every character is in some match
    other spellings of an expression           _SPELLINGS: a line end or its escape, (?i:'s) or '[sS], …

Many rules have several names in llama.cpp, which differ in whose model they are called after. The architecture says
which of them it goes by. llama.cpp doesn't normalize what it tokenizes. NFC is let through, since it leaves practically
all text as it is; for text that isn't in NFC, llama.cpp's ids are those of the text as it stands.
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
from quantrecipe.wording import shortened

__all__ = [
    "PreTokenizer",
    "check_name",
    "known_names",
    "known_pre_tokenizers",
    "name_of_expression",
    "recognise",
]

_TABLE = "model/tokenizer/pre_tokenizers.json"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel(use_regex) splits by. Source: Hugging Face tokenizers, pre_tokenizers/byte_level.rs."""
_BYTES = "bytes"
_SPELLINGS = (
    ("\r", r"\r"),
    ("\n", r"\n"),
    (r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    (r"'(?i:[sdmt]|ll|ve|re)", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    (r"\p{N}{1}|", r"\p{N}|"),
    (r"\s*[\r\n]|", r"\s*[\r\n]+|"),  # \s* takes all but the last line end of a run
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),  # possessive: what follows is never within
    (r"[^\s\p{L}\p{N}]++[\r\n]*", r"[^\s\p{L}\p{N}]+[\r\n]*"),
)
"""Spellings, and the one that the table has for the same matches."""
_HARMLESS = ("NFC",)
_LONGEST_RULES = 2000
"""Characters of rules in a message: all of any model's, and not a page of a file that was made to fill it."""
_OVERRIDE = "if you know that one of these is right, say so: --pre NAME"


@dataclass(frozen=True, kw_only=True, slots=True)
class PreTokenizer:
    """Rules of cutting text that llama.cpp has under one name or several.

    names:         what llama.cpp calls them, first the one to take where nothing else is known
    of:            whose rules they are
    splits:        expressions, one after the other; each match is a piece of its own
    ignore_merges: True where a piece that is a token is taken whole
    form:          the whole pre_tokenizer of tokenizer.json, where the rules aren't expressions alone
    """

    names: tuple[str, ...]
    of: str
    ignore_merges: bool
    splits: tuple[str, ...]
    form: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name to take where nothing else is known."""
        return self.names[0]


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


def recognise(path: Path, tokenizer: Mapping[str, Any], preferred: tuple[str, ...] = ()) -> str:
    """The name of the rules in tokenizer.json: of several, the first that `preferred` has.

    A name of `preferred` counts, too, where llama.cpp has the same expressions and only ignore_merges differs: that is
    how its converter names such models. ModelError, which shows the rules, where llama.cpp has none such.
    """
    known = known_pre_tokenizers()
    try:
        normalizers = list(_normalizers(tokenizer.get("normalizer")))
        steps = list(_steps(tokenizer.get("pre_tokenizer")))
    except (AttributeError, TypeError, KeyError) as error:
        raise ModelError(
            f"its pre_tokenizer is not understood: {error!r}", "download it again", file=path
        ) from error
    if unknown := [step for step in normalizers if step not in _HARMLESS]:
        what = (
            f"normalizes text by {', '.join(unknown)}, which llama.cpp doesn't (known rules: {_all_names()})"
        )
        raise ModelError(what, _OVERRIDE, file=path)
    whole = bool(tokenizer["model"].get("ignore_merges"))
    alike = [rules for rules in known if _same(rules, steps)]
    alike.sort(key=lambda rules: rules.ignore_merges != whole)
    for rules in alike:
        if names := [name for name in preferred if name in rules.names]:
            return names[0]
    if alike and alike[0].ignore_merges == whole:
        return alike[0].name
    shown = shortened(json.dumps(tokenizer.get("pre_tokenizer"), ensure_ascii=False), _LONGEST_RULES)
    what = (
        f"llama.cpp has no name for its rules: pre_tokenizer {shown} with ignore_merges {str(whole).lower()}"
    )
    raise ModelError(f"{what} (known: {_all_names()})", _OVERRIDE, file=path)


def name_of_expression(expression: str, preferred: tuple[str, ...] = ()) -> str | None:
    """The name of the rules that are one expression and all merges, None where llama.cpp has none such."""
    for rules in known_pre_tokenizers():
        if rules.splits == (_one_spelling(expression),) and not rules.ignore_merges:
            return next((name for name in preferred if name in rules.names), rules.name)
    return None


def _all_names() -> str:
    return ", ".join(rules.name for rules in known_pre_tokenizers())


def _same(rules: PreTokenizer, steps: list[Any]) -> bool:
    if rules.form is not None:
        return steps == list(_steps(rules.form))
    return steps[-1:] == [_BYTES] and _isolated(steps[:-1]) == tuple(map(_one_spelling, rules.splits))


def _one_spelling(expression: str) -> str:
    for spelling, usual in _SPELLINGS:
        expression = expression.replace(spelling, usual)
    return expression


def _normalizers(normalizer: Any) -> Iterator[str]:
    if normalizer is None:
        return
    if normalizer["type"] == "Sequence":
        for step in normalizer["normalizers"]:
            yield from _normalizers(step)
    else:
        yield str(normalizer["type"])


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
            yield (_one_spelling(rule["pattern"]["Regex"]), rule["behavior"], bool(rule.get("invert", False)))
        case _:
            yield rule


def _isolated(steps: list[Any]) -> tuple[str, ...] | None:
    """The expressions of steps that isolate all their matches, None where one does something else."""
    if len(steps) == 1 and isinstance(steps[0], tuple) and steps[0][1:] == ("Removed", True):
        # what matches is kept: the same where something of the expression matches every character
        return (steps[0][0],) if steps[0][0].endswith(r"|\s+") else None
    if all(isinstance(step, tuple) and step[1:] == ("Isolated", False) for step in steps):
        return tuple(step[0] for step in steps)
    return None
