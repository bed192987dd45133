"""Compare the presets with a build of llama-quantize: which types does it give that ours don't?

    python tools/compare_presets.py path/to/llama-quantize
    python tools/compare_presets.py path/to/llama-quantize --preset Q4_K_M --json
    python tools/compare_presets.py path/to/llama-quantize --presets llama.cpp@b11312 my-model.shapes.json
    python tools/compare_presets.py path/to/llama-quantize --record tests/data/recipes/llama-quantize.json

Each model is a shape file; the zoo in tests/data/shapes/zoo reaches every branch. llama-quantize gets a file with the
model's header and a hole for its weights (tensors in reverse order: it must not matter), and says with --dry-run which
type it would give each tensor; once without an importance matrix and once with one. The exit code is 1 where something
differs: llama.cpp has changed what it does, and a folder of presets for the new build is due.
"""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from quantrecipe.errors import ImportanceError, PlanError
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.plan.assign import choose_format
from quantrecipe.plan.resolution import resolve
from quantrecipe.plan.trace import covers_all
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import tensor_order

ZOO = Path(__file__).parents[1] / "tests/data/shapes/zoo"
WITH = " with importance"
REFUSED, CRASHED = "refused", "crashed"
IMPORTANCE, REQUIRED = "(importance)", "required"
_LINE = re.compile(r"\]\s+(\S+)\s+- \[.*type =\s+(\w+), size = .*?(?:\((\w+)\))?\s*$")
_FILE_TYPE = re.compile(r"^\s+(?:\d+\s+or\s+)?([A-Z0-9_]+)\s+: ", re.MULTILINE)
_BUILD = re.compile(r"^(?:version|build):? .*$", re.MULTILINE)
_NUMBERED = re.compile(r"(?:^|(?<=\.))blk\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Tensors of one model that a mixture treats differently."""

    preset: str
    model: str
    tensors: str
    ours: str
    theirs: str


def main() -> int:
    args = _arguments()
    registry = load_registry(plugins=False)
    program = args.program.resolve()
    known = type_names(program)
    presets = args.preset or known
    paths = args.shapes or sorted(ZOO.glob("*.json"))
    differences: list[Difference] = []
    recorded: dict[str, dict[str, str]] = {}
    for path in paths:
        model = open_shapes(path)
        rows: dict[str, str] = {}
        for preset in presets:
            for importance in (False, True):
                theirs = dry_run(program, model, preset, importance=importance)
                text = compact(theirs)
                if not importance:
                    rows[preset] = text
                elif text != rows[preset]:
                    rows[preset + WITH] = text
                ours = our_types(model, f"{args.presets}/{preset}", registry, importance=importance)
                differences += compare(preset + WITH * importance, path.stem, ours, theirs)
        recorded[path.stem] = rows
        print(f"{path.stem}: {len(rows)} different rows", file=sys.stderr)
    if args.record:
        content = {"origin": f"llama-quantize --dry-run, {build(program)}; see tools/compare_presets.py"}
        args.record.write_text(json.dumps(content | {"types": recorded}, indent=1) + "\n", encoding="utf-8")
    shipped = {p.stem for p in registry.recipe_folders[_newest(args.presets, registry)].glob("*.yaml")}
    report(differences, [name for name in known if name not in shipped], build(program), as_json=args.as_json)
    return 1 if differences else 0


def type_names(program: Path) -> list[str]:
    """The mixtures that a build of llama-quantize knows, from its help."""
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    return _FILE_TYPE.findall(shown[shown.index("allowed quantization types") :])


def build(program: Path) -> str:
    """What the program says of itself."""
    ran = subprocess.run([program, "--dry-run", "none", "F16"], capture_output=True, text=True, check=False)
    found = _BUILD.search(ran.stdout + ran.stderr)
    return found[0] if found else "unknown build"


def dry_run(program: Path, model: Model, preset: str, *, importance: bool) -> Mapping[str, str]:
    """The type that llama-quantize gives each tensor of two dimensions or more, and whether it needs importance."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        write_hollow(model, file)
        command: list[str | Path] = [program, "--dry-run"]
        if importance:
            matrix = Path(folder) / "imatrix.gguf"
            matrix.write_bytes(some_importance())
            command += ["--imatrix", matrix]
        ran = subprocess.run(
            [*command, file, Path(folder) / "out.gguf", preset], capture_output=True, text=True, check=False
        )
    found = [match for line in (ran.stdout + ran.stderr).splitlines() if (match := _LINE.search(line))]
    types = {match[1]: (match[3] or match[2]).upper() for match in found}
    if ran.returncode:
        return {t.name: REFUSED if ran.returncode > 0 else CRASHED for t in model.tensors if len(t.shape) > 1}
    if types.keys() != {t.name for t in model.tensors}:
        raise SystemExit(f"{model.path}: llama-quantize's answer isn't understood: {ran.stderr[-500:]}")
    needs = {IMPORTANCE: REQUIRED} if "will require an imatrix" in ran.stdout + ran.stderr else {}
    return {t.name: types[t.name] for t in model.tensors if len(t.shape) > 1} | needs


def write_hollow(model: Model, file: Path) -> None:
    """A GGUF of the model's header and a hole; the vocabulary is empty."""
    specs = {fmt.spec.name: fmt.spec for fmt in load_registry(plugins=False).formats.values()}
    tensors = sorted(model.tensors, key=tensor_order, reverse=True)
    entries, end = [], 0
    for tensor in tensors:
        spec = specs[tensor.dtype]
        entries.append(
            TensorEntry(name=tensor.name, shape=tensor.shape, ggml_type=spec.ggml_type, offset=end)
        )
        end = padded(end + spec.tensor_bytes(tensor.shape), model.alignment)
    metadata = {**model.metadata, "tokenizer.ggml.model": GGUFValue.of(ValueType.STRING, "no_vocab")}
    header = encode_header(metadata, entries, model.alignment)
    with file.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + end)


