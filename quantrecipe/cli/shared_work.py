"""What `apply` does with --part, --assemble and --executor, and what it says of a part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantrecipe.cli.apply_progress import apply_progress, keep_asked
from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.units import counted, duration_text
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from quantrecipe.cli.options.sharing import Sharing
    from quantrecipe.output.apply import Result
    from quantrecipe.output.shares.part import PartResult
    from quantrecipe.plan.plan import Plan
    from quantrecipe.registry import Registry

__all__ = ["run_part", "write_shared"]

_SHOWN = 3


def run_part(
    ctx: Context,
    plan: Plan,
    path: Path,
    sharing: Sharing,
    registry: Registry,
    *,
    as_json: bool,
    **more: Any,
) -> tuple[Path, ...]:
    """Make what one of several processes makes, and say what is left. more: as `make_part` has it.

    The files on the hub that couldn't be checked.
    """
    from quantrecipe.output.shares.part import Part, make_part

    number, count = sharing.share or (1, 1)
    with apply_progress(ctx.err) as progress:
        result = make_part(
            plan,
            path,
            Part(number=number, count=count),
            registry=registry,
            pieces=sharing.pieces,
            progress=progress,
            **more,
        )
    if as_json:
        ctx.print_json(_document(plan, path, result))
    else:
        for line in _lines(path, result):
            ctx.say(printable(line))
    return result.unchecked


def write_shared(
    ctx: Context,
    plan: Plan,
    path: Path,
    sharing: Sharing,
    registry: Registry,
    *,
    threads: int | None,
    keep_part: bool,
    **more: Any,
) -> Result:
    """Assemble the file, or have an executor make it. more: as both have it."""
    executor = sharing.found_executor(registry)
    with apply_progress(ctx.err) as progress:
        if executor is None:
            from quantrecipe.output.shares.assemble import assemble

            return assemble(
                plan,
                path,
                make=not sharing.no_make,
                registry=registry,
                threads=threads,
                pieces=sharing.pieces,
                progress=progress,
                **more,
            )
        from quantrecipe.output.shares.by_executor import apply_by

        return apply_by(
            executor,
            plan,
            path,
            registry=registry,
            pieces=sharing.pieces,
            progress=progress,
            keep=keep_asked(ctx.err, progress, keep_part=keep_part),
            **more,
        )


def _lines(path: Path, result: PartResult) -> list[str]:
    there = result.units - len(result.left)
    what = f"part {result.part}: {counted(len(result.made), 'unit')} made in {duration_text(result.seconds)}"
    if result.taken:
        what += f", {result.taken} of them from the shares of others"
    lines = [f"{what}; of all {result.units}, {there} are in {result.folder}"]
    lines += [f"! {problem}" for problem in result.store_problems]
    if result.left:
        who = some_of(sorted({it.who for it in result.left}), _SHOWN)
        lines.append(f"{len(result.left)} left: {who}")
    else:
        lines.append(f"the same command with --assemble in place of --part writes {path}")
    return lines


def _document(plan: Plan, path: Path, result: PartResult) -> dict[str, Any]:
    return {
        "recipe": plan.recipe,
        "output": path,
        "part": str(result.part),
        "pieces": result.folder,
        "units": result.units,
        "made": len(result.made),
        "taken": result.taken,
        "left": [{"unit": it.unit.number, "what": it.unit.what, "who": it.who} for it in result.left],
        "seconds": round(result.seconds, 3),
        "compile_seconds": round(result.compile_seconds, 3),
        "read_bytes": result.read,
        "threads": result.threads,
        "from_store": result.from_store,
        "store_problems": result.store_problems,
    }
