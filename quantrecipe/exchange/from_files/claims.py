"""What a quantized file claims of itself: its label, the importance matrix that it was made with; for comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.plan.label import label_of
from quantrecipe.recipe.writing.braces import braced, is_plain
from quantrecipe.registry import Registry

__all__ = ["Claims", "read_claims"]

_IMATRIX = "quantize.imatrix."
_MOST_NAMES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a file says of itself.

    label:      name of its `general.file_type`, None where it has none that is known
    importance: the keys `quantize.imatrix.…`, without their beginning
    summary:    one line for the recipe
    """

    label: str | None
    importance: Mapping[str, str]
    summary: str

    def comments(
        self, intents: Mapping[str, str], types: Mapping[str, str], model: Model, notes: Sequence[str]
    ) -> list[str]:
        """Return the lines above the recipe. `intents` has the types that were asked for, but not given."""
        lines = [
            f"Imported from {model.path.name}: {_counted(len(model.tensors), 'tensor')}, {model.arch or 'unknown'}."
        ]
        lines += notes
        if self.importance:
            said = ", ".join(f"{key} {value}" for key, value in self.importance.items())
            lines.append(f"Made with an importance matrix: {said}.")
        groups: dict[tuple[str, str], list[str]] = {}
        for tensor in model.tensors:
            if (wish := intents.get(tensor.name)) is not None:
                groups.setdefault((wish, types[tensor.name]), []).append(tensor.role)
        for (wish, type_), roles in groups.items():
            names = list(dict.fromkeys(role if is_plain(role) else repr(role) for role in roles))
            said = ", ".join(braced([name for name in names if is_plain(name)])[:_MOST_NAMES]) or names[0]
            lines.append(
                f"Fallback: {_counted(len(roles), 'tensor')} of type {type_}, whose rows can't be {wish}: {said}."
            )
        return lines


def read_claims(model: Model, registry: Registry) -> Claims:
    """Return what the file says of itself."""
    bits = _bits(model, registry)
    return Claims(
        label=label_of(model),
        importance={
            key.removeprefix(_IMATRIX): _shown(value)
            for key, value in model.metadata.items()
            if key.startswith(_IMATRIX)
        },
        summary=f"The mix of {model.path.name}" + (f"; {bits:.2f} bits per weight" if bits else ""),
    )


def _bits(model: Model, registry: Registry) -> float:
    size = nbytes = 0
    for tensor in model.tensors:
        fmt = registry.formats.get(tensor.dtype)
        if fmt is None or tensor.cols % fmt.spec.block:
            return 0.0
        size += tensor.size
        nbytes += fmt.spec.tensor_bytes(tensor.shape)
    return 8 * nbytes / size if size else 0.0


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shown(value: GGUFValue) -> str:
    return str(value.decode())[:200]
