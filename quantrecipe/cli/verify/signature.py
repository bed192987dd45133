"""verify --key: a file, or a folder, held against its signature."""

from __future__ import annotations

from pathlib import Path

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.progress import HashBar
from quantrecipe.cli.sign import default_signature
from quantrecipe.cli.units import bytes_text, counted
from quantrecipe.output.signing.signatures import Trust, verify_signature

__all__ = ["check_signature"]


def check_signature(
    ctx: Context,
    file: Path,
    signature: Path | None,
    by: tuple[Path | None, tuple[Path, ...], str | None, str | None],
    *,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check it, and say so. by: key, chain, identity and issuer, one of the first three."""
    key, chain, identity, issuer = by
    if sum((key is not None, bool(chain), identity is not None)) > 1:
        raise click.UsageError("--key, --chain and --identity exclude each other.")
    if (identity is None) != (issuer is None):
        raise click.UsageError(
            "--identity and --issuer belong together: who it is, and who vouches for that."
        )
    signature = default_signature(file) if signature is None else signature
    trust = Trust(key=key, chain=chain, identity=identity or "", issuer=issuer or "")
    with HashBar(ctx.err) as bar:
        found = verify_signature(file, signature, trust, threads=threads, progress=bar)
    if as_json:
        ctx.print_json({"signature": str(signature), "nbytes": found.nbytes, "files": found.files})
        return
    size = f"{counted(len(found.files), 'file')}, {bytes_text(found.nbytes)}"
    ctx.say(f"{printable(str(file))}: as it was signed ({size}; {printable(str(signature))})")
