"""`--target`: where a model is meant to run, for the commands that choose types for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quantrecipe.recipe.target import Target

__all__ = ["target_option"]

F = TypeVar("F", bound=Callable[..., Any])

_TARGET = re.compile(r"(?P<engine>[^@:]+)(?:@(?P<build>[^@:]+))?(?::(?P<device>[^@:]+))?")


class _TargetType(click.ParamType["Target"]):
    """A target: ENGINE, ENGINE@BUILD, ENGINE:DEVICE or ENGINE@BUILD:DEVICE."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        from quantrecipe.recipe.origin import Origin
        from quantrecipe.recipe.target import DEVICES, ENGINES, Target

        if isinstance(value, Target):
            return value
        match = _TARGET.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is no target; write llama.cpp, or llama.cpp@b7000:metal", param, ctx)
        engine, build, device = match["engine"], match["build"], match["device"]
        if engine not in ENGINES:
            self.fail(f"there is no engine {engine!r}; known are {', '.join(ENGINES)}", param, ctx)
        if device is not None and device not in DEVICES:
            self.fail(f"there is no device {device!r}; known are {', '.join(DEVICES)}", param, ctx)
        return Target(engine=engine, build=build, device=device, origin=Origin(file="command line", line=0))


def target_option(command: F) -> F:
    """Add `--target`, which gives the command `target`: a Target or None."""
    return click.option(
        "--target",
        type=_TargetType(),
        metavar="ENGINE[@BUILD][:DEVICE]",
        help="Where it is meant to run: llama.cpp, ik_llama.cpp, llama.cpp:metal.",
    )(command)
