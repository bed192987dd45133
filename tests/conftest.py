"""How hypothesis runs: with the same examples each time, so that a change breaks tests and nothing else does.

`pytest --hypothesis-profile=explore` looks for new ones, ten times as many where a test doesn't say how many.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("explore", max_examples=1000, deadline=None)
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
