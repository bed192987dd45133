"""One file per format. `ALL` holds one of each, with default options, by bits per weight."""

from __future__ import annotations

from quantrecipe.api import QuantFormat

from quantrecipe_ik.formats.iq1_kt import IQ1_KT
from quantrecipe_ik.formats.iq2_k import IQ2_K
from quantrecipe_ik.formats.iq2_kl import IQ2_KL
from quantrecipe_ik.formats.iq2_ks import IQ2_KS
from quantrecipe_ik.formats.iq2_kt import IQ2_KT
from quantrecipe_ik.formats.iq3_k import IQ3_K
from quantrecipe_ik.formats.iq3_ks import IQ3_KS
from quantrecipe_ik.formats.iq3_kt import IQ3_KT
from quantrecipe_ik.formats.iq4_k import IQ4_K
from quantrecipe_ik.formats.iq4_ks import IQ4_KS
from quantrecipe_ik.formats.iq4_kss import IQ4_KSS
from quantrecipe_ik.formats.iq4_kt import IQ4_KT
from quantrecipe_ik.formats.iq5_k import IQ5_K
from quantrecipe_ik.formats.iq5_ks import IQ5_KS
from quantrecipe_ik.formats.iq6_k import IQ6_K
from quantrecipe_ik.formats.q6_0 import Q6_0

__all__ = ["ALL"]

ALL: tuple[QuantFormat, ...] = (
    IQ6_K(),
    Q6_0(),
    IQ5_K(),
    IQ5_KS(),
    IQ4_K(),
    IQ4_KS(),
    IQ4_KSS(),
    IQ4_KT(),
    IQ3_K(),
    IQ3_KS(),
    IQ3_KT(),
    IQ2_KL(),
    IQ2_K(),
    IQ2_KS(),
    IQ2_KT(),
    IQ1_KT(),
)
