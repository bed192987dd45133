"""The recipe that a file of quantrecipe's own carries, held against the types that the file has.

Other programs copy metadata along: a BF16 file of ours that llama-quantize makes a Q4_K_M of still carries the recipe
for BF16, and the hashes with it. So nothing that is recorded is believed before the types were looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import QuantrecipeError
from quantrecipe.gguf.header import GGUFHeader
from quantrecipe.gguf.values import ValueType, metadata_text
from quantrecipe.model.gguf_file import read_gguf_shards
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.companions import absorbed
from quantrecipe.plan.header_hashes import HEADER_HASHES, header_hashes
from quantrecipe.plan.metadata import ENCODINGS, IMPORTANCE_DIGEST, RECIPE
from quantrecipe.plan.resolution import PlanSettings, Resolution, resolve
from quantrecipe.plan.trace import Decision, covers_none
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["AS_WRITTEN", "Recorded", "choices_of", "choices_of_file", "recorded_recipe", "why_unknown"]

AS_WRITTEN = PlanSettings(allow_requantize=True, provenance=False)
"""What a file is held against: it is there, so it was allowed to be made; and its hashes are compared by themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What a file says that it was made with.

    text:      the recipe
    wrong:     tensors that have another type than it gives them: name, type, and the type that it gives
    total:     how many tensors the file has
    recorded:  how many it had when it was written; None where that isn't recorded
    rewritten: True where another program has written the header since
    unknown:   why the recipe couldn't be held against the types; "" where it could
    """

    text: str
    wrong: tuple[tuple[str, str, str], ...] = ()
    total: int = 0
    recorded: int | None = None
    rewritten: bool = False
    unknown: str = ""

    @property
    def removed(self) -> bool:
        """True where tensors were added or removed since, so that recorded hashes belong to none of them."""
        return self.recorded not in (None, self.total)

    @property
    def outdated(self) -> bool:
        """True where the recipe isn't that of the types; also where nobody can say, and the header was rewritten."""
        return bool(self.wrong) or (self.rewritten and bool(self.unknown))

    @property
    def sentence(self) -> str:
        """What has become of the recipe; "" where all is as it was written."""
        if self.wrong:
            name, type_, wanted = self.wrong[0]
            by = "another program has quantized it since" + ("" if self.rewritten else ", or it is damaged")
            differ = (
                "1 tensor differs"
                if len(self.wrong) == 1
                else f"{len(self.wrong)} of {self.total} tensors differ"
            )
            return (
                f"the file's types aren't those of the recorded recipe: {by} "
                f"({differ}, e.g. {name} is {type_} where the recipe makes it {wanted})"
            )
        if not self.rewritten:
            return ""
        if self.removed:
            what = f"another program has added or removed tensors since (it had {self.recorded}, now {self.total})"
        else:
            what = "another program has written its header anew since"
        if self.unknown:
            return f"{what}, and whether the recorded recipe is still true can't be said: {self.unknown}"
        return f"{what}; its types are still those of the recorded recipe"


def recorded_recipe(model: Model, registry: Registry) -> Recorded | None:
    """The recipe in a GGUF; None where there is none."""
    text = metadata_text(model.metadata, RECIPE)
    if not text:
        return None
    encodings = model.metadata.get(ENCODINGS)
    count = len(encodings) if encodings is not None and encodings.type is ValueType.ARRAY else None
    changes = [_changes(shard) for shard in read_gguf_shards(model.path)]
    removed = count not in (None, len(model.tensors))
    found = Recorded(
        text=text,
        total=len(model.tensors),
        recorded=count,
        rewritten=removed or any(it is not None and it > 1 for it in changes),
    )
    if not removed and not any(it is None or it for it in changes):
        return found  # every type is the one that was written
    try:
        recipe = load_recipe_text(text, file=f"{model.path.name}:recipe", registry=registry)
    except QuantrecipeError as error:
        return replace(found, unknown=f"it doesn't load ({error.problems[0].what})")
    if why := why_unknown(recipe):
        return replace(found, unknown=why)
    stored = {tensor.name: tensor for tensor in model.tensors}
    try:
        choices = choices_of_file(recipe, model, registry)
    except QuantrecipeError as error:
        return replace(found, unknown=error.problems[0].what)
    wrong = [
        (name, stored[name].dtype, choice.format.spec.name)
        for name, choice in choices.items()
        if stored[name].dtype != choice.format.spec.name
    ]
    return replace(found, wrong=tuple(wrong))


def why_unknown(recipe: Recipe) -> str:
    """Why a file alone can't tell whether it has the types that the recipe gives; "" where it can."""
    if recipe.prune is not None:
        return "layers were pruned, so only the source can tell what the recipe makes of it"
    conditions = [*(rule.when for rule in recipe.rules), *(entry.when for entry in recipe.keep)]
    names = {name for when in conditions if when is not None for name in when.names}
    if "covered" in names:
        return "the recipe asks which tensors importance covers: give --source and --imatrix"
    if "source_type" in names:
        return "the recipe asks how the source stores its weights: give --source"
    return ""


def _changes(header: GGUFHeader) -> int | None:
    """How many lines of the header aren't those that were hashed, as far as that is quick to say: those of tensors, and
    two or more where there are more or fewer lines. None without hashes, which the first versions didn't record.

    A single line that differs is what damage looks like; a program that writes a header changes several.
    """
    value = header.metadata.get(HEADER_HASHES)
    if value is None or value.item_type is not ValueType.STRING:
        return None
    recorded = [str(it) for it in value.decode()]
    found = header_hashes({}, header.tensors)
    if len(recorded) != len(header.metadata) - 1 + len(found):
        return len(found) + 2
    entries = recorded[len(recorded) - len(found) :]
    return sum(before != now for before, now in zip(entries, found, strict=True))


def choices_of_file(recipe: Recipe, model: Model, registry: Registry) -> dict[str, Choice]:
    """By tensor, what the recipe makes of a file that it made. PlanError where the two don't go together.

    The file records that there was a matrix, and not which tensors it covered: see `why_unknown`.
    """
    covered = covers_none if IMPORTANCE_DIGEST in model.metadata else None
    order = [tensor.name for tensor in model.tensors]
    resolution = resolve(recipe, model, registry, settings=AS_WRITTEN, covered=covered, order=order)
    return choices_of(resolution, {tensor.name: tensor for tensor in model.tensors})


def choices_of(resolution: Resolution, stored: Mapping[str, TensorInfo]) -> dict[str, Choice]:
    """By tensor that is written, what the recipe makes of it. PlanError where it doesn't go with the model.

    stored: what the file has. Where the recipe leaves the choice among types, the file says which it was
    """
    found = [(it.tensor, _choice(it, resolution, stored.get(it.tensor.name))) for it in resolution.decisions]
    copied = ((tensor, choice.copied) for tensor, choice in found)
    multiplied_in = absorbed(copied, resolution.model, resolution.registry.formats)
    return {tensor.name: choice for tensor, choice in found if tensor.name not in multiplied_in}


def _choice(decision: Decision, resolution: Resolution, stored: TensorInfo | None) -> Choice:
    """What the decision comes to; of several open types the one that comes to what is stored, else the first."""
    types = (decision.type,) if decision.type or decision.rule is None else decision.rule.choose
    choices = [choose_format(replace(decision, type=type_), resolution) for type_ in types]
    fitting = (choice for choice in choices if stored and choice.format.spec.name == stored.dtype)
    return next(fitting, choices[0])
