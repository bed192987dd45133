"""What it costs to bring a result to an object store: processor time of the upload, beside that of making the file.

    python benchmarks/uploads.py                    270 million weights to Q4_K and Q8_0, in three turns
    python benchmarks/uploads.py --layers 20 --rounds 5

"By a worker" is the time of a worker that makes the file and sends it in parts meanwhile, and of the command, both in
this process; it is held against what making and uploading take together.

The store is a server of this machine in a process of its own, which keeps what it gets in memory and isn't counted. The
time of a network isn't in these figures: they say what the upload takes of this machine's processors, in which the
reading of the local file and all hashes are.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from models import write_llama
from rich.console import Console
from rich.table import Table

from quantrecipe.executors.local import Threads
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.uploads.by_executor import upload_by
from quantrecipe.output.uploads.staging import pieces_of
from quantrecipe.output.uploads.upload import Outgoing, upload
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

RECIPES = ("pure/Q4_K", "pure/Q8_0")
TESTS = Path(__file__).parents[1] / "tests"


def serve(pipe: Connection) -> None:
    """The store, until it is told to end."""
    sys.path.insert(0, str(TESTS))
    from support.object_server import ObjectServer

    with ObjectServer({"bucket/nothing": b""}) as server:
        pipe.send(server.environment)
        pipe.recv()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=5, help="of some 50 million weights each")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    registry = load_registry(plugins=False)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    os.environ.update(ours.recv())
    table = Table("type", "size", "made", "sent", "sent, s/GB", "of making", "by a worker", "of both")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_llama(path, layers=given.layers, cols=2048, hidden=5632, vocab=8192)
        model = open_model(path, registry=registry)
        for name in RECIPES:
            plan = make_plan(load_recipe(name, registry=registry), model, registry=registry)
            out, made, sent, by_worker = Path(folder) / "out.gguf", [], [], []
            for _ in range(given.rounds):
                begin = time.process_time()
                apply_plan(plan, out, registry=registry, force=True, resume=True)
                middle = time.process_time()
                address = ObjectAddress.parse("s3://bucket/out.gguf")
                file = Outgoing(address=address, nbytes=plan.nbytes, content=partial(pieces_of, out))
                upload([file], force=True)
                end = time.process_time()
                with tempfile.TemporaryDirectory(dir=folder) as beside:
                    worker = Threads({"workers": 1, "threads": 1})
                    upload_by(worker, plan, [address], Path(beside), registry=registry, force=True)
                made.append(middle - begin)
                sent.append(end - middle)
                by_worker.append(time.process_time() - end)
            first, second, third = map(statistics.median, (made, sent, by_worker))
            size = plan.nbytes / 1e9
            table.add_row(
                name,
                f"{size:.3f} GB",
                f"{first:.2f}",
                f"{second:.2f}",
                f"{second / size:.2f}",
                f"{100 * second / first:.0f} %",
                f"{third:.2f}",
                f"{100 * third / (first + second):.0f} %",
            )
    Console().print(table)
    ours.send(None)
    server.join()


if __name__ == "__main__":
    main()
