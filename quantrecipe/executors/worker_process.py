"""What a worker of `processes` runs: python -m quantrecipe.executors.worker_process, for `process_workers.py`."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import sys
from dataclasses import replace

from quantrecipe.api import Order, Outcome, sendable
from quantrecipe.executors.process_workers import receive, send

__all__: list[str] = []


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever gives the tasks, who then ends this
    read, write = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a plugin prints is no message
    order: Order
    order, threads = receive(read)
    where = f"{platform.node()} (process {os.getpid()})"
    try:
        do = order.open(threads)
    except Exception as error:  # noqa: BLE001  # it is raised where the tasks come from
        send(write, pickle.dumps(Outcome(number=None, where=where, error=sendable(error, where))))
        return
    send(write, pickle.dumps(Outcome(number=None, where=where)))
    while True:
        try:
            task = receive(read)
        except EOFError:  # there is nothing more to do
            return
        outcome = do(task)
        try:
            message = pickle.dumps(outcome, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001  # a result that can't travel is the function's mistake
            message = pickle.dumps(replace(outcome, result=None, error=sendable(error, where)))
        send(write, message)


if __name__ == "__main__":
    _main()
