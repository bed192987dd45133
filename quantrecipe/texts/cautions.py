"""What to know about texts before work begins on them: sentences with stable codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.wording import some_of

__all__ = ["FEWEST_SAMPLES", "Caution", "cautions", "losses"]

FEWEST_SAMPLES = 50
"""Documents of a domain, or chunks of its plain text: of fewer, each weighs so much that chance decides."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Caution:
    """What to know, in words.

    code:   "samples", "weights", "left-out" or "template", which don't change
    what:   a sentence
    remedy: what to do, or ""
    """

    code: str
    what: str
    remedy: str = ""


def cautions(domains: Sequence[Domain]) -> list[Caution]:
    """What may be wrong with domains that are used together.

    A domain of one plain text isn't called small: how many samples it has shows when it is cut into chunks.
    """
    found = []
    for domain in domains:
        count = len(domain.documents)
        one_text = count == 1 and not domain.documents[0].is_chat
        if count < FEWEST_SAMPLES and not one_text:
            samples = f"{count} sample{'s' if count > 1 else ''}"
            what = f"{domain.name} has {samples}, and chance decides much in so few"
            found.append(Caution(code="samples", what=what, remedy=f"{FEWEST_SAMPLES} and more are usual"))
    found += _of_weights(domains)
    for domain in domains:
        # A picture is no loss. A text in another encoding may be.
        unread = {name: why for name, why in domain.left_out.items() if "text in" in why}
        if unread:
            shown = some_of([f"{Path(name).name} ({why})" for name, why in unread.items()], _SHOWN)
            files = "1 file wasn't" if len(unread) == 1 else f"{len(unread)} files weren't"
            found.append(Caution(code="left-out", what=f"{files} read of {domain.name}: {shown}"))
    return found


def losses(name: str, rendered: Sequence[Rendered]) -> list[Caution]:
    """What the model's template leaves out of the chats of the domain `name`. Templates do so on purpose, mostly."""
    counts = Counter(what for each in rendered for what in each.lost)
    if not counts:
        return []
    chats = sum(each.special for each in rendered)
    parts = ", ".join(f"{what} (in {count:,} of {chats:,} chats)" for what, count in counts.items())
    return [Caution(code="template", what=f"of {name}, the model's chat template leaves out: {parts}")]


def _of_weights(domains: Sequence[Domain]) -> list[Caution]:
    """Several domains of which some have no weight."""
    without = [domain.name for domain in domains if domain.weight is None]
    if len(domains) < 2 or not without:
        return []
    what = f"{some_of(without, _SHOWN)} {'has no weight' if len(without) == 1 else 'have no weights'}"
    if len(without) == len(domains):
        what += ", so that each counts by its length"
    else:
        what += f", and {some_of([it.name for it in domains if it.weight is not None], _SHOWN)} has one"
    return [Caution(code="weights", what=what, remedy=f"say them: --text {without[0]}=PATH:1")]
