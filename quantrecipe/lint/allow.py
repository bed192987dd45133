"""Comments by which a recipe says that a finding is known, and why it stays.

    - tensors: ssm_out
      type: Q3_K                # allow QR302: measured, KLD 0.0021 against 0.0020 with Q5_K

`# allow CODE: reason` covers the rule that it stands in or right before; outside the lists its own line, or the next
one with content; before the first line, what is said of the whole file. Several codes are separated by commas. Errors
can't be allowed. One that covers nothing, or gives no reason, is a finding itself (QR103).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quantrecipe.errors import Problem
from quantrecipe.lint.codes import CODES
from quantrecipe.lint.finding import Finding

__all__ = ["apply_allowances"]

_COMMENT = re.compile(
    r"(?:^|\s)#\s*allow\s+(?P<codes>QR[0-9]{3}(?:\s*,\s*QR[0-9]{3})*)\s*(?::\s*(?P<reason>.*))?$"
)
_ITEM = re.compile(r"\s*-\s")


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
        problem = Problem(what=what, remedy=remedy, file=file, line=allowance.line, code="QR103")
        yield Finding(code="QR103", severity=CODES["QR103"].severity, problem=problem)


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
