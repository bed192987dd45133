"""Journal: what a measurement has found so far, beside the file that it will end in.

Each tensor, probe and mix is a line that is written at once; a run that is stopped loses what was being measured, and
nothing else. The next run reads it. A last line that was cut off is what stopping leaves, and is taken away; damage
anywhere else is refused, since nobody can say what else it has touched.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quantrecipe.errors import OutputError, Problem, SensitivityError
from quantrecipe.measure.mixed import Mixed, line_of_mix, mix_of_line
from quantrecipe.output.locks import lock, unlock
from quantrecipe.sensitivity.file import line_of, line_of_probe, probe_of, tensor_of
from quantrecipe.sensitivity.sensitivity import Probed, TensorSensitivity
from quantrecipe.typed import json_object

__all__ = ["Journal"]


class Journal:
    """Appends; a context manager. Two processes can't have the same one."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        """key: what losses depend on besides tensors; those of a journal with another key are left aside."""
        self.path = path
        self.tensors: list[TensorSensitivity] = []
        self.probes: list[Probed] = []
        self.mixes: list[Mixed] = []
        self._key = key
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            what = f"{path} can't be written: {error.strerror or error}"
            raise OutputError(what, "name another place with -o FILE") from error
        try:
            lock(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise OutputError(
                f"another process is measuring into {path}", "wait for it, or name another file with -o"
            ) from error

    def __enter__(self) -> Self:
        try:
            self._read()
            self._append({"key": self._key})
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def add_tensor(self, tensor: TensorSensitivity) -> None:
        """Note what was measured of a tensor."""
        self._append({"tensor": line_of(tensor)})

    def add_probe(self, probe: Probed) -> None:
        """Note what a probe found."""
        self._append({"probe": line_of_probe(probe)})

    def add_mix(self, found: Mixed) -> None:
        """Note what a mix did."""
        self._append({"mix": line_of_mix(found)})

    def done(self) -> None:
        """Remove the journal: all of it is in the file now."""
        with suppress(OSError):
            self.path.unlink()

    def _close(self) -> None:
        unlock(self._fd)
        os.close(self._fd)

    def _append(self, line: dict[str, Any]) -> None:
        try:
            os.write(self._fd, (json.dumps(line, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise OutputError(f"{self.path} can't be written: {error.strerror or error}") from error

    def _read(self) -> None:
        """What earlier runs left. SensitivityError for a line that no run wrote like that."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            data = file.read()
        whole, _, cut_off = data.rpartition(b"\n")
        if cut_off:
            os.ftruncate(self._fd, len(data) - len(cut_off))
        usable = False
        damaged: Problem | None = None
        for number, text in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                line = json_object(text)
                if "key" in line:
                    usable, damaged = line["key"] == self._key, None
                elif "probe" in line:
                    self.probes.append(probe_of(line["probe"]))
                elif "mix" in line:
                    self.mixes.append(mix_of_line(line["mix"]))
                else:
                    tensor = tensor_of(line["tensor"])
                    self.tensors += [tensor] if usable else []
            except (ValueError, KeyError):
                # Earlier versions left a line that was cut off, and began the next run behind it.
                problem = Problem(
                    what="this line of the journal is damaged, so what was measured can't be relied on",
                    remedy="remove the line: what it held is measured again; or remove the journal",
                    file=self.path,
                    line=number,
                )
                damaged = damaged or problem
                continue
            if damaged is not None:
                break
        if damaged is not None:
            raise SensitivityError([damaged])
