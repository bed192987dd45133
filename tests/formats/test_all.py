"""The list of formats: names, type ids, sizes and fallbacks fit together and with gguf-py's table."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import gguf

from quantrecipe.api import QuantFormat
from quantrecipe.formats import ALL

BY_NAME = {fmt.spec.name: fmt for fmt in ALL}
KNOWN_TO_GGUF_PY = [fmt for fmt in ALL if fmt.spec.name in gguf.GGMLQuantizationType.__members__]
"""All but the newest: releases of gguf-py follow llama.cpp by some weeks."""
UNKNOWN_TO_GGUF_PY = {"Q1_0", "Q2_0"}


def test_names_and_type_ids_are_unique() -> None:
    assert len(BY_NAME) == len(ALL) == len({fmt.spec.ggml_type for fmt in ALL})


def test_every_class_is_named_as_its_format() -> None:
    for fmt in ALL:
        assert type(fmt).__name__ == fmt.spec.name
        assert repr(fmt) == f"{fmt.spec.name}()"


def test_sizes_are_those_of_gguf_py() -> None:
    for fmt in KNOWN_TO_GGUF_PY:
        type_ = gguf.GGMLQuantizationType(fmt.spec.ggml_type)
        assert type_.name == fmt.spec.name
        assert gguf.GGML_QUANT_SIZES[type_] == (fmt.spec.block, fmt.spec.block_bytes)


def test_file_types_are_those_of_llama_cpp() -> None:
    for fmt in KNOWN_TO_GGUF_PY:
        if fmt.spec.file_type is not None and fmt.spec.name not in UNKNOWN_TO_GGUF_PY:
            assert fmt.spec.name in gguf.LlamaFileType(fmt.spec.file_type).name


def test_fallbacks_lead_to_a_format_that_takes_any_number_of_columns() -> None:
    for fmt in ALL:
        if not fmt.spec.codec:
            continue
        spec, seen = fmt.spec, {fmt.spec.name}
        while spec.block > 1:
            assert spec.fallback is not None, f"{fmt.spec.name}: {spec.name} leads nowhere"
            assert spec.fallback not in seen
            seen.add(spec.fallback)
            assert BY_NAME[spec.fallback].spec.block <= spec.block
            spec = BY_NAME[spec.fallback].spec


def test_every_format_says_what_it_is() -> None:
    for fmt in ALL:
        assert fmt.spec.summary
        assert fmt.spec.exactness
        assert "→" in (import_module(type(fmt).__module__).__doc__ or ""), f"{fmt.spec.name}: no byte map"
        assert isinstance(fmt, QuantFormat)


def test_importing_formats_and_core_does_not_import_numba() -> None:
    code = "import quantrecipe.core, quantrecipe.formats, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
