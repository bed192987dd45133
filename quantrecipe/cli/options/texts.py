"""`--text`: what a command reads, for all commands that run a model over texts, in one grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from quantrecipe.cli.errors import print_warning
from quantrecipe.units import whole_number

if TYPE_CHECKING:
    from quantrecipe.cli.context import Context
    from quantrecipe.model.model import Model
    from quantrecipe.texts import Domain, Text

__all__ = [
    "PARTS",
    "TEXT_GRAMMAR",
    "raw_option",
    "split_option",
    "text_option",
    "texts_of",
    "verify_layers_option",
    "verify_option",
]

F = TypeVar("F", bound=Callable[..., Any])

TEXT_GRAMMAR = "TEXT is [NAME=]PATH[:WEIGHT]: a text, chats as JSON lines, a folder or a glob."


class _TextSpec(click.ParamType["str"]):
    """What `read_domain` reads. The shell completes it as a file."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


def text_option(*names: str, help: str) -> Callable[[F], F]:  # as click has it
    """An option whose values are specs for `read_domains`; it may be given more than once."""
    return click.option(
        *(names or ("--text", "texts")), type=_TextSpec(), multiple=True, metavar="TEXT", help=help
    )


verify_option = text_option(
    "--verify",
    "held_out",
    help="Held-out text: plain encoding is kept where what the encoder makes isn't surely better on it. "
    f"{TEXT_GRAMMAR}",
)
"""Gives the command `held_out`: specs for `read_domains`."""


verify_layers_option = click.option(
    "--verify-layers",
    "by_layer",
    is_flag=True,
    help="With --verify: judge each layer, too, and make plain those in which the encoder loses. Runs the model once "
    "more for each layer.",
)
"""Gives the command `by_layer`."""


PARTS = ("calibration", "search", "held-out")
"""What the three parts of divided texts are for, which their files are named after."""


def split_option(*, help: str) -> Callable[[F], F]:  # as click has it
    """`--split 80/10/10`, which gives the command `split`: three numbers that add up to 100, or None."""
    return click.option("--split", callback=_parts, metavar="80/10/10", help=help)


def _parts(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int, int] | None:
    if value is None:
        return None
    parts = value.split("/")
    numbers = tuple(number for part in parts if (number := whole_number(part)) is not None)
    if len(parts) != 3 or len(numbers) != 3 or not numbers[0] or sum(numbers) != 100:
        raise click.BadParameter(f"{value!r} is no three parts of a hundred, such as 80/10/10")
    return numbers[0], numbers[1], numbers[2]


raw_option = click.option(
    "--raw",
    is_flag=True,
    help="Read texts as they are, even if they look like chats, tables or no text at all.",
)


def texts_of(ctx: Context, domains: Sequence[Domain], model: Callable[[], Model]) -> list[Text]:
    """Each domain as one text; chats as the model's template writes them. The model is opened only for chats.

    Prints what of a domain isn't read or isn't written, and that a weight says nothing where each text is run as it is.
    """
    from quantrecipe.texts import as_text, cautions, chat_template, losses, render

    for caution in cautions(domains):
        if caution.code == "left-out":
            print_warning(ctx.err, caution.what, caution.remedy)
    for domain in domains:
        if domain.weight is not None:
            what = f"the weight {domain.weight:g} of {domain.name} changes nothing here: texts are run as they are"
            print_warning(ctx.err, what)
    chats = any(document.is_chat for domain in domains for document in domain.documents)
    template = chat_template(model()) if chats else None
    texts = []
    for domain in domains:
        rendered = render(domain, template)
        for caution in losses(domain.name, rendered):
            print_warning(ctx.err, caution.what, caution.remedy)
        texts.append(as_text(domain.name, rendered))
    return texts
