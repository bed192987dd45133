"""quantrecipe formats: what recipes can say after `type:`, and what each of them costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.plain_data import fields_of

if TYPE_CHECKING:
    from quantrecipe.api import QuantFormat
    from quantrecipe.output.warm import KernelJob
    from quantrecipe.registry import Registry

__all__ = ["command"]


@subcommand("formats", "quantrecipe formats", "quantrecipe formats Q4_K", "quantrecipe formats --compile")
@click.argument("name", required=False)
@json_option
@click.option("--compile", "compile_", is_flag=True, help="Compile every kernel now, for later runs.")
@pass_context
def command(ctx: Context, name: str | None, as_json: bool, compile_: bool) -> None:
    """List the formats that recipes can use, or show everything about the one called NAME.

    Bits per weight and bytes are those of the file. Importance: "required" formats can't do without an importance
    matrix, "advised" ones lose much, "optional" ones use it if there is one, "ignored" ones never do.
    """
    registry = ctx.load_registry()
    formats = [registry.format(name)] if name else list(registry.formats.values())
    if compile_:
        _compile(ctx, [fmt for fmt in formats if fmt.spec.codec])
    elif as_json:
        documents = [_facts(registry, fmt) for fmt in formats]
        ctx.print_json(documents[0] if name else documents)
    else:
        ctx.console.print(_details(registry, formats[0]) if name else _table(registry, formats))


def _table(registry: Registry, formats: Sequence[QuantFormat]) -> Any:
    from quantrecipe.cli.tables import Kind, Table, numbers

    rows = []
    for fmt in sorted(formats, key=lambda fmt: (not fmt.spec.codec, fmt.spec.bits_per_weight, fmt.spec.name)):
        spec = fmt.spec
        row_meta = f" + {spec.row_meta_bytes}/row" if spec.row_meta_bytes else ""
        cells = (
            spec.name,
            f"{spec.bits_per_weight:.4f}".rstrip("0").rstrip("."),
            str(spec.block),
            f"{spec.block_bytes}{row_meta}",
            spec.importance if spec.codec else "copied only",
            spec.fallback or "",
            spec.dialect,
            registry.provider(spec.name).distribution,
        )
        rows.append([(cell, "" if spec.codec else "dim") for cell in cells])
    columns: dict[str, Kind] = {"format": "word", **numbers("bits/weight", "block", "bytes")}
    columns |= dict.fromkeys(("importance", "fallback", "dialect", "from"), "word")
    return Table(columns, rows)


def _details(registry: Registry, fmt: QuantFormat) -> Any:
    from quantrecipe.cli.tables import Table

    facts = {key.replace("_", " "): value for key, value in _facts(registry, fmt).items() if key != "options"}
    facts |= {f"option {name}": json.dumps(dict(schema)) for name, schema in fmt.option_schema.items()}
    rows = [((key, "bold"), "" if value is None else str(value)) for key, value in facts.items()]
    return Table(("word", "text"), rows)


def _facts(registry: Registry, fmt: QuantFormat) -> dict[str, Any]:
    spec = fmt.spec
    plugin = registry.provider(spec.name)
    return {
        **fields_of(spec, "name", "summary", "bits_per_weight", "block", "block_bytes", "row_meta_bytes"),
        **fields_of(spec, "rows_per_group", "ggml_type", "dialect", "importance", "fallback", "codec"),
        **fields_of(spec, "exactness", "error_bound", "version"),
        "plugin": f"{plugin.distribution} {plugin.version}",
        "options": fmt.option_schema,
    }


def _compile(ctx: Context, formats: Sequence[QuantFormat]) -> None:
    """Compile every kernel that isn't there yet, for later runs."""
    from quantrecipe.output.warm import compile_jobs

    jobs = [job for fmt in formats for job in _jobs(fmt)]
    with ctx.err.status("compiling") as status:
        compile_jobs(
            jobs, lambda number, total, what: status.update(f"compiling {number} of {total}: {what}")
        )
    ctx.console.print("1 format is ready." if len(formats) == 1 else f"{len(formats)} formats are ready.")


def _jobs(fmt: QuantFormat) -> Iterator[KernelJob]:
    """The kernels of a format."""
    from quantrecipe.output.warm import KernelJob

    if fmt.spec.importance != "required":
        yield KernelJob(format=fmt)
    if fmt.spec.importance != "ignored":
        yield KernelJob(format=fmt, weighted=True)
    yield KernelJob(format=fmt, decode=True)
