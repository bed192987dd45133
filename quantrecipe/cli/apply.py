"""quantrecipe apply: quantize a model as a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.delivery import Delivery, delivery_of, say_sent, sent_document
from quantrecipe.cli.errors import print_renamed, print_warning, printable
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.executors import check_executor
from quantrecipe.cli.options.paths import MODEL, RECIPE, delivered_option, file_option
from quantrecipe.cli.options.shared import engine_option, force_option
from quantrecipe.cli.options.sharing import Sharing, sharing_options
from quantrecipe.cli.options.texts import verify_layers_option, verify_option
from quantrecipe.cli.output_files import check_output, default_name
from quantrecipe.cli.planned.planning import (
    PlanOptions,
    load_planned,
    locked_option,
    plan_document,
    plan_options,
    print_told,
    require_locked,
    warn_of_matrices,
    warn_of_running,
)
from quantrecipe.cli.store.folder import store_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import OutputError
from quantrecipe.plain_data import rounded_bits
from quantrecipe.remote_files import forget
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from quantrecipe.model.objects import ObjectAddress
    from quantrecipe.output.apply import Result
    from quantrecipe.output.uploads.upload import Sent
    from quantrecipe.plan.plan import Plan
    from quantrecipe.refine import Trial

__all__ = ["command"]


class _NanChoice(click.Choice):  # type: ignore[type-arg]  # generic only in newer versions of click
    """The choices of --nan. `allow` was called `keep`, which still works for one more version, with a note."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "keep":
            value = "allow"
            if ctx is not None and not ctx.resilient_parsing:
                print_renamed(ctx.obj.err, "--nan keep", "--nan allow")
        return super().convert(value, param, ctx)


