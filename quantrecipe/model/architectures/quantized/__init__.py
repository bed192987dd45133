"""Weights that a checkpoint stores quantized.

quantization.py   what config.json, or hf_quant_config.json, says of the method
weights.py        the checkpoint's tensors, quantized ones as sources that a GGUF can hold
nvfp4.py          NVFP4 through the rules of an architecture
keys.py           what the GGUF's metadata says of it
"""
