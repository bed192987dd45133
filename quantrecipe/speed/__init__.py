"""How fast mixes run on this machine: what was measured here, kept for later, and what follows for any mix.

    speeds = find_profiles(model, processor_name())    what `quantrecipe speed` measured on this machine
    Clock(model, speeds).pace([(tensor, nbytes, "Q4_K"), …])          tokens per second, of answers and of prompts

The time of a token is a sum over matrices (the bytes that it reads of each, times what a byte of this type takes in
this role) and a constant. Measuring is `measure.speed`'s part.
"""
