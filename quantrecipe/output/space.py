"""Whether the disks have room for what is about to be written."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.output.partfile import part_path
from quantrecipe.units import bytes_text

__all__ = ["require_space"]


def require_space(
    files: Iterable[tuple[Path, int]],
    *,
    remedy: str = "free some space, or write to another disk with -o FILE",
) -> None:
    """OutputError where files of these sizes don't fit on their disks, those that they replace not counted.

    remedy: what to do then
    What a stopped run left of a part is written over, and counts as free.
    """
    needed: dict[int, int] = {}
    names: dict[int, list[Path]] = {}
    for path, nbytes in files:
        if not path.parent.is_dir():
            continue  # said better when it is opened
        disk = path.parent.stat().st_dev
        needed[disk] = needed.get(disk, 0) + nbytes - _allocated(part_path(path))
        names.setdefault(disk, []).append(path)
    for disk, nbytes in needed.items():
        folder = names[disk][0].parent.resolve()
        free = shutil.disk_usage(folder).free
        if free < nbytes:
            count = len(names[disk])
            what = f"{names[disk][0].name} needs" if count == 1 else f"the {count} files need"
            raise OutputError(
                f"{what} {bytes_text(nbytes)}, and {folder} has {bytes_text(free)} free",
                remedy,
            )


def _allocated(path: Path) -> int:
    """Bytes that a file takes on the disk, which may be less than its length; 0 for what has another name, too."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return 0
    return int(getattr(status, "st_blocks", 0)) * 512
