"""The report: shares by folder and operator; every survivor with its place, its diff, and its reason if it has one."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.mutants.changes import OPERATORS
from tools.mutants.sample import Mutant, wilson
from tools.mutants.trial import Outcome

__all__ = ["read_reasons", "report"]

Pairs = Sequence[tuple[Mutant, Outcome]]
Reasons = dict[tuple[str, str, str], str]


def read_reasons(path: Path) -> Reasons:
    """Why survivors may live: by file, line before and line after (the lines' first, without indentation)."""
    if not path.exists():
        return {}
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", [])
    return {(it["file"], it["before"].strip(), it["after"].strip()): it["reason"] for it in found}


def report(pairs: Pairs, reasons: Reasons, doubtful: set[str]) -> Iterator[str]:
    """Lines. doubtful: tests that fail without any change; what they killed is counted as alive."""

    def killed(outcome: Outcome) -> bool:
        return outcome.killed and outcome.by not in doubtful

    def table(name: str, key: Callable[[Mutant], str], order: Sequence[str]) -> Iterator[str]:
        yield f"{name:13} killed   of"
        for value in order:
            members = [outcome for mutant, outcome in pairs if key(mutant) == value]
            if members:
                hits = sum(map(killed, members))
                yield f"{value:13} {hits:6} {len(members):4}  {hits / len(members):5.1%}"
        yield ""

    yield from table("folder", lambda it: it.folder, sorted({it.folder for it, _ in pairs}))
    yield from table("operator", lambda it: it.change.operator, OPERATORS)
    yield from table(
        "how",
        lambda it: dict(_how(pairs))[it.identity],
        ["failed", "not collected", "timeout", "crashed", "survived"],
    )
    alive = [(mutant, outcome) for mutant, outcome in pairs if not killed(outcome)]
    without = [(mutant, outcome) for mutant, outcome in alive if _reason(mutant, reasons) is None]
    yield _share("killed", len(pairs) - len(alive), len(pairs))
    yield _share(
        "killed, of those that have no reason to live",
        len(pairs) - len(alive),
        len(pairs) - len(alive) + len(without),
    )
    cut = sum(1 for _, outcome in alive if outcome.left_out)
    yield f"{cut} of the survivors have tests that were left out for the limit of time"
    yield from (f"fails without any change: {test}" for test in sorted(doubtful))
    for mutant, outcome in alive:
        yield from _survivor(mutant, outcome, _reason(mutant, reasons))


def _how(pairs: Pairs) -> Iterator[tuple[str, str]]:
    for mutant, outcome in pairs:
        yield mutant.identity, outcome.what


def _share(name: str, hits: int, of: int) -> str:
    low, high = wilson(hits, of)
    return f"{name}: {hits} of {of}, {hits / max(1, of):.1%} (95 % interval {low:.1%} to {high:.1%})"


def _survivor(mutant: Mutant, outcome: Outcome, reason: str | None) -> Iterator[str]:
    change = mutant.change
    before, after = mutant.diff
    tests = f"{outcome.run} tests" + (f", {outcome.left_out} left out" if outcome.left_out else "")
    yield ""
    yield f"{mutant.path}:{change.lines[0]} in {change.scope or 'the module'}: {change.operator} ({tests})"
    yield from (f"  - {line}" for line in before.splitlines())
    yield from (f"  + {line}" for line in after.splitlines())
    if reason is not None:
        yield f"  reason: {reason}"


def _reason(mutant: Mutant, reasons: Reasons) -> str | None:
    before, after = ((text.splitlines() or [""])[0] for text in mutant.diff)
    return reasons.get((mutant.path, before, after))