def some_importance() -> bytes:
    """An importance matrix with one entry: the types depend on whether there is one, not on what is in it."""
    metadata = {
        "general.type": GGUFValue.of(ValueType.STRING, "imatrix"),
        "imatrix.datasets": GGUFValue.array(ValueType.STRING, ["none"]),
        "imatrix.chunk_count": GGUFValue.of(ValueType.UINT32, 1),
        "imatrix.chunk_size": GGUFValue.of(ValueType.UINT32, 512),
    }
    entries = [
        TensorEntry(name="none.weight.counts", shape=(1, 1), ggml_type=0, offset=0),
        TensorEntry(name="none.weight.in_sum2", shape=(1, 8), ggml_type=0, offset=32),
    ]
    ones = b"\0\0\x80?"
    return encode_header(metadata, entries) + ones.ljust(32, b"\0") + (8 * ones).ljust(padded(32, 32), b"\0")


def our_types(model: Model, name: str, registry: Registry, *, importance: bool) -> Mapping[str, str]:
    """The same of a preset, fallbacks included."""
    recipe = load_recipe(name, registry=registry)
    resolution = resolve(recipe, model, registry, covered=covers_all if importance else None)
    decisions = [decision for decision in resolution.decisions if len(decision.tensor.shape) > 1]
    try:
        types = {
            decision.tensor.name: choose_format(decision, resolution).format.spec.name
            for decision in decisions
        }
        if not importance:
            make_plan(recipe, model, registry=registry)
        return types
    except ImportanceError:
        return types | {IMPORTANCE: REQUIRED}
    except PlanError:
        return {decision.tensor.name: REFUSED for decision in decisions}


def compare(
    preset: str, model: str, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> Iterator[Difference]:
    """What differs, tensors of one role together. A program that crashes has no opinion."""
    wrong = [
        (ours.get(name, "-"), theirs.get(name, "-"), _short(name))
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and CRASHED not in theirs.values()
    ]
    for (our, their, name), members in groupby(
        sorted(wrong, key=lambda w: (w[0], w[1], w[2][0], w[2][1])), key=lambda w: (w[0], w[1], w[2][0])
    ):
        layers = [layer for _, _, (_, layer) in members if layer is not None]
        yield Difference(
            preset=preset, model=model, tensors=f"{name} {ranges(layers)}".strip(), ours=our, theirs=their
        )


def compact(types: Mapping[str, str]) -> str:
    """`Q4_K; Q6_K output, attn_v:0-3,6; …`: the most frequent type, then what has another one."""
    by_type: dict[str, dict[str, list[int]]] = {}
    for name in sorted(types):
        role, layer = _short(name)
        layers = by_type.setdefault(types[name], {}).setdefault(role, [])
        if layer is not None:
            layers.append(layer)
    counts = {
        type_: sum(max(1, len(layers)) for layers in roles.values()) for type_, roles in by_type.items()
    }
    most = max(counts, key=lambda type_: (counts[type_], type_))
    alone = {role for roles in by_type.values() for role in roles}
    alone = {role for role in alone if sum(role in roles for roles in by_type.values()) == 1}
    parts = [most]
    for type_ in sorted(by_type.keys() - {most}):
        names = [
            role if role in alone or not layers else f"{role}:{ranges(layers)}"
            for role, layers in sorted(by_type[type_].items())
        ]
        parts.append(f"{type_} {' '.join(names)}")
    return "; ".join(parts)


def ranges(layers: Sequence[int]) -> str:
    """[0, 1, 2, 7] → "0-2,7"."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def report(differences: Sequence[Difference], missing: Sequence[str], version: str, *, as_json: bool) -> None:
    if as_json:
        rows = [vars(difference) for difference in differences]
        print(json.dumps({"build": version, "missing": list(missing), "differences": rows}, indent=2))
        return
    print(version)
    if missing:
        print(f"no preset for: {', '.join(missing)}")
    if not differences:
        print("no differences")
        return
    keys = ("preset", "model", "tensors", "ours", "theirs")
    table = [keys, *(tuple(str(getattr(d, key)) for key in keys) for d in differences)]
    widths = [max(len(row[column]) for row in table) for column in range(len(keys))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _short(name: str) -> tuple[str, int | None]:
    """ "blk.3.attn_v.weight" → ("attn_v", 3); "enc.blk.3.attn_v.weight" → ("enc.blk.*.attn_v", 3)."""
    block = _NUMBERED.search(name)
    if block is None:
        return name.removesuffix(".weight"), None
    rest = name[block.end() :].removesuffix(".weight")
    return (rest if not block.start() else f"{name[: block.start()]}blk.*.{rest}"), int(block[1])


def _newest(prefix: str, registry: Registry) -> str:
    file = load_recipe(f"{prefix}/kept", registry=registry).file
    return file.partition("/")[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("program", type=Path, help="llama-quantize of the build to compare with")
    parser.add_argument("shapes", type=Path, nargs="*", help="shape files (default: the zoo of the tests)")
    parser.add_argument("--presets", default="llama.cpp", help="prefix of our presets (default: the newest)")
    parser.add_argument("--preset", action="append", help="only this mixture; may be given again")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the program's answers, for the tests"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="the differences as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
