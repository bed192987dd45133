"""The converter's own process: it runs convert_hf_to_gguf.py, whose writer hands tensors over instead of writing them.

    python worker.py CHECKOUT OUTFILE ARGUMENT…     the arguments are those of convert_hf_to_gguf.py

The header goes to OUTFILE, as the converter's own writer makes it. Then a line of JSON says where the data begins and
what there is, and each line that comes in, {"tensor": NAME, "file": PATH}, is answered by one when the tensor's bytes
are in that file. Standard output is for these lines alone: what the converter prints goes to standard error.

When no more lines can come, whoever started this has ended, and may have been killed. Then the folders of OUTFILE and
of the tensors are removed here: tensors may lie in memory, which nobody else would give back.

This file is run by the Python that has PyTorch, which needn't be that of quantrecipe, so it imports nothing of it.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any


def main() -> None:
    checkout, out, *arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    script = Path(checkout) / "convert_hf_to_gguf.py"
    sys.path[:0] = [str(script.parent), str(script.parent / "gguf-py")]
    import gguf

    def hand_over(writer: Any, *_: Any, **__: Any) -> None:
        """In the place of write_tensors_to_file: the tensors stay where they are, until they are asked for."""
        writer.write_ti_data_to_file()
        for file in writer.fout:
            file.flush()
        tensors = [(name, info) for part in writer.tensors for name, info in part.items()]
        alignment = writer.data_alignment
        header = Path(out).stat().st_size
        _say(
            answers,
            {
                "data": -(-header // alignment) * alignment,
                "tensors": [
                    [name, info.nbytes, -(-info.nbytes // alignment) * alignment] for name, info in tensors
                ],
            },
        )
        _serve(dict(tensors), answers, {Path(out).parent})

    writers: Any = gguf.GGUFWriter
    writers.write_tensors_to_file = hand_over
    sys.argv = [str(script), *arguments, "--outfile", out]
    runpy.run_path(str(script), run_name="__main__")


def _serve(tensors: dict[str, Any], answers: Any, folders: set[Path]) -> None:
    """folders: which hold what was made here"""
    for line in sys.stdin:
        wanted = json.loads(line)
        folders.add(Path(wanted["file"]).parent)
        try:
            with Path(wanted["file"]).open("wb") as file:
                _fresh(tensors[wanted["tensor"]].tensor, {}).tofile(file)
        except Exception as error:  # noqa: BLE001  # whatever the converter raises is told
            traceback.print_exc()
            _say(answers, {"error": f"{type(error).__name__}: {error}"})
        else:
            _say(answers, {"tensor": wanted["tensor"]})
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # whoever asked has gone: nothing that is left to do is worth the time


def _fresh(it: Any, seen: dict[int, Any]) -> Any:
    """The same lazy tensor, to be computed and thrown away: one keeps what was computed for it as long as it lives.

    What the converter has computed already stays: it may have changed that in place since.
    """
    lazy = hasattr(it, "_func") and hasattr(it, "_args") and getattr(it, "_data", it) is None
    if not lazy and type(it) not in (list, tuple):
        return it
    if id(it) in seen:
        return seen[id(it)][0]
    if type(it) is tuple:
        made: Any = tuple(_fresh(part, seen) for part in it)
    elif (
        type(it) is list
    ):  # what several tensors come out of: one keeps there what it computed for the others
        made = [_fresh(part, seen) for part in it]
    else:
        made = object.__new__(type(it))
        made.__dict__.update(it.__dict__)
        made._args = _fresh(it._args, seen)
    seen[id(it)] = made, it  # it has to live as long as its number is one
    return made


def _say(answers: Any, what: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody listens: then no more lines come, either
        answers.write(json.dumps(what) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
