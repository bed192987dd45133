"""The small languages within a recipe: patterns, regular expressions, layers and expressions."""
