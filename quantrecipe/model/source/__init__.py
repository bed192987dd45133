"""Where the content of a tensor comes from, as an expression: stored bytes, and what is done to them on the way.

    source.py      the contract, and the leaves: Stored, Constant
    layout.py      numbers that change places: stack, concat, rows, reshape, Regroup, Columns, PadRows, Transpose
    arithmetic.py  numbers that are computed: Add, Scale, NegExp, Whole
    dequantize.py  weights of other programs' types become numbers: Fp8, PackedInt, GPTQ, BitNet
    repack.py      blocks of other programs become ggml's, bit for bit: MXFP4, NVFP4
    reading.py     evaluation: what is read, and the memory for it
    digest.py      the hash of what is stored

A tensor that has another name in the GGUF, or that is left out, needs no operation: an expression has no name. One
expression may stand for several tensors. A value that becomes metadata is `read_whole`.
"""
