"""Encoded tensors under the hash of what their bytes depend on, for all runs, recipes, models and machines."""
