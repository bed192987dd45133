"""Journal: what a measurement has found so far, beside the file that it will end in.

Each tensor, probe and mix is a line that is written at once (`kept_lines.py`); a run that is stopped loses what was
being measured, and nothing else. The next run reads it. What a crash left of the last lines is taken away; damage
anywhere else is refused, since nobody can say what else it has touched.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quantrecipe.errors import OutputError, SensitivityError
from quantrecipe.measure.mixed import Mixed, line_of_mix, mix_of_line
from quantrecipe.output.kept_lines import DamagedLineError, KeptLine, KeptLines
from quantrecipe.sensitivity.file import line_of, line_of_probe, probe_of, tensor_of
from quantrecipe.sensitivity.sensitivity import Probed, TensorSensitivity

__all__ = ["Journal"]


class Journal:
    """Appends; a context manager. Two processes can't have the same one."""

    def __init__(self, path: Path, key: dict[str, Any], *, stays: bool = False) -> None:
        """key: what losses depend on besides tensors; those of a journal with another key are left aside.

        stays: it is a file of the user, which nobody removes when the work is done
        OutputError where it can't be written; SensitivityError for a line that no run wrote like that.
        """
        self.path = path
        self.tensors: list[TensorSensitivity] = []
        self.probes: list[Probed] = []
        self.mixes: list[Mixed] = []
        busy = OutputError(
            f"another process is measuring into {path}", "wait for it, or name another file with -o"
        )
        try:
            self._file = KeptLines(path, busy=busy, private=not stays)
        except DamagedLineError as error:
            raise SensitivityError([error.problem]) from error
        try:
            self._take(self._file.lines, key)
            self._file.append({"key": key})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add_tensor(self, tensor: TensorSensitivity) -> None:
        """Note what was measured of a tensor."""
        self._file.append({"tensor": line_of(tensor)})

    def add_probe(self, probe: Probed) -> None:
        """Note what a probe found."""
        self._file.append({"probe": line_of_probe(probe)})

    def add_mix(self, found: Mixed) -> None:
        """Note what a mix did."""
        self._file.append({"mix": line_of_mix(found)})

    def done(self) -> None:
        """Remove the journal: all of it is in the file now."""
        self._file.remove()

    def _take(self, lines: list[KeptLine], key: dict[str, Any]) -> None:
        usable = False
        for number, line in lines:
            try:
                if "key" in line:
                    usable = line["key"] == key
                elif "probe" in line:
                    self.probes.append(probe_of(line["probe"]))
                elif "mix" in line:
                    self.mixes.append(mix_of_line(line["mix"]))
                else:
                    tensor = tensor_of(line["tensor"])
                    self.tensors += [tensor] if usable else []
            except (ValueError, KeyError):
                raise SensitivityError([DamagedLineError(self.path, number).problem]) from None
