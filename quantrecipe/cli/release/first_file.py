"""A first release.yaml for a model, with comments: what `release --init` writes."""

from __future__ import annotations

from contextlib import suppress

from quantrecipe.cli.output_files import model_stem
from quantrecipe.cli.release.front_matter import origin_of
from quantrecipe.cli.release.parts import Opening, has_tower
from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.release.release_file import parse_release

__all__ = ["first_release"]

_TEXT = """\
# yaml-language-server: $schema=release.schema.json
# `quantrecipe schema --release -o release.schema.json` writes the schema, by
# which editors complete keys.
# A release of {name}.
# `quantrecipe release MODEL release.yaml --to FOLDER` makes it, and
# `quantrecipe help release` explains the keys. Paths are relative to this file.
release: 1
name: {name}
{base_model}
# Who publishes it: in the card, and in LM Studio's folders.
# quantized_by: me
{license}
# Where it will be published, for the commands in the card.
# repo: me/{name}-GGUF

files:
  - recipe: llama.cpp/Q4_K_M      # a preset, as llama-quantize has it
  - recipe: llama.cpp/Q6_K
  - recipe: llama.cpp/Q8_0
  # - recipe: recipes/mine.yaml     # a recipe of yours
  #   name: "{{model}}-CODE.gguf"
  #   note: for code
  # - fit: {{size: 5GB}}              # the mix that loses least in so many bytes

# Importance: texts like those that the model will work with. Or a file:
# `imatrix: my.imatrix.gguf`.
# imatrix: {{texts: [code=calibration/code.txt, calibration/prose.txt]}}

# Other texts, on which every file is compared with the unquantized model.
# measure: {{texts: [code=other/code.txt, prose=other/prose.txt], chunks: 40}}

{parts}# The hub takes files of up to 50 GB.
split: 50GB
"""

_MMPROJ = """\
# The projector, through which the model sees or hears; `none` leaves it out.
mmproj: llama.cpp/F16

"""
_MTP = """\
# The draft head alone, for a run that loads it as a draft model; the files
# above have the head, too.
# mtp: llama.cpp/Q8_0

"""


def first_release(model: Model, opening: Opening) -> str:
    """The text; it can be used as it is."""
    name = "".join(
        char if char.isascii() and (char.isalnum() or char in "-_.+") else "-"
        for char in model_stem(model.path)
    )
    name = name.strip("-._+") or "model"
    empty = parse_release(
        "release: 1\nfiles: [Q8_0]\n", file="release.yaml", folder=model.path, registry=opening.registry
    )
    repo, _ = origin_of(empty, model)
    license_ = model.metadata.get("general.license")
    said = None if license_ is None else license_.decode()
    return _TEXT.format(
        name=_as_text(name),
        parts=_parts(model, opening),
        base_model=f"base_model: {repo}" if repo else "# base_model: owner/name    # the model on the hub",
        license=f"# license: {said}    # as the model says" if said else "# license: apache-2.0",
    )


def _parts(model: Model, opening: Opening) -> str:
    """What to write of the other parts of a Hugging Face folder that can be made of it."""
    known = {
        "mmproj": (has_tower(model), _MMPROJ),
        "mtp": (f"{model.arch}.nextn_predict_layers" in model.metadata, _MTP),
    }
    text = ""
    for part, (there, its) in known.items():
        if there:
            with suppress(ModelError):
                opening.open(part)
                text += its
    return text


def _as_text(name: str) -> str:
    """A name that YAML would read as a number, or as true or false, in quotes."""
    from quantrecipe.recipe.reading.yaml_document import scalar

    return name if scalar(name)[0] == "text" else f'"{name}"'
