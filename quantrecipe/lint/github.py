"""GitHub's workflow commands: a line for each finding, which becomes an annotation on the lines of the pull request.

::error file=recipes/a.yaml,line=3,title=QR002::unknown key 'defautl'; did you mean 'default'?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.run import Report

__all__ = ["workflow_commands"]

_COMMANDS = {"error": "error", "warning": "warning", "advice": "notice"}


def workflow_commands(reports: Iterable[Report]) -> Iterator[str]:
    """The lines, in the order of the reports."""
    return (_line(finding) for report in reports for finding in report.findings)


def _line(finding: Finding) -> str:
    problem = finding.problem
    place: list[tuple[str, object]] = [("file", problem.file)] if problem.file is not None else []
    if problem.line:
        place.append(("line", problem.line))
        if problem.column:
            place.append(("col", problem.column))
    place.append(("title", finding.code))
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place)
    message = f"{problem.what}; {problem.remedy}" if problem.remedy else problem.what
    return f"::{_COMMANDS[finding.severity]} {properties}::{_data(message)}"


def _data(text: str) -> str:
    """What would end the command, or be taken for an escape, is escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
