"""How fast mixes run on this machine: what was measured here, kept for later, and what follows for any mix.

    profiles = kept_profiles(model)                    what `quantrecipe speed` measured on this machine
    clock = Clock(model, profiles)
    clock.pace([(tensor, nbytes, "Q4_K"), …])          tokens per second, prompt and generation

The time of a token is a sum over matrices (the bytes that it reads of each, times what a byte of this type takes in
this role) and a constant. Measuring is `measure.speed`'s part.
"""

from quantrecipe.speed.clock import Clock, Pace
from quantrecipe.speed.kept import find_profiles, forget, kept_profiles, remember
from quantrecipe.speed.profile import ROLES, Place, Profile, Rates, role_of, shapes_digest
from quantrecipe.speed.verdicts import Rival, iq_or_q, slow_types

__all__ = [
    "ROLES",
    "Clock",
    "Pace",
    "Place",
    "Profile",
    "Rates",
    "Rival",
    "find_profiles",
    "forget",
    "iq_or_q",
    "kept_profiles",
    "remember",
    "role_of",
    "shapes_digest",
    "slow_types",
]