@subcommand(
    "apply",
    "quantrecipe apply recipes/code-model.yaml examples/tiny-code/model.safetensors",
    "quantrecipe apply llama.cpp/Q4_K_M model-BF16.gguf --imatrix imatrix.gguf -o model-Q4_K_M.gguf",
    "quantrecipe apply recipes/code-model.yaml model.safetensors --dry-run",
    "quantrecipe apply 'llama.cpp/Q4_*' recipes/mine.yaml model-BF16.gguf --out-dir release",
    "quantrecipe apply recipes/mine.yaml model-BF16.gguf --reuse mine-v1.gguf -o mine-v2.gguf",
    "quantrecipe apply 'llama.cpp/Q4_*' model-BF16.gguf --out-dir release --store ~/quantrecipe-store",
    "quantrecipe apply llama.cpp/Q4_K_M model-BF16.gguf --keep-part",
    "quantrecipe apply feedback.yaml model-BF16.gguf --statistics grams --verify held-out.txt",
    "quantrecipe apply Q4_K_M model-BF16.gguf -o shared/model.gguf --part $SLURM_ARRAY_TASK_ID/40",
    "quantrecipe apply Q4_K_M model-BF16.gguf -o shared/model.gguf --assemble",
)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...", type=RECIPE)
@click.argument("model", type=MODEL)
@delivered_option(
    "-o",
    "--output",
    help="Where to write; s3://BUCKET/FILE.gguf uploads it. [default: MODEL-RECIPE.gguf in the current folder]",
)
@delivered_option(
    "--out-dir",
    metavar="DIR",
    folder=True,
    help="Folder for the outputs, as with -o; made if it isn't there.",
)
@plan_options
@file_option(
    "--reuse",
    metavar="OLD.gguf",
    help="Copy the tensors of this older output whose source, type, options and importance are unchanged.",
)
@store_option
@sharing_options
@verify_option
@verify_layers_option
@engine_option
@force_option
@click.option(
    "--keep-part",
    is_flag=True,
    help="After Ctrl-C, keep what is done, for the same command to go on. [default: ask on a terminal, else remove it]",
)
@count_option("--threads", help="Threads that quantize. [default: all cores]")
@click.option(
    "--nan",
    type=_NanChoice(["error", "allow"]),
    default="error",
    show_default=True,
    help="NaN and Inf among the weights: stop, or go on (quantized types store 0 there).",
)
@click.option(
    "--keep-download",
    is_flag=True,
    help="Of a model on the hub or in a store: keep what came of its tensors for next time, as far as there is room.",
)
@locked_option
@click.option("--dry-run", is_flag=True, help="Show the plan, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@pass_context
def command(
    ctx: Context,
    /,
    recipes: tuple[str, ...],
    model: Path,
    output: Path | ObjectAddress | None,
    out_dir: Path | ObjectAddress | None,
    reuse: Path | None,
    store: Path | None,
    held_out: tuple[str, ...],
    by_layer: bool,
    engine: Path | None,
    force: bool,
    keep_part: bool,
    threads: int | None,
    nan: Any,
    keep_download: bool,
    locked: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize MODEL to a GGUF file as RECIPE says; with several recipes, to several files in one pass.

    RECIPE is a file, or the name of a recipe that ships (quantrecipe recipes): llama.cpp/Q4_K_M, Q4_K_M, or several as
    'llama.cpp/Q4_*'. MODEL is a Hugging Face folder, a .safetensors file in one, or a GGUF. Files appear under their
    names when they are whole; existing ones are kept unless --force says otherwise.

    A run that is killed, loses its power or fills the disk leaves FILE.quantrecipe-part and its journal: the same
    command goes on from there, and makes the same bytes. With --verify it starts over.

    With --verify, llama.cpp runs what an encoder made (`encoder: feedback`) and what plain encoding makes over text
    that gave no statistics. Both are made in a temporary folder beside the output, which becomes the better one.
    """
    from quantrecipe.cli.apply_progress import apply_progress, keep_asked
    from quantrecipe.cli.planned.plan_table import (
        render_plan,
        render_shared_warnings,
        render_summary,
        render_warnings,
    )
    from quantrecipe.output.apply import apply_plans, output_paths

    if output is not None and (len(recipes) > 1 or out_dir is not None):
        raise click.UsageError("-o names one file: use --out-dir for several recipes.")
    if by_layer and not held_out:
        raise click.UsageError("--verify-layers judges on the texts of --verify, and there are none.")
    sharing = Sharing(**{name: options.pop(name) for name in Sharing.__slots__})
    sharing.check(reuse=reuse, verify=held_out, keep_part=keep_part and not sharing.returned)
    check_executor(sharing.executor, sharing.executor_options, threads)
    wanted = PlanOptions(**options)
    planned = load_planned(ctx, recipes, model, wanted, globs=True)
    plans, registry = [planned.plan(it) for it in planned.recipes], planned.inputs.registry
    if output is not None and len(plans) > 1:  # a glob
        raise click.UsageError("-o names one file: use --out-dir for several recipes.")
    if held_out and len(plans) > 1:
        raise click.UsageError("--verify is for one recipe: run several, one after the other.")
    if sharing.wanted and len(plans) > 1:
        raise click.UsageError(
            "--part, --assemble and --executor are for one recipe: run one after the other."
        )
    if held_out and keep_part:
        raise click.UsageError("--keep-part and --verify exclude each other: what --verify tries isn't kept.")
    if held_out and locked is not None:
        raise click.UsageError("--locked and --verify exclude each other: a lock leaves nothing to decide.")
    require_locked(locked, plans, registry)
    delivery = delivery_of(output, out_dir)
    here, folder = _here(output, delivery), _folder(out_dir, delivery)
    paths = [here or folder / default_name(model, plan.recipe, part=wanted.part) for plan in plans]
    outputs = list(zip(plans, paths, strict=True))
    if dry_run:
        if as_json:
            documents = [
                plan_document(plan, wanted) | {"output": _name(path, delivery)} for plan, path in outputs
            ]
            ctx.print_json(documents if len(documents) > 1 else documents[0])
            return
        for plan, path in outputs:
            ctx.console.print(render_plan(plan, warnings=len(plans) == 1))
            print_told(ctx, plan, wanted)
            files = output_paths(path, len(plan.files))
            ctx.console.print(printable(f"would write {_names([_name(it, delivery) for it in files])}"))
        if len(plans) > 1 and any(plan.warnings for plan in plans):
            ctx.console.print(render_shared_warnings(plans))
        return
    if any(plan.warnings for plan in plans):
        ctx.err.print(render_warnings(plans[0]) if len(plans) == 1 else render_shared_warnings(plans))
    warn_of_matrices(ctx, plans)
    warn_of_running(ctx, plans, wanted)
    if isinstance(out_dir, Path):
        _make_folder(out_dir)
    if delivery is not None and sharing.pieces is None and (sharing.assemble or sharing.share is not None):
        raise click.UsageError("name the folder of the pieces with --pieces: -o lies in an object store.")
    trial: Trial | None = None
    if sharing.share is not None:
        from quantrecipe.cli.shared_work import run_part

        unchecked = run_part(
            *(ctx, plans[0], paths[0] if delivery is None else Path(paths[0].name), sharing, registry),
            as_json=as_json,
            threads=threads,
            force=force or delivery is not None,  # the file isn't written here
            nan=nan,
            store=store,
        )
        _leave_downloads(ctx, plans[0], unchecked, keep=keep_download)
        return
    if delivery is not None and sharing.assemble:
        result, sent = delivery.send_pieces(
            *(ctx, plans[0], paths[0], sharing.pieces or Path()),
            make=not sharing.no_make,
            force=force,
            registry=registry,
            threads=threads,
            nan=nan,
            store=store,
        )
        _leave_downloads(ctx, plans[0], result.unchecked, keep=keep_download)
        _say_sent(ctx, plans[0], result, delivery, sent, as_json=as_json)
        return
    overwrite = force or delivery is not None  # of what lies here until it is uploaded
    if delivery is not None:
        in_parts = sharing.returned and delivery.goes_in_parts(outputs)
        click.get_current_context().call_on_close(delivery.tidy)
        if delivery.begin(outputs, nan=nan, force=force, in_parts=in_parts):
            _say_uploaded(ctx, delivery.send(ctx, outputs, force=force), as_json=as_json)
            return
        executor = sharing.found_executor(registry) if in_parts else None
        if executor is not None:
            result, sent = delivery.send_by(
                *(ctx, plans[0], paths[0], executor),
                keep_part=keep_part,
                force=force,
                registry=registry,
                nan=nan,
                store=store,
            )
            _leave_downloads(ctx, plans[0], result.unchecked, keep=keep_download)
            _say_sent(ctx, plans[0], result, delivery, sent, as_json=as_json)
            return
    if sharing.wanted:
        from quantrecipe.cli.shared_work import write_shared

        results = [
            write_shared(
                *(ctx, plans[0], paths[0], sharing, registry),
                threads=threads,
                keep_part=keep_part,
                force=overwrite,
                nan=nan,
                store=store,
            )
        ]
    elif held_out:  # what runs models is loaded for this alone
        from quantrecipe.cli.trying import held_out_texts, write_better
        from quantrecipe.engine import require_engine

        check_output(paths[0], force=overwrite, gguf=True)
        texts = held_out_texts(ctx, planned, plans[0], held_out, paths[0].parent)
        plan, result, trial = write_better(
            *(ctx, planned, plans[0], texts, paths[0]),
            recipe=planned.recipes[0],
            by_layer=by_layer,
            force=overwrite,
            nan=nan,
            reuse=reuse,
            store=store,
            threads=threads,
            engine=require_engine(engine),
            log=ctx.engine_log,
        )
        plans, results = [plan], [result]
    else:
        with apply_progress(ctx.err) as progress:
            results = apply_plans(
                outputs,
                registry=registry,
                threads=threads,
                force=overwrite,
                nan=nan,
                reuse=reuse,
                store=store,
                progress=progress,
                resume=True,
                keep=keep_asked(ctx.err, progress, keep_part=keep_part),
            )
    _leave_downloads(ctx, plans[0], results[0].unchecked, keep=keep_download)
    sent = () if delivery is None else delivery.send(ctx, outputs, force=force)
    if as_json:
        written = [_document(plan, it, delivery, sent) for plan, it in zip(plans, results, strict=True)]
        if trial is not None:
            written[0]["verified"] = trial
        ctx.print_json(written if len(written) > 1 else written[0])
    else:
        ctx.console.print(render_summary(plans, results, written=delivery is None))
        say_sent(ctx, sent)
        if trial is not None:
            from quantrecipe.cli.trying import render_trial

            ctx.console.print(render_trial(trial))


def _say_sent(
    ctx: Context, plan: Plan, result: Result, delivery: Delivery, sent: Sequence[Sent], *, as_json: bool
) -> None:
    """What is said of files that never lay here."""
    from quantrecipe.cli.planned.plan_table import render_summary

    if as_json:
        ctx.print_json(_document(plan, result, delivery, sent))
    else:
        ctx.console.print(render_summary([plan], [result], written=False))
        say_sent(ctx, sent)


def _say_uploaded(ctx: Context, sent: Sequence[Sent], *, as_json: bool) -> None:
    """What is said of files that an earlier run has written, and this one uploaded."""
    if as_json:
        ctx.print_json({"uploaded": sent_document(sent)})
    else:
        say_sent(ctx, sent)


def _leave_downloads(ctx: Context, plan: Plan, unchecked: Sequence[Path], *, keep: bool) -> None:
    """Of a model on the hub: remove what was kept of it, unless it is to be kept, and tell what couldn't be checked."""
    if not keep:
        forget(plan.model.files)
    if unchecked:
        names = some_of([path.name for path in unchecked], 3)
        print_warning(ctx.err, f"{names}: not held against the hub's hash, since only a part of it was read")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"can't make the folder {folder}: {reason}", "name another with --out-dir"
        ) from error


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1].rpartition('/')[2]}"


