"""Ways from weights to a format's bytes, one file or folder each. `ALL` holds one of each."""

from __future__ import annotations

from quantrecipe.api import Encoder
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.plain import Plain
from quantrecipe.encoders.thorough.encoder import Thorough

__all__ = ["ALL"]

ALL: tuple[Encoder, ...] = (Plain(), Feedback(), Thorough())
