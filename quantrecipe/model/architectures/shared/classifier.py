"""Classifiers on top of an encoder: rerankers, which score a query and a document, and models that name a text's kind.

    dense       ▶  cls            a square matrix in front, which some have
    classifier  ▶  cls.output     one row for each label

llama.cpp counts the labels by their names: config.json's id2label. transformers gives a model two labels, LABEL_0 and
LABEL_1, where nobody named any. So the converter takes these two for a model without a classifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.layout import Length, Shapes
from quantrecipe.model.architectures.rules import Each, Found, Named, Rule
from quantrecipe.model.pairs import Pairs, texts
from quantrecipe.units import whole_number

__all__ = ["CLASSIFIER", "CLASSIFIER_LENGTHS", "CLASSIFIER_RULES", "label_pairs", "labels"]

_UNNAMED = "LABEL_0"
_NAME_THEM = (
    'name them: "id2label": {"0": "…", "1": "…"}; a model with one score has one label: {"0": "LABEL_0"}'
)

CLASSIFIER: Shapes = {
    "cls.weight": ("hidden_size", "hidden_size"),
    "cls.bias": ("hidden_size",),
    "cls.output.weight": ("labels", "hidden_size"),
    "cls.output.bias": ("labels",),
}
CLASSIFIER_LENGTHS: Mapping[str, Length] = {"labels": lambda config, layer: len(labels(config))}


def labels(config: Config) -> list[str]:
    """The labels' names, by their numbers; none where nobody named two."""
    named = config.find("id2label")
    if named is None:  # transformers names as many as it is told
        count = config.count("num_labels")
        named = {number: f"LABEL_{number}" for number in range(2 if count is None else min(count, 2**16))}
    if not isinstance(named, Mapping):
        config.fail(f"says id2label: {shown(named)} (expected: names by number)")
    numbered: dict[int, str] = {}
    for number, name in named.items():
        place = whole_number(str(number))
        if place is None or not isinstance(name, str):
            config.fail(f"says id2label: {shown(named)} (expected: names by number)")
        numbered[place] = name
    if len(numbered) == 2 and numbered.get(0) == _UNNAMED:
        return []
    return [numbered[number] for number in sorted(numbered)]


def label_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of the labels' names, for models that have any."""
    named = labels(config)
    return {f"{arch}.classifier.output_labels": texts(named)} if named else {}


def _output(it: Found) -> Iterator[Named]:
    if not labels(it.config):
        what = "gives the classifier's two labels no names, and so llama.cpp expects one label"
        it.config.fail(what, _NAME_THEM)
    yield f"classifier.out_proj.{it.texts['end']}", it.source


CLASSIFIER_RULES: tuple[Rule, ...] = (
    Each(names="classifier.{end:weight|bias}", make=_output),
    Each(names="classifier.out_proj.{end:weight|bias}", make=_output),
)
