"""Findings as code hosts and editors read them: GitHub's workflow commands, and SARIF 2.1.0.

A workflow command is a line for each finding, which becomes an annotation on the lines of the pull request:

    ::error file=recipes/a.yaml,line=3,title=QR002::unknown key 'defautl'; did you mean 'default'?

SARIF is a standard of OASIS (sarif-v2.1.0).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import quantrecipe
from quantrecipe.errors import Problem
from quantrecipe.lint.finding import CODES, Finding
from quantrecipe.lint.report import Report

__all__ = ["artifact", "to_sarif", "workflow_commands"]

_COMMANDS = {"error": "error", "warning": "warning", "advice": "notice"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "advice": "note"}


def workflow_commands(reports: Iterable[Report]) -> Iterator[str]:
    """The lines, in the order of the reports."""
    return (_command(finding) for report in reports for finding in report.findings)


def _command(finding: Finding) -> str:
    problem = finding.problem
    place: list[tuple[str, object]] = [("file", problem.file)] if problem.file is not None else []
    if problem.line:
        place.append(("line", problem.line))
        if problem.column:
            place.append(("col", problem.column))
    place.append(("title", finding.code))
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place)
    return f"::{_COMMANDS[finding.severity]} {properties}::{_data(_message(problem))}"


def _data(text: str) -> str:
    """What would end the command, or be taken for an escape, is escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def to_sarif(reports: Iterable[Report]) -> dict[str, Any]:
    """One run with every finding. Paths are relative to the current folder where they are in it."""
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "quantrecipe",
                        "version": quantrecipe.__version__,
                        "semanticVersion": quantrecipe.__version__,
                        "rules": [
                            {
                                "id": code.code,
                                "shortDescription": {"text": code.title},
                                "defaultConfiguration": {"level": _LEVELS[code.severity]},
                            }
                            for code in CODES.values()
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding) for report in reports for finding in report.findings],
            }
        ],
    }


def _result(finding: Finding) -> dict[str, Any]:
    problem = finding.problem
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": list(CODES).index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(problem)},
    }
    if problem.file is None:
        return result
    uri = artifact(problem.file)
    if uri is None:  # a shipped recipe: it has a name, and no place in the repository
        result["locations"] = [{"logicalLocations": [{"fullyQualifiedName": str(problem.file)}]}]
        return result
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if problem.line:
        physical["region"] = {"startLine": problem.line}
        if problem.column:
            physical["region"]["startColumn"] = problem.column
    result["locations"] = [{"physicalLocation": physical}]
    return result


def artifact(file: str | Path) -> str | None:
    """The file as a URI reference; None where it is no file."""
    path = Path(file)
    if not path.is_file() and path.suffix not in (".yaml", ".yml"):
        return None
    try:
        relative = path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path.absolute().as_uri()
    # The name's bytes: it needn't be UTF-8, nor the locale's encoding.
    return "".join(map(_escape, os.fsencode(PurePosixPath(relative).as_posix())))


def _escape(byte: int) -> str:
    char = chr(byte)
    return char if char.isascii() and (char.isalnum() or char in "-._~/@+,=()'!$&*") else f"%{byte:02X}"


def _message(problem: Problem) -> str:
    return f"{problem.what}; {problem.remedy}" if problem.remedy else problem.what
