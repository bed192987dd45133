"""What `apply` writes to an object store: where it lies until then, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_note, printable
from quantrecipe.cli.units import bytes_text
from quantrecipe.errors import OutputError, Problem

if TYPE_CHECKING:
    from quantrecipe.api import Executor
    from quantrecipe.model.objects import ObjectAddress
    from quantrecipe.output.apply import Result
    from quantrecipe.output.transform import Handling
    from quantrecipe.output.uploads.upload import Sent
    from quantrecipe.plan.plan import Plan

__all__ = ["Delivery", "delivery_of", "say_sent", "sent_document"]


class Delivery:
    """The outputs of a run that go to a folder of a store.

    output:  what stands for -o on this machine; None where --out-dir was given
    out_dir: the same for --out-dir
    """

    def __init__(self, given: ObjectAddress, *, is_folder: bool) -> None:
        """UsageError for an address that can't be that of a file."""
        from quantrecipe.output.uploads.staging import Staging

        folder = given if is_folder else given.parent
        if folder is None:
            raise click.UsageError(f"{given} names no file: write SCHEME://PLACE/FILE.gguf.")
        self.folder = folder
        self.staging = Staging(given.name)
        self.output = None if is_folder else self.staging.folder / given.name
        self.out_dir = self.staging.folder if is_folder else None

    def address(self, path: Path) -> ObjectAddress:
        """Where a file of the staging folder goes to."""
        return self.folder.child(path.name)

    def goes_in_parts(self, outputs: Sequence[tuple[Plan, Path]]) -> bool:
        """True where workers can send the files, in parts. What lies here of an earlier run is sent from here."""
        from quantrecipe.output.uploads.multipart import takes_parts

        return takes_parts(self.folder) and not self.staging.has_files(outputs)

    def begin(
        self, outputs: Sequence[tuple[Plan, Path]], *, nan: Handling, force: bool, in_parts: bool
    ) -> bool:
        """Find out whether the files can be written there. True where an earlier run has made them all already.

        in_parts: workers send them
        """
        from quantrecipe.output.uploads.upload import require_writable

        if not in_parts:
            self.staging.require_no_parts()
        finished = self.staging.is_finished(outputs, nan)
        # A file may have its name from an earlier run of the same, which is found out when it is sent.
        named = finished or (in_parts and self.staging.has_parts)
        require_writable(self.staging.addresses(outputs, self.folder), force=force or named)
        self.staging.begin(outputs, nan)
        return finished

    def send_by(
        self,
        ctx: Context,
        plan: Plan,
        path: Path,
        executor: Executor,
        *,
        keep_part: bool,
        force: bool,
        **more: Any,
    ) -> tuple[Result, tuple[Sent, ...]]:
        """Have an executor's workers make and send the files of a plan, named as if they lay here.

        more: as `upload_by` has it
        """
        from quantrecipe.cli.apply_progress import apply_progress, keep_asked
        from quantrecipe.output.apply import output_paths
        from quantrecipe.output.uploads.by_executor import upload_by

        with apply_progress(ctx.err) as progress:
            result, sent = upload_by(
                *(executor, plan, self.staging.addresses([(plan, path)], self.folder), self.staging.folder),
                force=force,
                progress=progress,
                keep=keep_asked(ctx.err, progress, keep_part=keep_part),
                **more,
            )
        return replace(result, paths=tuple(output_paths(path, len(plan.files)))), sent

    def send_pieces(
        self,
        ctx: Context,
        plan: Plan,
        path: Path,
        pieces: Path,
        *,
        make: bool,
        force: bool,
        **more: Any,
    ) -> tuple[Result, tuple[Sent, ...]]:
        """Send the files of a plan from its pieces, named as if they lay here. more: as `assemble_to` has it."""
        from quantrecipe.cli.apply_progress import apply_progress
        from quantrecipe.cli.progress import ApplyBar, HashBar
        from quantrecipe.output.apply import output_paths
        from quantrecipe.output.uploads.from_pieces import Content, assemble_to
        from quantrecipe.output.uploads.upload import Outgoing, require_writable, upload

        addresses = self.staging.addresses([(plan, path)], self.folder)
        require_writable(addresses, force=force)

        with apply_progress(ctx.err) as progress:

            def send(contents: Sequence[Content]) -> tuple[Sent, ...]:
                files = [
                    Outgoing(address=address, nbytes=file.nbytes, content=content)
                    for address, file, content in zip(addresses, plan.files, contents, strict=True)
                ]
                if isinstance(progress, ApplyBar):  # one bar at a time
                    progress.stop()
                with HashBar(ctx.err, "uploading") as bar:
                    bar.start(plan.nbytes)
                    return upload(files, force=force, advance=bar.read)

            result, sent = assemble_to(plan, send, pieces, make=make, progress=progress, **more)
        return replace(result, paths=tuple(output_paths(path, len(plan.files)))), sent

    def tidy(self) -> None:
        """If nothing stays of what was written here, its folder doesn't either."""
        self.staging.remove_if_empty()

    def send(self, ctx: Context, outputs: Sequence[tuple[Plan, Path]], *, force: bool) -> tuple[Sent, ...]:
        """Upload what is written, and remove it here. OutputError where that can't be done: then it stays here.

        What an earlier run has sent before it ended isn't sent again.
        """
        from quantrecipe.cli.progress import HashBar
        from quantrecipe.output.uploads.upload import already_there, upload

        files = self.staging.outgoing(outputs, self.folder)
        kept = Problem(
            what=f"all is written, and kept in {self.staging.folder}",
            remedy="the same command uploads it; remove the folder if you don't want that",
        )
        try:
            with HashBar(ctx.err, "uploading") as bar:
                bar.start(sum(it.nbytes for it in files))
                there = (
                    {} if force else {it.address: it for it in map(already_there, files) if it is not None}
                )
                waiting = [it for it in files if it.address not in there]
                there |= {it.address: it for it in upload(waiting, force=force, advance=bar.read)}
        except OutputError as error:
            raise OutputError([*error.problems, kept]) from error
        except BaseException:  # Ctrl-C
            print_note(ctx.err, kept)
            raise
        self.staging.remove()
        return tuple(there[it.address] for it in files)


def delivery_of(output: Path | ObjectAddress | None, out_dir: Path | ObjectAddress | None) -> Delivery | None:
    """None where the files stay on this machine."""
    for given, is_folder in ((output, False), (out_dir, True)):
        if given is not None and not isinstance(given, Path):
            return Delivery(given, is_folder=is_folder)
    return None


def say_sent(ctx: Context, sent: Sequence[Sent]) -> None:
    """What is in the store now, and how it was compared."""
    for it in sent:
        how = f"compared by {it.compared}" if it.compared else "not compared, since it may not be read"
        ctx.say(printable(f"uploaded {it.address} ({bytes_text(it.nbytes)}, {how})"))


def sent_document(sent: Sequence[Sent]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [{"address": str(it.address), "nbytes": it.nbytes, "compared": it.compared} for it in sent]
