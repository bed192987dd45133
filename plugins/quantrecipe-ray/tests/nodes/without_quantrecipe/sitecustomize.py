"""A node that lacks quantrecipe and this plugin: Python runs this when it starts."""

import sys

sys.modules["quantrecipe"] = sys.modules["quantrecipe_ray"] = None
