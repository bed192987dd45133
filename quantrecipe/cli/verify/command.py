"""quantrecipe verify: is a file what it says it is?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.named_recipes import load_recipes, settings_option
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import FILE, file_option, folder_option
from quantrecipe.cli.options.shared import (
    arch_option,
    converter_option,
    json_option,
    part_option,
    pickle_option,
    threads_option,
)
from quantrecipe.cli.planned.inputs import grams_in, importance_in
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.output.verify.verification import Verification

__all__ = ["command"]


@subcommand(
    "verify",
    "quantrecipe verify mine.gguf",
    "quantrecipe verify mine.gguf --source model.safetensors --imatrix imatrix.gguf",
    "quantrecipe verify mine.gguf --source model.safetensors --all",
    "quantrecipe verify mine.gguf --lock mine.lock",
    "quantrecipe verify theirs.gguf --source model-BF16.gguf --recipe llama.cpp/Q4_K_M",
    "quantrecipe verify theirs.gguf --key public.pem",
)
@click.argument("file", type=FILE)
@file_option(
    "--source",
    metavar="MODEL",
    help="The model that FILE was made from: its content is checked, and tensors are quantized again.",
)
@file_option("--imatrix", metavar="MATRIX", help="The importance matrix that was used.")
@folder_option("--statistics", help="The Gram matrices that the recipe's encoder used.")
@click.option(
    "--recipe",
    metavar="RECIPE",
    help="For files that record none; of others it has to be the one that they record.",
)
@settings_option
@click.option(
    "--lock", "lock_file", metavar="LOCK", help="Hold FILE against the plan that `quantrecipe lock` froze."
)
@file_option("--key", metavar="PEM", help="Check the signature alone: it has to be of this public key.")
@file_option(
    "--chain",
    metavar="PEM",
    multiple=True,
    help="Check the signature alone: it has to be of a certificate under these. You may give it several times.",
)
@click.option(
    "--identity",
    metavar="NAME",
    help="Check the signature alone: it has to be of this identity at Sigstore, such as an e-mail address.",
)
@click.option("--issuer", metavar="URL", help="With --identity: who vouches for it.")
@file_option(
    "--signature", help="With those: the signature. [default: FILE.sig, of a folder model.sig in it]"
)
@count_option(
    "--sample",
    help="How many tensors to quantize again, of all types and roles in turn. [default: 16]",
    least=0,
)
@click.option("--all", "every", is_flag=True, help="Quantize every tensor again.")
@arch_option
@click.option("--pre", metavar="NAME", help="Pre-tokenizer, where it was given to apply.")
@part_option
@pickle_option
@converter_option
@threads_option
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    file: Path,
    source: Path | None,
    imatrix: Path | None,
    statistics: Path | None,
    recipe: str | None,
    settings: Mapping[str, str],
    lock_file: str | None,
    key: Path | None,
    chain: tuple[Path, ...],
    identity: str | None,
    issuer: str | None,
    signature: Path | None,
    sample: int | None,
    every: bool,
    arch: str | None,
    pre: str | None,
    part: str,
    allow_pickle: bool,
    converter: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check FILE, a GGUF (any shard stands for all), against the hashes and the recipe that it carries.

    Every byte is read. With --source, the model that it was made from is held against the file, too, and a sample of
    the tensors is quantized again and compared byte by byte. The exit status is 0 if nothing is wrong, 1 if anything
    is or can't be read.

    With --key, --chain or --identity, FILE (or a folder) is held against its signature instead: every byte is as it was
    when somebody signed it. This needs `pip install 'quantrecipe[sign]'`.
    """
    from quantrecipe.cli.apply_progress import apply_progress
    from quantrecipe.cli.verify.checks_table import render_verification
    from quantrecipe.cli.verify.signature import check_signature
    from quantrecipe.model.open_model import open_model
    from quantrecipe.output.verify.verify import SAMPLE, verify_file
    from quantrecipe.plan.review.lock_file import read_lock

    if key is not None or chain or identity is not None:
        others = (source, imatrix, statistics, recipe, lock_file, sample, every or None)
        if any(it is not None for it in others):
            raise click.UsageError("A signature is checked alone: leave out --source, --lock and their kin.")
        check_signature(
            ctx, file, signature, (key, chain, identity, issuer), threads=threads, as_json=as_json
        )
        return
    if signature is not None or issuer is not None:
        raise click.UsageError("--signature and --issuer need --key PEM, --chain PEM or --identity NAME.")
    if every and sample is not None:
        raise click.UsageError("--all and --sample exclude each other.")
    if source is None and (every or sample is not None or imatrix is not None):
        raise click.UsageError("--all, --sample and --imatrix need --source: what FILE was made from.")
    registry = ctx.load_registry()
    with apply_progress(ctx.err) as progress:
        verification = verify_file(
            file,
            registry=registry,
            source=None
            if source is None
            else open_model(
                source,
                arch=arch,
                part=part,
                pre=pre,
                allow_pickle=allow_pickle,
                converter=converter,
                registry=registry,
            ),
            importance=importance_in(imatrix),
            statistics=grams_in(statistics),
            recipe=None if recipe is None else load_recipes(ctx, [recipe], registry, settings)[0],
            lock=None if lock_file is None else read_lock(lock_file),
            sample=None if every else SAMPLE if sample is None else sample,
            threads=threads,
            progress=progress,
        )
    _show(ctx, verification, render_verification, as_json=as_json)
    if not verification.ok:
        raise click.exceptions.Exit(1)


def _show(ctx: Context, verification: Verification, render: Any, *, as_json: bool) -> None:
    if as_json:
        ctx.print_json(verification)
    else:
        ctx.console.print(render(verification))
