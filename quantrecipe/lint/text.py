"""QR102: what YAML makes of a # that nobody quoted. The rest of the line is a comment, and no error says so.

why: see #12727 for the measurement        is the text "see"
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quantrecipe.errors import Problem
from quantrecipe.lint.codes import CODES
from quantrecipe.lint.finding import Finding

__all__ = ["cut_texts"]

_CUT = re.compile(
    r"""^(?P<before>\s*(?:-\s+)?[A-Za-z_]+:\s+(?P<text>[^\s"'#|>&*!{\[][^#]*?))\s+(?P<rest>\#[^\s#].*)$"""
)


def cut_texts(text: str, file: str) -> Iterator[Finding]:
    """Plain texts with a # behind a space that something follows at once, as in #5: comments begin with `# `."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _CUT.match(line):
            yield Finding(
                code="QR102",
                severity=CODES["QR102"].severity,
                problem=Problem(
                    what=f"the text ends at {match['text'].split()[-1]!r}: {match['rest'][:40]!r} is a comment to YAML",
                    remedy="quote the whole text, or put a space behind the # of a comment",
                    file=file,
                    line=number,
                    column=match.start("rest") + 1,
                    code="QR102",
                ),
            )
