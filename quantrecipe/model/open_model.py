"""open_model: whatever holds a model becomes a Model.

    hf://OWNER/NAME[@REVISION][/PATH]                            model/hub, and then one of these
    s3://BUCKET/FOLDER, gs://…, and all that fsspec reads        model/objects, and then one of these
    FILE.gguf, recognised by its first bytes                     model/gguf_file
    folder with config.json, or a .safetensors file in one       model/huggingface
    .safetensors file, or folder of them, without config.json    tensors keep their names
    .json file, written by `inspect --shapes`                    model/shapes
    shapes/NAME, where there is no such file                     model/reference

Only headers are read. The sizes of a GGUF's types come from the registry. Where the caller has none, the
installed one is imported when it is needed: the one import in `model` that goes up, not down.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import ModelError, UnknownArchitectureError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.misplaced import is_gguf_inside, misplaced
from quantrecipe.model.gguf_file import is_gguf, open_gguf
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import refuse_peft
from quantrecipe.model.reference_models import is_reference, open_reference
from quantrecipe.model.storable import as_tensor_info
from quantrecipe.remote_files import is_elsewhere

if TYPE_CHECKING:
    from quantrecipe.model.safetensors import Checkpoint
    from quantrecipe.registry import Registry

__all__ = ["located", "model_of_checkpoint", "open_model"]

_ARCH_KEY = "general.architecture"
_KINDS = "a .gguf file, a .safetensors file, or a Hugging Face folder"


def open_model(
    path: str | Path,
    *,
    arch: str | None = None,
    part: str = "model",
    pre: str | None = None,
    allow_pickle: bool = False,
    converter: str | Path | None = None,
    registry: Registry | None = None,
) -> Model:
    """The model that a GGUF, a Hugging Face folder, a safetensors or a shape file holds, from its headers.

    `arch` names the architecture where the files don't: bare safetensors. `part` is what of a Hugging Face folder is
    opened: "model", or its projector ("mmproj") or draft head ("mtp"). `pre` names the pre-tokenizer
    (`tokenizer.ggml.pre`) of a Hugging Face model whose rules aren't recognised. `allow_pickle` lets
    PyTorch's weights-only loader read weights that are pickles. `converter` is a checkout of llama.cpp, whose
    own converter then reads the folder; where $QUANTRECIPE_CONVERTER names one, it reads those whose architecture isn't
    known. `registry` knows the sizes of the
    types in a GGUF, and the architectures; None loads the installed one. ModelError where there is no
    model, or it can't be read.
    """
    path = located(path)
    if converter is not None and path.is_dir():
        return _by_converter(path, Path(converter), part, registry)
    try:
        model = _open(path, arch, part, pre, allow_pickle, registry)
    except UnknownArchitectureError:
        checkout = os.environ.get("QUANTRECIPE_CONVERTER")
        if not checkout:
            raise
        return _by_converter(path, Path(checkout), part, registry)
    if part != "model" and model.container != "huggingface":
        what = f"is no Hugging Face folder, of which alone the part {part!r} can be made"
        raise ModelError(what, f"give the folder, or leave --{part} out", file=path)
    return model


def model_of_checkpoint(path: Path, checkpoint: Checkpoint, registry: Registry) -> Model:
    """The same where the headers of the safetensors are read already: those of a large model take a second."""
    refuse_peft(path)
    return _of_checkpoint(path, checkpoint, None, "model", None, registry)


def _by_converter(folder: Path, checkout: Path, part: str, registry: Registry | None) -> Model:
    """What llama.cpp's own converter makes of a folder, under the folder's name."""
    from quantrecipe.model.checkpoint import open_checkpoint
    from quantrecipe.model.converter import converted

    dtypes: list[str] = []
    files: tuple[Path, ...] = ()
    if any(folder.glob("*.safetensors")):
        checkpoint = open_checkpoint(folder)
        dtypes = [it.dtype for it in checkpoint.tensors.values() if len(it.shape) > 1]
        files = checkpoint.files_read
    model = open_gguf(converted(folder, checkout, part=part, dtypes=dtypes), _load(registry).by_ggml_type)
    return replace(model, path=folder, files=(*model.files, *files))


def located(ref: str | Path) -> Path:
    """Where a model's files are: of one on the hub, or in an object store, a folder that stands for it.

    ModelError where it isn't there.
    """
    if not is_elsewhere(ref):  # what speaks with the hub, or with stores, is loaded for this alone
        return Path(ref)
    if os.fspath(ref).startswith("hf:/"):
        from quantrecipe.model import hub

        return hub.mirrored(ref)
    from quantrecipe.model import objects

    return objects.mirrored(ref)


def _open(
    path: Path, arch: str | None, part: str, pre: str | None, allow_pickle: bool, registry: Registry | None
) -> Model:
    """The same, whichever part the caller wants of a file that has only one."""
    if is_reference(path):
        return _with_arch(open_reference(path), arch)
    if path.exists():
        refuse_peft(path)
    if _lacks_safetensors(path):
        from quantrecipe.model.pickled import is_pickled, open_pickled

        if is_pickled(path):
            checkpoint = open_pickled(path, allow=allow_pickle)
            return _of_checkpoint(path, checkpoint, arch, part, pre, registry)
    if not is_gguf_inside(path) and (wrong := misplaced(path, "model")):
        if path.suffix == ".gguf" and path.is_file():
            wrong = _no_gguf(path, *wrong)
        raise ModelError(*wrong, file=path)
    if not path.exists():
        raise ModelError("there is no such file or folder", f"give {_KINDS}", file=path)
    if path.is_file() and is_gguf(path):
        return _with_arch(open_gguf(path, _load(registry).by_ggml_type), arch)
    return _open_json_headed(path, arch, part, pre, registry)


def _open_json_headed(
    path: Path, arch: str | None, part: str, pre: str | None, registry: Registry | None
) -> Model:
    """What is no GGUF. Its readers are imported here: a plan of a GGUF, the usual one, needs none of them."""
    from quantrecipe.model.checkpoint import open_checkpoint
    from quantrecipe.model.shapes import is_shapes, open_shapes

    if path.is_file() and is_shapes(path):
        return _with_arch(open_shapes(path), arch)
    if path.is_file() and not path.name.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError("is not a model", f"give {_KINDS}", file=path)
    if _lacks_safetensors(path):
        raise ModelError("holds no .safetensors files", f"give {_KINDS}", file=path)
    return _of_checkpoint(path, open_checkpoint(path), arch, part, pre, registry)


def _lacks_safetensors(path: Path) -> bool:
    return path.is_dir() and not any(path.glob("*.safetensors*"))


def _of_checkpoint(
    path: Path,
    checkpoint: Checkpoint,
    arch: str | None,
    part: str,
    pre: str | None,
    registry: Registry | None,
) -> Model:
    """A model whose tensors are these: of a Hugging Face folder, or bare."""
    folder = path if path.is_dir() else path.parent
    if (folder / "config.json").is_file():
        from quantrecipe.model.architectures.known import known_architectures
        from quantrecipe.model.huggingface import open_huggingface

        known = known_architectures(_load(registry))
        return _with_arch(open_huggingface(folder, checkpoint, known, part=part, pre=pre), arch)
    return _bare(path, checkpoint, arch)


def _load(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from quantrecipe.registry import load_registry

    return load_registry()


def _with_arch(model: Model, arch: str | None) -> Model:
    if arch is not None and arch != model.arch:
        what = f"says that its architecture is {model.arch!r}, not {arch!r}"
        raise ModelError(what, "leave --arch out: it is for files that don't say", file=model.path)
    return model


def _bare(path: Path, checkpoint: Checkpoint, arch: str | None) -> Model:
    if not arch:
        what = "has no config.json beside it, so its architecture isn't known, and a GGUF has to name one"
        raise ModelError(what, "say --arch NAME (such as: --arch flux), or give its config.json", file=path)
    sources = {name: stored.source for name, stored in checkpoint.tensors.items()}
    return Model(
        path=path,
        container="safetensors",
        arch=arch,
        tensors=tuple(as_tensor_info(source) for source in sources.values()),
        metadata={_ARCH_KEY: GGUFValue.of(ValueType.STRING, arch)},
        sources=sources,
        files=checkpoint.files_read,
    )


def _no_gguf(path: Path, what: str, remedy: str) -> tuple[str, str]:
    """The same of a file that is called .gguf: what it begins with says most to who made it."""
    with path.open("rb") as file:
        begins = file.read(4)
    if not begins:
        return what, remedy
    return f"is not a GGUF file: it begins with {begins!r}", f"it is {what.partition(', but ')[2]}: {remedy}"
