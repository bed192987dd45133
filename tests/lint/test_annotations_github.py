"""Workflow commands: a line each, in which nothing of the text can end the command or begin another."""

from pathlib import Path

from quantrecipe.errors import Problem
from quantrecipe.lint import Finding, Report
from quantrecipe.lint.annotations import workflow_commands


def command(severity: str, **fields: object) -> str:
    problem = Problem(**fields)  # type: ignore[arg-type]
    finding = Finding(code="QR001", severity=severity, problem=problem)  # type: ignore[arg-type]
    (line,) = workflow_commands([Report(ref="a", recipe=None, findings=(finding,))])
    return line


def test_places_and_severities() -> None:
    line = command("error", what="bad", remedy="mend it", file="recipes/a.yaml", line=3, column=5)
    assert line == "::error file=recipes/a.yaml,line=3,col=5,title=QR001::bad; mend it"
    assert command("warning", what="a", file=Path("b.yaml")) == "::warning file=b.yaml,title=QR001::a"
    assert command("advice", what="a") == "::notice title=QR001::a"


def test_hostile_texts_stay_texts() -> None:
    line = command("error", what="100 %\n::set-output name=x::y\r", file="a,b:c.yaml", line=1)
    assert line == "::error file=a%2Cb%3Ac.yaml,line=1,title=QR001::100 %25%0A::set-output name=x::y%0D"
