"""quantrecipe sign: a model, and what was made with it, signed as OpenSSF model signing does; and checksums."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import FILE, file_option
from quantrecipe.cli.options.shared import json_option, threads_option
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import SignatureError

__all__ = ["command", "default_signature"]

PASSWORD = "QUANTRECIPE_KEY_PASSWORD"


@subcommand(
    "sign",
    "quantrecipe sign mine.gguf --key private.pem",
    "quantrecipe sign mine-00001-of-00003.gguf mine.yaml mine.lock --key private.pem",
    "quantrecipe sign release/ --key private.pem --checksums release/SHA256SUMS",
    "quantrecipe sign release/ --checksums release/SHA256SUMS",
    "quantrecipe verify mine.gguf --key public.pem",
)
@click.argument("model", type=FILE)
@click.argument("more", type=FILE, nargs=-1, metavar="[FILE]...")
@file_option(
    "--key",
    metavar="PEM",
    help=f"The private key, of an elliptic curve. If it has a password, that is asked for, or taken from ${PASSWORD}.",
)
@file_option("--certificate", metavar="PEM", help="Sign with a certificate, whose private key is --key.")
@file_option(
    "--chain",
    metavar="PEM",
    multiple=True,
    help="Certificates between yours and one that others trust. You may give it several times.",
)
@click.option(
    "--sigstore", is_flag=True, help="Sign with an identity at Sigstore; a browser asks who you are."
)
@click.option("--identity-token", metavar="TOKEN", help="With --sigstore: who you are, without a browser.")
@file_option("-o", "--output", help="The signature. [default: MODEL.sig, of a folder model.sig in it]")
@file_option("--checksums", help="Also, or without a key only, a list for `sha256sum -c`.")
@threads_option
@click.option("--force", is_flag=True, help="Replace a signature or a list that is there.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    more: tuple[Path, ...],
    key: Path | None,
    certificate: Path | None,
    chain: tuple[Path, ...],
    sigstore: bool,
    identity_token: str | None,
    output: Path | None,
    checksums: Path | None,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Sign MODEL, a file with all of its shards or a folder with all that is in it, and each FILE beside it.

    The signature says that every byte is as it was when the owner of the key signed it. `quantrecipe verify --key`
    checks it, and so does every other program of OpenSSF model signing. This needs `pip install 'quantrecipe[sign]'`;
    --checksums alone needs nothing.
    """
    from quantrecipe.cli.progress import HashBar
    from quantrecipe.output.signing.signatures import Signer, is_encrypted, sign
    from quantrecipe.output.signing.signed_files import checksums as hash_files
    from quantrecipe.output.signing.signed_files import checksums_text

    if sigstore and key is not None:
        raise click.UsageError("--sigstore signs with an identity, and --key with a key: one of them.")
    if key is None and (certificate is not None or chain):
        raise click.UsageError("--certificate and --chain need --key, the certificate's private key.")
    if identity_token is not None and not sigstore:
        raise click.UsageError("--identity-token is for --sigstore.")
    signs = sigstore or key is not None
    if not signs and checksums is None:
        raise click.UsageError("Say with what to sign: --key PEM or --sigstore; or --checksums FILE alone.")
    signature = None if not signs else default_signature(model) if output is None else output
    check_output(signature, force=force)
    check_output(checksums, force=force, option="--checksums FILE")
    paths = (model, *more)
    beside = () if checksums is None else (checksums,)
    password = _password(key) if key is not None and is_encrypted(key) else None
    with HashBar(ctx.err) as bar:
        if signature is None:
            found = hash_files(paths, beside, threads=threads, progress=bar)
        else:
            signer = Signer(
                key=key,
                password=password,
                certificate=certificate,
                chain=chain,
                identity_token=identity_token,
            )
            found = sign(paths, signer, signature, leave_out=beside, threads=threads, progress=bar)
    if checksums is not None:
        write_text(checksums, checksums_text(found, checksums), force=force)
    if as_json:
        ctx.print_json(
            {
                "signature": None if signature is None else str(signature),
                "checksums": None if checksums is None else str(checksums),
                "nbytes": found.nbytes,
                "files": found.files,
            }
        )
        return
    from quantrecipe.cli.units import bytes_text, counted

    wrote = [printable(str(path)) for path in (signature, checksums) if path is not None]
    ctx.say(f"wrote {' and '.join(wrote)}: {counted(len(found.files), 'file')}, {bytes_text(found.nbytes)}")


def _password(key: Path) -> str:
    """Of an encrypted key: from the environment, or asked for where there is somebody."""
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if sys.stdin is None or not sys.stdin.isatty():
        raise SignatureError("has a password", f"set {PASSWORD} to it", file=key)
    return str(click.prompt(f"Password of {printable(str(key))}", hide_input=True, err=True))


def default_signature(model: Path) -> Path:
    """Where a model's signature is if nobody says so. Shards have one together, called after the first."""
    from quantrecipe.model.shards import SHARD

    if model.is_dir():
        return model / "model.sig"
    match = SHARD.fullmatch(model.name)
    first = f"{match['stem']}-00001-of-{match['count']}.{match['suffix']}" if match else model.name
    return model.with_name(f"{first}.sig")
