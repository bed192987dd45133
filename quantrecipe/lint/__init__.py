"""Lint: what `quantrecipe check` finds in recipes, each kind of finding with a code of its own."""

from quantrecipe.lint.finding import CODES, Code, Finding, Severity, worst
from quantrecipe.lint.report import Report, lint
from quantrecipe.lint.subject import GivenModel

__all__ = ["CODES", "Code", "Finding", "GivenModel", "Report", "Severity", "lint", "worst"]
