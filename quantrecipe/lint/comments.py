"""QR101 to QR103: what a recipe says to its readers: reasons, texts that YAML cuts, and comments that allow a finding.

    why: see #12727 for the measurement        is the text "see": the rest is a comment, and no error says so

    - tensors: ssm_out
      type: Q3_K                # allow QR302: measured, KLD 0.0021 against 0.0020 with Q5_K

`# allow CODE: reason` says that a finding is known, and why it stays. It covers the rule that it stands in or right
before; outside the lists its own line, or the next one with content; before the first line, what is said of the whole
file. Several codes are separated by commas. Errors can't be allowed. One that covers nothing, or gives no reason, is a
finding itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quantrecipe.errors import Problem
from quantrecipe.lint.finding import CODES, Finding
from quantrecipe.lint.subject import Subject

__all__ = ["apply_allowances", "cut_texts", "reasons"]

_CUT = re.compile(
    r"""^(?P<before>\s*(?:-\s+)?[A-Za-z_]+:\s+(?P<text>[^\s"'#|>&*!{\[][^#]*?))\s+(?P<rest>\#[^\s#].*)$"""
)
_COMMENT = re.compile(
    r"(?:^|\s)#\s*allow\s+(?P<codes>QR[0-9]{3}(?:\s*,\s*QR[0-9]{3})*)\s*(?::\s*(?P<reason>.*))?$"
)
_ITEM = re.compile(r"\s*-\s")


def reasons(subject: Subject) -> Iterator[Finding]:
    """Under --strict they are demanded."""
    for rule in subject.own_rules:
        if not rule.why:
            yield subject.finding(
                "QR101",
                rule.origin,
                "the rule gives no reason",
                "say why: the next reader has to decide whether it still holds",
                "error" if subject.strict else None,
            )


def cut_texts(text: str, file: str) -> Iterator[Finding]:
    """Plain texts with a # behind a space that something follows at once, as in #5: comments begin with `# `."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _CUT.match(line):
            problem = Problem(
                what=f"the text ends at {match['text'].split()[-1]!r}: {match['rest'][:40]!r} is a comment to YAML",
                remedy="quote the whole text, or put a space behind the # of a comment",
                file=file,
                line=number,
                column=match.start("rest") + 1,
            )
            yield Finding.of("QR102", problem)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Allowance:
    line: int
    codes: tuple[str, ...]
    reason: str
    covers: range


def apply_allowances(text: str, file: str, findings: Sequence[Finding], *, thorough: bool) -> list[Finding]:
    """The findings that aren't allowed, and those about the allowances themselves.

    Only a `thorough` check, on models of all kinds, can tell that there is nothing to allow.
    """
    allowances = list(_read(text))
    used: set[tuple[int, str]] = set()
    left: list[Finding] = []
    for finding in findings:
        allowing = _allowing(finding, allowances, file)
        if allowing is None or finding.severity == "error":
            left.append(finding)
        else:
            used.add((allowing.line, finding.code))
    for allowance in allowances:
        found = {code for line, code in used if line == allowance.line}
        left += _judge(allowance, file, found if thorough else set(allowance.codes))
    return left


def _allowing(finding: Finding, allowances: Sequence[_Allowance], file: str) -> _Allowance | None:
    if str(finding.problem.file) != file:
        return None
    line = finding.problem.line or 1
    return next(
        (it for it in allowances if finding.code in it.codes and line in it.covers and it.reason), None
    )


def _judge(allowance: _Allowance, file: str, used: set[str]) -> Iterator[Finding]:
    for code in allowance.codes:
        if code not in CODES:
            what, remedy = f"there is no code {code} to allow", "`quantrecipe help check` lists them"
        elif not allowance.reason:
            what = f"{code} is allowed without a reason"
            remedy = f"give one: # allow {code}: measured, and within the noise"
        elif code not in used:
            what, remedy = f"nothing here is {code}, so there is nothing to allow", "remove the comment"
        else:
            continue
        yield Finding.of("QR103", Problem(what=what, remedy=remedy, file=file, line=allowance.line))


def _read(text: str) -> Iterator[_Allowance]:
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if match := _COMMENT.search(line):
            codes = tuple(code.strip() for code in match["codes"].split(","))
            yield _Allowance(
                line=number,
                codes=codes,
                reason=(match["reason"] or "").strip(),
                covers=_covered(lines, number),
            )


def _covered(lines: Sequence[str], number: int) -> range:
    """The lines (from 1) that a comment in line `number` is about."""
    at = number
    if lines[number - 1].lstrip().startswith("#"):
        at = next((n for n in range(number + 1, len(lines) + 1) if _has_content(lines[n - 1])), number)
    start = next((n for n in range(at, 0, -1) if _begins(lines[n - 1])), at)
    if not _ITEM.match(lines[start - 1]):
        return range(1, at + 1) if _is_first(lines, at) else range(at, at + 1)
    end = next((n for n in range(start + 1, len(lines) + 1) if _begins(lines[n - 1])), len(lines) + 1)
    return range(start, end)


def _is_first(lines: Sequence[str], at: int) -> bool:
    """True of the first line with content: what is said of the whole file has line 1."""
    return not any(_has_content(line) for line in lines[: at - 1])


def _begins(line: str) -> bool:
    """A new item, or a key of the recipe itself."""
    return bool(_ITEM.match(line)) or (_has_content(line) and not line[0].isspace())


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