def _here(output: Path | ObjectAddress | None, delivery: Delivery | None) -> Path | None:
    """What was given as -o, or stands for it on this machine."""
    return output if isinstance(output, Path) else None if delivery is None else delivery.output


def _folder(out_dir: Path | ObjectAddress | None, delivery: Delivery | None) -> Path:
    """The folder for outputs that weren't named."""
    if isinstance(out_dir, Path):
        return out_dir
    return Path() if delivery is None or delivery.out_dir is None else delivery.out_dir


def _name(path: Path, delivery: Delivery | None) -> str:
    """What a file is called where it goes to."""
    return str(path if delivery is None else delivery.address(path))


def _document(plan: Plan, result: Result, delivery: Delivery | None, sent: Sequence[Sent]) -> dict[str, Any]:
    from quantrecipe.plan.group import totals

    names = [_name(path, delivery) for path in result.paths]
    uploaded = [it for it in sent_document(sent) if it["address"] in names]
    return {
        "recipe": plan.recipe,
        "output": names[0],
        "files": names,
        "nbytes": result.nbytes,
        "weights": plan.size,
        "bits_per_weight": rounded_bits(plan.bits_per_weight),
        "seconds": round(result.seconds, 3),
        "compile_seconds": round(result.compile_seconds, 3),
        "read_bytes": result.read,
        "threads": result.threads,
        "plan_digest": plan.digest,
        "warnings": plan.warnings,
        "nonfinite": result.nonfinite,
        "remarks": result.remarks,
        "reused": result.reused,
        "from_store": result.from_store,
        "store_problems": result.store_problems,
        "resumed_weights": result.left,
        "made_again": result.differing,
        "types": totals(plan.assignments),
        **({} if delivery is None else {"uploaded": uploaded}),
    }
