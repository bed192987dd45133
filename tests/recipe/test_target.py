"""The engines and devices of recipes are those of the table of targets."""

from __future__ import annotations

from quantrecipe.recipe.target import DEVICES, ENGINES
from quantrecipe.targets.targets import DEVICES as KNOWN_DEVICES
from quantrecipe.targets.targets import load_targets


def test_a_recipe_may_name_what_the_table_knows() -> None:
    assert set(ENGINES) == load_targets().engines.keys()
    assert DEVICES == KNOWN_DEVICES
