"""What can be wrong with a release is found before anything is made: recipes, names, texts, places, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantrecipe.cli.context import Context
from quantrecipe.cli.named_recipes import expand_names, print_notes
from quantrecipe.cli.output_files import model_stem
from quantrecipe.cli.release.job import Wanted
from quantrecipe.cli.release.parts import Opening, parts_of, wishes_of
from quantrecipe.cli.release.wording import at_line
from quantrecipe.errors import OutputError, Problem, QuantrecipeError, RecipeError
from quantrecipe.model.model import Model
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.release.hub_names import file_name_problem
from quantrecipe.release.release import NO_MATRIX, Release, ReleaseFile
from quantrecipe.texts import Domain, read_domains

__all__ = ["Prepared", "make_folder", "prepared", "read_texts", "require_other_folder"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The files that are asked for, and the texts: for the importance matrix, and to measure on.

    parts: the model's projector and its draft head, if files are to be made of them
    """

    wanted: Sequence[Wanted]
    parts: Mapping[str, Model] = field(default_factory=dict)
    domains: Sequence[Domain]
    measured_on: Sequence[Domain]


def prepared(ctx: Context, release: Release, model: Model, opening: Opening) -> Prepared:
    """Everything that the release names. RecipeError with every problem of it."""
    problems = list(_missing(release))
    wanted: Sequence[Wanted] = ()
    parts: Mapping[str, Model] = {}
    try:
        found = parts_of(ctx, release, model, opening)
        parts = {part: it.model for part, it in found.items()}
        wishes = [(part, wish) for part, it in found.items() for wish in wishes_of(part, it.wish)]
    except RecipeError as error:
        problems += error.problems
        wishes = []
    try:
        wishes = [*(("model", wish) for wish in release.files), *wishes]
        wanted = _wanted_files(ctx, release, wishes, model, opening.registry)
    except RecipeError as error:
        problems += error.problems
    texts: list[Sequence[Domain]] = []
    for wish in (release.imatrix, release.measure):
        try:
            texts.append(() if wish is None else read_texts(release, wish.texts, wish.line))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(sorted(problems, key=lambda it: (str(it.file) != release.file, it.line or 0)))
    return Prepared(wanted=wanted, parts=parts, domains=texts[0], measured_on=texts[1])


def _missing(release: Release) -> Iterator[Problem]:
    """Files that the release names and that aren't there."""
    named: list[tuple[Path | None, int | None]] = [(release.statistics, None), (release.sensitivity, None)]
    if release.imatrix is not None:
        named.append((release.imatrix.file, release.imatrix.line))
    named += [(Path(it.imatrix), it.line) for it in release.files if it.imatrix not in ("", NO_MATRIX)]
    for path, line in named:
        if path is not None and not path.exists():
            remedy = "paths are relative to this file"
            yield Problem(what=f"there is no {path}", remedy=remedy, file=release.file, line=line)


def _wanted_files(
    ctx: Context,
    release: Release,
    wishes: Sequence[tuple[str, ReleaseFile]],
    model: Model,
    registry: Registry,
) -> list[Wanted]:
    """The files that are asked for, globs written out, each with its name. RecipeError for every problem of them."""
    problems: list[Problem] = []
    found: list[Wanted] = []
    for part, wish in wishes:
        try:
            found += _wanted(ctx, release, part, wish, model, registry)
        except QuantrecipeError as error:
            problems += at_line(error, release, wish.line)
    problems += _taken_twice(release, found)
    if problems:
        raise RecipeError(problems)
    print_notes(ctx, *(it.recipe for it in found if it.recipe is not None))
    return found


def _wanted(
    ctx: Context, release: Release, part: str, wish: ReleaseFile, model: Model, registry: Registry
) -> Iterator[Wanted]:
    if wish.fit is not None:
        yield _named(release, part, wish, wish.fit.label, model, None)
        return
    for name in expand_names(ctx, [wish.recipe], registry):
        recipe = load_recipe(name, registry=registry, settings=wish.settings)
        yield _named(release, part, wish, recipe.name.rpartition("/")[2], model, recipe)


def _named(
    release: Release, part: str, wish: ReleaseFile, label: str, model: Model, recipe: Recipe | None
) -> Wanted:
    called = release.name or model_stem(model.path)
    name = wish.name.format(model=called, recipe=label)
    if what := file_name_problem(name):
        remedy = "give the release a `name`, or the file one: name: my-model-Q4.gguf"
        raise RecipeError(f"the file would be called {name!r}, which {what}", remedy)
    name = name.removesuffix(".gguf")
    label = name.removeprefix(called).lstrip("-_.") or name
    return Wanted(wish=wish, label=label, name=name, part=part, recipe=recipe)


def _taken_twice(release: Release, found: Sequence[Wanted]) -> Iterator[Problem]:
    """Names that differ in case alone are one on many systems."""
    taken: dict[str, Wanted] = {}
    for it in found:
        other = taken.setdefault(it.name.lower(), it)
        if other is not it:
            what = f"{it.name}.gguf would be written twice: the entry of line {other.wish.line} has this name, too"
            yield Problem(
                what=what,
                remedy='give one a `name`: "{model}-{recipe}-2.gguf"',
                file=release.file,
                line=it.wish.line,
            )


def read_texts(release: Release, specs: Sequence[str], line: int) -> tuple[Domain, ...]:
    """The texts of one key. Errors name the line of the release, beside the file."""
    try:
        return read_domains(specs)
    except QuantrecipeError as error:
        raise RecipeError(at_line(error, release, line)) from error


def require_other_folder(folder: Path, model: Model) -> None:
    """OutputError where the release would be made among the model's own files, whose card is somebody else's."""
    if folder.resolve() in {path.parent.resolve() for path in model.files}:
        raise OutputError(f"{folder} is the folder of the model", "name another with --to")


def make_folder(folder: Path) -> None:
    """Make the folder of the release. OutputError where that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"can't make the folder {folder}: {error.strerror or error}"
        raise OutputError(what, "name another with --to") from error
