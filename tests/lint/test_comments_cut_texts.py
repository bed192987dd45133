"""QR102: a # that nobody quoted."""

import pytest

from quantrecipe.lint.comments import cut_texts


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("    why: see #12727", "#12727"),
        ("summary: issue #3, again", "#3, again"),
        ("  - why: a #b", "#b"),
        ('    why: "see #12727"', None),
        ("    why: see 'issue' # measured", None),
        ("    type: Q6_K   # more bits", None),
        ("    why: C#", None),
        ("    why: a#b", None),
        ("# see #12", None),
        ("    why: # nothing", None),
    ],
)
def test_lines(line: str, cut: str | None) -> None:
    findings = list(cut_texts(f"quantrecipe: 1\n{line}\n", "a.yaml"))
    if cut is None:
        assert findings == []
    else:
        (finding,) = findings
        assert (finding.code, finding.problem.line) == ("QR102", 2)
        assert finding.problem.column == line.index(cut) + 1
        assert repr(cut) in finding.problem.what
