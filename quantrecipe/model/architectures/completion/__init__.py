"""What transformers assumes where a config.json is silent: defaults, rotary settings, derived values."""

from __future__ import annotations

from quantrecipe.model.architectures.completion.complete import complete, completed, known_model_types

__all__ = ["complete", "completed", "known_model_types"]
