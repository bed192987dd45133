"""A node whose quantrecipe is of another version: Python runs this when it starts."""

import quantrecipe

quantrecipe.__version__ = "0.0.7"
