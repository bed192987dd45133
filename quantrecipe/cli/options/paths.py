"""Files and folders on a command line, and RECIPE and MODEL, which the shell completes with what ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from quantrecipe.remote_files import is_elsewhere

__all__ = ["FILE", "FILE_OR_RECIPE", "MODEL", "RECIPE", "delivered_option", "file_option", "folder_option"]


class _File(click.Path):
    """A path, or an address (hf://OWNER/NAME, s3://…), which becomes the path of what stands for it here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_elsewhere(value):
            from quantrecipe.model.open_model import located

            return located(value)
        return super().convert(value, param, ctx)


class _Output(click.Path):
    """A path to write to. `stores`: it may be an address in an object store, too."""

    def __init__(self, *, stores: bool = False, folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=not folder)
        self._stores = stores

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or not is_elsewhere(value):
            return super().convert(value, param, ctx)
        if value.startswith(("hf:", "http:", "https:")):
            self.fail(
                f"{value} isn't a place to write to: bring files to the hub with `quantrecipe publish`.",
                param,
                ctx,
            )
        if not self._stores:
            self.fail(f"{value}: this is written to a file of this machine.", param, ctx)
        if self.file_okay and value.endswith("/"):
            self.fail(f"{value} is a folder: name a file in it, or say --out-dir.", param, ctx)
        from quantrecipe.model.objects import ObjectAddress

        return ObjectAddress.parse(value)


FILE = _File(path_type=Path)
"""A path that needn't be there: whoever opens it says what is wrong, and what to do."""

F = TypeVar("F", bound=Callable[..., Any])


class _Recipe(click.ParamType["str"]):
    """A file, or the name of a recipe that ships. What it is is asked when the recipe is loaded."""

    name = "recipe"

    def __init__(self, *, files: bool = False) -> None:
        self.files = files  # a GGUF may stand here, too

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from quantrecipe.recipe.shipped_recipes import shipped_recipes
        from quantrecipe.registry import load_registry

        plugins = not ctx.find_root().params.get("no_plugins")
        names = shipped_recipes(load_registry(plugins=plugins))
        short = Counter(name.rpartition("/")[2] for name in names) if incomplete else {}
        unique = (name for name, count in short.items() if count == 1)
        endings = (".yaml", ".yml", ".gguf") if self.files else (".yaml", ".yml")
        return _items((*names, *unique), incomplete, endings)


class _Model(_File):
    """The path of a model, shapes/NAME, or an address (hf://, s3://); the shell completes the first two."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from quantrecipe.model.reference_models import reference_models

        names = reference_models() if incomplete.startswith("s") else ()
        return _items(names, incomplete, (".gguf", ".safetensors", ".json"))


RECIPE = _Recipe()
FILE_OR_RECIPE = _Recipe(files=True)
MODEL = _Model(path_type=Path)


def file_option(
    *names: str, help: str, metavar: str = "FILE", **more: Any
) -> Callable[[F], F]:  # as click has it
    """An option whose value is a file; of -o, one that is written."""
    kind = _Output() if "-o" in names else FILE
    return click.option(*names, type=kind, metavar=metavar, help=help, **more)


def folder_option(*names: str, help: str, metavar: str = "DIR") -> Callable[[F], F]:  # as click has it
    """An option whose value is a folder, which needn't be there yet."""
    return click.option(*names, type=click.Path(path_type=Path, file_okay=False), metavar=metavar, help=help)


def delivered_option(
    *names: str, help: str, metavar: str = "FILE", folder: bool = False
) -> Callable[[F], F]:  # as click has it
    """An option whose value is a file or folder to write to, here or in an object store."""
    return click.option(*names, type=_Output(stores=True, folder=folder), metavar=metavar, help=help)


def _items(names: Iterable[str], incomplete: str, suffixes: tuple[str, ...]) -> list[CompletionItem]:
    """Names that begin so, and files of this kind beside them; the shell's own completion where no name does."""
    found = [name for name in dict.fromkeys(names) if name.lower().startswith(incomplete.lower())]
    if not found:
        return [CompletionItem(incomplete, type="file")]
    beside = Path().glob(f"{incomplete}*") if _plain(incomplete) else ()
    files = sorted(str(path) for path in beside if path.name.endswith(suffixes))
    return [CompletionItem(name) for name in (*found, *files)]


def _plain(text: str) -> bool:
    """True for the beginning of a file's name in this folder."""
    return not set(text) & set("/\\*?[]")
