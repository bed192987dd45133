"""quantrecipe publish: a release folder to the Hugging Face hub: first what would be done; with --yes it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context, watched
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantrecipe.model.hub.listing import Listing
    from quantrecipe.release.publishing import Compared, LocalFile, Visibility

__all__ = ["command"]

_IGNORED = (".gitattributes",)
"""What the hub itself puts into a repository."""


@subcommand(
    "publish",
    "quantrecipe publish My-Model-GGUF me/My-Model-GGUF",
    "quantrecipe publish My-Model-GGUF me/My-Model-GGUF --yes",
    "quantrecipe publish My-Model-GGUF me/My-Model-GGUF --private --yes",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo", metavar="OWNER/NAME")
@click.option(
    "--yes", is_flag=True, help="Do it. Without it, what would be done is shown, and nothing is sent."
)
@click.option(
    "--private",
    "visibility",
    flag_value="private",
    default=None,
    help="Make a repository that only you, or your organization, see. [default: as the hub does]",
)
@click.option(
    "--public", "visibility", flag_value="public", default=None, help="Make one that everybody sees."
)
@click.option("-m", "--message", metavar="TEXT", help="What the commit is called. [default: how many files]")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    folder: Path,
    repo: str,
    yes: bool,
    visibility: Visibility | None,
    message: str | None,
    as_json: bool,
) -> None:
    """Bring FOLDER, which `quantrecipe release` made, to OWNER/NAME on the Hugging Face hub.

    Its files are held against SHA256SUMS first. Then they are compared with what the repository has: what is there
    already, by its hash, isn't sent again. Large files are sent first, and one commit shows all of them. After a break,
    the same command goes on. Files that only the hub has stay there. The token is that of `hf auth login`, or HF_TOKEN.
    """
    from quantrecipe.cli.progress import HashBar
    from quantrecipe.release.checksums import read_sums
    from quantrecipe.release.publishing import (
        check_visibility,
        compared,
        local_files,
        publish,
        require_repo,
        seen,
    )

    require_repo(repo)
    total = sum(_size(folder / path) for path in read_sums(folder)) if folder.is_dir() else 0
    with HashBar(ctx.err, f"checking {folder.name}") as bar:
        bar.start(total)
        files = local_files(folder, bar.read)
    listing = seen(repo)
    check_visibility(repo, listing, visibility)
    states = compared(folder, files, listing)
    wanted = [it.file for it in states if it.state != "there"]
    address: str | None = None
    if not as_json:
        _show(ctx, repo, states, listing, visibility)
    if wanted and yes:
        address = publish(
            folder,
            repo,
            states,
            listing,
            visibility=visibility,
            message=message or _message(wanted),
            uploaded=lambda file: ctx.err.print(printable(f"the hub has {file.path}"), soft_wrap=True),
            bars=watched(ctx.err),
        )
    if as_json:
        ctx.print_json(_document(repo, states, listing, address, yes=yes))
    elif not wanted:
        ctx.say(f"{repo} has all of it: nothing to do")
    elif address is None:
        ctx.say("nothing was sent: --yes does it")
    else:
        ctx.say(f"published: {printable(address)}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _message(wanted: Sequence[LocalFile]) -> str:
    from quantrecipe.cli.units import counted

    models = sum(file.path.endswith(".gguf") for file in wanted)
    return f"Upload {counted(len(wanted), 'file')} of a release ({models} GGUF)"


def _show(
    ctx: Context,
    repo: str,
    states: Sequence[Compared],
    listing: Listing | None,
    visibility: Visibility | None,
) -> None:
    from quantrecipe.cli.tables import Kind, Table, numbers
    from quantrecipe.cli.units import bytes_text, counted

    columns: dict[str, Kind] = {"file": "name", **numbers("size"), "on the hub": "word"}
    shown = {"new": "new", "changed": "has another", "there": "is there"}
    rows = [[it.file.path, bytes_text(it.file.nbytes), shown[it.state]] for it in states]
    ctx.console.print(Table(columns, rows))
    if listing is None:
        how = "" if visibility is None else f", {visibility}"
        ctx.say(f"{repo} isn't there, or isn't shown to you: it is made{how}")
    nbytes = sum(it.file.nbytes for it in states if it.state != "there")
    count = sum(it.state != "there" for it in states)
    ctx.say(f"to be sent: {counted(count, 'file')}, {bytes_text(nbytes)}")
    if others := _others(states, listing):
        ctx.say(f"only on the hub, and stay there: {printable(', '.join(others))}")


def _others(states: Sequence[Compared], listing: Listing | None) -> list[str]:
    ours = {it.file.path for it in states}
    there = [] if listing is None else [entry.path for entry in listing.entries]
    return [path for path in there if path not in ours and path not in _IGNORED]


def _document(
    repo: str, states: Sequence[Compared], listing: Listing | None, address: str | None, *, yes: bool
) -> dict[str, Any]:
    return {
        "repo": repo,
        "exists": listing is not None,
        "files": [
            {
                "path": it.file.path,
                "nbytes": it.file.nbytes,
                "sha256": it.file.sha256,
                "on_hub": it.state,
            }
            for it in states
        ],
        "only_on_hub": _others(states, listing),
        "sent": bool(yes and address),
        "commit": address,
    }
