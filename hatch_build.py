"""A wheel that carries compiled kernels, if tools/build_kernels.py has made some; otherwise one of pure Python."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Takes the kernels along, and says for which systems the wheel is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel."""
        if version != "standard" or not any(Path(self.root, "quantrecipe/core/kernels").glob("*/*.o")):
            return
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        if platform.system() == "Linux":  # kernels call nothing but malloc, free, memset, memcpy and sqrtf
            system = f"manylinux_2_17_{platform.machine()}.musllinux_1_1_{platform.machine()}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{system}"
        build_data["artifacts"].append("quantrecipe/core/kernels/**/*.o")
