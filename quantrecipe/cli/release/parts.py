"""The projector and the draft head of a release: GGUFs of their own, from the same Hugging Face folder.

A model that sees or hears is no use without its projector. So it is made where a folder has a tower, in the type that
the converter gives it (F16), unless the release says otherwise. A draft head alone is made only where it is asked for:
where llama.cpp knows the head, the other files have it, too, and this one repeats embedding and output.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.release.wording import at_line
from quantrecipe.errors import ModelError, RecipeError
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import Registry
from quantrecipe.release.release import NO_MATRIX, PartWish, Release, ReleaseFile

__all__ = ["Opening", "PartOf", "has_tower", "parts_of", "wishes_of"]

_USUAL = "llama.cpp/F16"
_NAME = "{part}-{{model}}-{{recipe}}.gguf"
"""As llama.cpp's converter calls it, and as llama.cpp and LM Studio look for it beside a model."""
_OF_TOWERS = ("vision", "audio")
"""How a section of config.json begins that describes a tower: vision_config, audio_config."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """The model and the options that say how it is read."""

    path: Path
    registry: Registry
    arch: str | None = None
    pre: str | None = None
    allow_pickle: bool = False
    converter: Path | None = None

    def open(self, part: str = "model") -> Model:
        """The model, or another part of its folder. ModelError where it can't be read, or has no such part."""
        return open_model(
            self.path,
            arch=self.arch if part == "model" else None,
            part=part,
            pre=self.pre,
            allow_pickle=self.allow_pickle,
            converter=self.converter,
            registry=self.registry,
        )

    @property
    def options(self) -> Sequence[str]:
        """What is to be typed to have it read so again."""
        said = [f"--arch {shlex.quote(self.arch)}"] if self.arch else []
        said += [f"--pre {shlex.quote(self.pre)}"] if self.pre else []
        said += ["--allow-pickle"] if self.allow_pickle else []
        return said + (["--converter llama.cpp"] if self.converter else [])


@dataclass(frozen=True, kw_only=True, slots=True)
class PartOf:
    """A part of the folder, opened, and what is to be made of it."""

    model: Model
    wish: PartWish


def parts_of(ctx: Context, release: Release, model: Model, opening: Opening) -> Mapping[str, PartOf]:
    """By "mmproj" and "mtp", those that the release makes. RecipeError where one that it asks for can't be.

    A tower whose projector can't be made here is a warning, where the release says nothing about it.
    """
    found: dict[str, PartOf] = {}
    problems = []
    for part, wish in (("mmproj", release.mmproj), ("mtp", release.mtp)):
        if wish is not None and wish.recipes:
            try:
                found[part] = PartOf(model=opening.open(part), wish=wish)
            except ModelError as error:
                problems += at_line(error, release, wish.line)
    if problems:
        raise RecipeError(problems)
    if release.mmproj is None and has_tower(model):
        try:
            found["mmproj"] = PartOf(model=opening.open("mmproj"), wish=PartWish(line=1, recipes=(_USUAL,)))
        except ModelError as error:
            why = "; ".join(problem.what for problem in error.problems)
            what = f"config.json describes a tower for pictures or sound, and no projector is made: {why}"
            print_warning(ctx.err, what, "write `mmproj: none` if the release is to be without one")
    return found


def wishes_of(part: str, wish: PartWish) -> Iterator[ReleaseFile]:
    """The files of a part, as entries of `files` would be. They are never split: programs take one file."""
    for recipe in wish.recipes:
        yield ReleaseFile(
            line=wish.line,
            recipe=recipe,
            fit=None,
            name=_NAME.format(part=part),
            settings={},
            imatrix=NO_MATRIX,
            split=None,
            note="",
        )


def has_tower(model: Model) -> bool:
    """Whether the config.json of a Hugging Face folder describes a tower for pictures or sound."""
    path = model.path / "config.json"
    if not path.is_file():
        return False
    config = read_json_object(path)
    inner = config.get("thinker_config")
    sections = {**config, **(inner if isinstance(inner, Mapping) else {})}
    return any(
        value and isinstance(value, Mapping) and key.startswith(_OF_TOWERS) for key, value in sections.items()
    )
