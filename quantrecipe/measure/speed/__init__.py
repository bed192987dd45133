"""Speed measured on this machine: files of a few layers of a model's shapes, made of headers, run by llama.cpp."""

from quantrecipe.measure.speed.mixes import Measured, SpeedProgress, Way, measure_speed

__all__ = ["Measured", "SpeedProgress", "Way", "measure_speed"]
