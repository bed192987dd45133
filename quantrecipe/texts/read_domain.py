"""read_domain: what one --text names, as documents."""

from __future__ import annotations

from collections.abc import Sequence

from quantrecipe.texts.documents import Domain

__all__ = ["read_domain", "read_domains"]


def read_domain(spec: str, *, raw: bool = False) -> Domain:
    """The documents that a spec names: [NAME=]PATH[:WEIGHT], where PATH is a file, a folder or a glob.

    raw: read files as text as they are, whatever they hold
    TextError where nothing can be read, or something isn't text.
    """
    raise NotImplementedError


def read_domains(specs: Sequence[str], *, raw: bool = False) -> tuple[Domain, ...]:
    """All domains, in order. TextError where two have one name, too."""
    raise NotImplementedError
