"""Targets: which types an engine runs, on which device, since which build; a table of sourced facts."""

from quantrecipe.targets.targets import DEVICES, Support, Targets, load_targets

__all__ = ["DEVICES", "Support", "Targets", "load_targets"]
