"""The mixes of quantized models as recipes."""
