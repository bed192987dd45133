"""run: a command line from its arguments to its exit status; whatever goes wrong ends here, and is said once.

What is expected to go wrong (QuantrecipeError, a full disk, Ctrl-C) has no traceback, unless `-v` asks for it.
What isn't is a bug, and keeps it. SIGTERM, with which schedulers and containers stop a process, stops it as Ctrl-C
does: what was begun is cleaned up.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from quantrecipe.cli.app import app
from quantrecipe.cli.errors import print_error, printable
from quantrecipe.errors import QuantrecipeError

__all__ = ["run"]

INTERRUPTED = 130
TERMINATED = 143
"""What shells say of a process that a signal ended: 128 and the signal's number."""


class _Terminated(BaseException):
    """Raised where the process gets SIGTERM."""


def run(args: Sequence[str]) -> int:
    """Runs a command line and returns its exit status."""
    _never_fail_to_print()
    try:
        with _sigterm_stops():
            status = app.main(list(args), prog_name="quantrecipe", standalone_mode=False)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly()
        return 1
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:  # what click makes of Ctrl-C
        print_error("stopped")
        return INTERRUPTED
    except KeyboardInterrupt:
        print_error("stopped")
        return INTERRUPTED
    except _Terminated:
        print_error("stopped by SIGTERM")
        return TERMINATED
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except SystemExit as stop:  # rich and click leave so where a pipe closes
        _close_quietly()
        return stop.code if isinstance(stop.code, int) else 1
    except QuantrecipeError as error:  # only from before there was a command to report it
        print_error(error)
        return 1
    except MemoryError:
        print_error("there is not enough memory", "use fewer --threads, or close other programs")
        return 1
    except OSError as error:
        _print_traceback_if_verbose(args)
        print_error(_os_error(error))
        return 1
    except Exception:  # noqa: BLE001  # the last stop: anything else is a bug, and is shown as one
        traceback.print_exc()
        print_error(
            "this is a bug in quantrecipe or in one of its plugins",
            "please report it with the lines above and what `quantrecipe doctor` prints",
        )
        return 1
    return status if isinstance(status, int) else 0


def _show(error: click.ClickException) -> None:
    """Prints what click says of a command line, in lines that end between words."""
    from quantrecipe.cli.context import stderr_console
    from quantrecipe.cli.tables import Paragraph

    said = io.StringIO()
    error.show(file=said)
    console = stderr_console("auto")
    for line in said.getvalue().splitlines():
        console.print(Paragraph(printable(line)))


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Makes the first SIGTERM an exception, where it would end the process on the spot; no other disturbs the
    cleaning up.
    """
    ours = threading.current_thread() is threading.main_thread()  # no other may set handlers
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _never_fail_to_print() -> None:
    """Makes the streams escape what the terminal's encoding can't show: a tensor's name is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _close_quietly() -> None:
    """The reader of our output has gone; without this, Python would complain once more as it exits."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
    except (OSError, ValueError):
        return


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _print_traceback_if_verbose(args: Sequence[str]) -> None:
    if any(arg in ("-v", "--verbose") for arg in args):
        traceback.print_exc()
