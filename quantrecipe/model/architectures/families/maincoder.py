"""Maincode's Maincoder: Qwen 3's layers. How much of a head is rotated is told only where config.json has head_dim."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import count_pairs
from quantrecipe.model.architectures.layout import DENSE, HEAD, QK_NORMS, Layout, attention, biases
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _pairs(config: Config) -> Pairs:
    return count_pairs("maincoder", config, {"rope.dimension_count": ("head_dim",)})


MAINCODER = Architecture(
    name="maincoder",
    classes=("MaincoderForCausalLM",),
    layout=Layout(required=attention() | QK_NORMS | DENSE, optional=HEAD | biases()),
    default_theta=None,
    pairs=_pairs,
    vocabulary=Vocabulary(kinds=("bpe",)),
)

ALL = (MAINCODER,)
