"""Whose types a file has: a program reads its own dialect's, and an id that two dialects share can mean only one type.

ggml's types are everybody's: engines that have types of their own are forks of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantrecipe.errors import PlanError, Problem
from quantrecipe.plan.plan import Assignment

__all__ = ["check_dialects", "dialect_warnings"]

_EVERYBODYS = "ggml"
"""The dialect of mainline ggml, which every engine reads."""
_ENGINES = {"ik": "ik_llama.cpp"}
"""The programs that read a dialect, where its name doesn't say so."""


def check_dialects(assignments: Sequence[Assignment]) -> None:
    """PlanError if two types of one file have the same id in it."""
    by_id: dict[int, dict[str, Assignment]] = {}
    for assignment in assignments:
        by_id.setdefault(assignment.format.spec.ggml_type, {}).setdefault(assignment.type, assignment)
    problems = [
        Problem(
            what=f"{' and '.join(f'{name} ({_whose(a)}; {a.because})' for name, a in types.items())} "
            f"have the same id in files, {id_}: no program would tell them apart",
            remedy="use one of them",
        )
        for id_, types in sorted(by_id.items())
        if len(types) > 1
    ]
    if problems:
        raise PlanError(problems)


def dialect_warnings(assignments: Sequence[Assignment], engine: str | None) -> list[str]:
    """What is to be said of types that mainline llama.cpp doesn't have, unless the recipe's target is who has them.

    engine: the program that the recipe says will load the file, None if it doesn't say
    """
    counts: dict[str, int] = {}
    types: dict[str, set[str]] = {}
    for a in assignments:
        dialect = a.format.spec.dialect
        if dialect != _EVERYBODYS and _ENGINES.get(dialect, dialect) != engine:
            counts[dialect] = counts.get(dialect, 0) + 1
            types.setdefault(dialect, set()).add(a.type)
    warnings = [
        f"{count} tensor{'s' if count > 1 else ''} in types of {_ENGINES.get(dialect, dialect)} "
        f"({', '.join(sorted(types[dialect]))}): mainline llama.cpp, and what is built on it, can't read the file"
        for dialect, count in sorted(counts.items())
    ]
    if len(counts) > 1:
        whose = " and ".join(_ENGINES.get(dialect, dialect) for dialect in sorted(counts))
        warnings.append(f"types of {whose} in one file: neither may know the other's")
    return warnings


def _whose(assignment: Assignment) -> str:
    dialect = assignment.format.spec.dialect
    return f"a type of {_ENGINES.get(dialect, dialect)}"
