"""How fast the format is beside Q4_0, on the same rows and in the same run: python benchmarks/speed.py"""

from __future__ import annotations

from quantrecipe import load_registry
from quantrecipe.testing import compare

from quantrecipe_example import Q4_96

if __name__ == "__main__":
    print("                                        Q4_96      Q4_0")
    for speed in compare(Q4_96(), load_registry().format("Q4_0")):
        print(speed)
