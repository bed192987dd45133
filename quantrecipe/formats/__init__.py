"""One file per format. `ALL` holds one of each, with default options, by bits per weight."""

from __future__ import annotations

from quantrecipe.api import QuantFormat
from quantrecipe.formats.bf16 import BF16
from quantrecipe.formats.f16 import F16
from quantrecipe.formats.f32 import F32
from quantrecipe.formats.iq1_m import IQ1_M
from quantrecipe.formats.iq1_s import IQ1_S
from quantrecipe.formats.iq2_s import IQ2_S
from quantrecipe.formats.iq2_xs import IQ2_XS
from quantrecipe.formats.iq2_xxs import IQ2_XXS
from quantrecipe.formats.iq3_s import IQ3_S
from quantrecipe.formats.iq3_xxs import IQ3_XXS
from quantrecipe.formats.iq4_nl import IQ4_NL
from quantrecipe.formats.iq4_xs import IQ4_XS
from quantrecipe.formats.mxfp4 import MXFP4
from quantrecipe.formats.nvfp4 import NVFP4
from quantrecipe.formats.passthrough import F64, I8, I16, I32, I64
from quantrecipe.formats.q1_0 import Q1_0
from quantrecipe.formats.q2_0 import Q2_0
from quantrecipe.formats.q2_k import Q2_K
from quantrecipe.formats.q3_k import Q3_K
from quantrecipe.formats.q4_0 import Q4_0
from quantrecipe.formats.q4_1 import Q4_1
from quantrecipe.formats.q4_k import Q4_K
from quantrecipe.formats.q5_0 import Q5_0
from quantrecipe.formats.q5_1 import Q5_1
from quantrecipe.formats.q5_k import Q5_K
from quantrecipe.formats.q6_k import Q6_K
from quantrecipe.formats.q8_0 import Q8_0
from quantrecipe.formats.tq1_0 import TQ1_0
from quantrecipe.formats.tq2_0 import TQ2_0

__all__ = ["ALL"]

ALL: tuple[QuantFormat, ...] = (
    F32(),
    F16(),
    BF16(),
    Q8_0(),
    Q6_K(),
    Q5_1(),
    Q5_K(),
    Q5_0(),
    Q4_1(),
    Q4_K(),
    Q4_0(),
    NVFP4(),
    IQ4_NL(),
    IQ4_XS(),
    MXFP4(),
    Q3_K(),
    IQ3_S(),
    IQ3_XXS(),
    IQ2_S(),
    IQ2_XS(),
    Q2_K(),
    Q2_0(),
    IQ2_XXS(),
    TQ2_0(),
    IQ1_M(),
    TQ1_0(),
    IQ1_S(),
    Q1_0(),
    F64(),
    I8(),
    I16(),
    I32(),
    I64(),
)
