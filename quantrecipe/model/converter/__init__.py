"""llama.cpp's own converter as a source of models, without the file that it would write: see `converted`."""

from quantrecipe.model.converter.converted import converted

__all__ = ["converted"]
