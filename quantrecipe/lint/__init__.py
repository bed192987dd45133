"""Lint: what `quantrecipe check` finds in recipes, each kind of finding with a code of its own."""

from quantrecipe.lint.codes import CODES, Code
from quantrecipe.lint.finding import Finding, Severity, worst
from quantrecipe.lint.run import Report, lint
from quantrecipe.lint.subject import GivenModel

__all__ = ["CODES", "Code", "Finding", "GivenModel", "Report", "Severity", "lint", "worst"]
