"""What `verify` found, as a person reads it: a line for each check, and below it everything that is wrong."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Cell, Paragraph, Table
from quantrecipe.cli.units import bytes_text, counted, duration_text
from quantrecipe.output.verify.verification import Finding, Verification

__all__ = ["render_verification"]

_MARKS = {"ok": ("ok", "green"), "failed": ("WRONG", "bold red"), "skipped": ("not checked", "yellow")}
# Findings of one check that are listed; --json has all.
_SHOWN = 40


def render_verification(verification: Verification) -> RenderableType:
    """The checks, what they found, and the answer."""
    rows: list[tuple[Cell, ...]] = []
    findings: list[RenderableType] = []
    for check in verification.checks:
        rows.append((check.name, _MARKS[check.status], (check.said, "dim")))
        findings += [_finding(finding) for finding in check.findings[:_SHOWN]]
        if len(check.findings) > _SHOWN:
            findings.append(
                Paragraph(f"  … and {len(check.findings) - _SHOWN} more; --json lists them", "dim")
            )
    lines: list[RenderableType] = [Table(("word", "word", "text"), rows)]
    if findings:
        lines += [Text(), *findings, Text()]
    lines.append(_answer(verification))
    return Group(*lines)


def _finding(finding: Finding) -> Paragraph:
    text = Text("✗ ", "red")
    if finding.file is not None:
        text.append(f"{printable(str(finding.file))}: ", "bold")
    if finding.tensor is not None:
        text.append(f"{printable(finding.tensor)}: ", "bold")
    text.append(printable(finding.what))
    if finding.tensor is None and finding.offset is not None and "byte " not in finding.what:
        text.append(f" (at byte {finding.offset:,})")
    return Paragraph(text)


def _answer(verification: Verification) -> Paragraph:
    name = printable(str(verification.path))
    took = f", {bytes_text(verification.read)} read in {duration_text(verification.seconds)}"
    said = "it says" if verification.claims else "the recipe makes of the source"
    if not verification.ok:
        found = counted(len(verification.findings), "finding")
        return Paragraph(
            Text.assemble((f"{name} is not what {said}", "bold red"), f": {found}{took}"), whole=name
        )
    skipped = [check.name for check in verification.checks if check.status == "skipped"]
    but = f"; not checked: {', '.join(skipped)}" if skipped else ""
    return Paragraph(Text.assemble((f"{name} is what {said}", "bold green"), f"{but}{took}"), whole=name)
