"""A recipe that is recorded in a file, and what other programs do to the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.app import app
from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.review.recorded import Recorded, recorded_recipe, why_unknown
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@dataclass(frozen=True)
class Files:
    """The model; ours: BF16 with our recipe in it; theirs: what llama-quantize makes of it, with nothing of ours."""

    model: Path
    ours: Path
    theirs: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Files:
    folder = tmp_path_factory.mktemp("recorded")
    write_gguf(folder / "model.gguf", llama_tensors(layers=4), llama_metadata(block_count=4))
    source = open_model(folder / "model.gguf", registry=registry)
    for name, recipe, provenance in (("ours", "BF16", True), ("theirs", "Q4_K_M", False)):
        plan = make_plan(load_recipe(f"llama.cpp/{recipe}"), source, registry=registry, provenance=provenance)
        apply_plan(plan, folder / f"{name}.gguf", registry=registry, threads=1)
    return Files(folder / "model.gguf", folder / "ours.gguf", folder / "theirs.gguf")


def rewrite(
    path: Path,
    metadata: Path,
    tensors: Path,
    *,
    keep: Callable[[str], bool] = lambda name: True,
    rename: Callable[[str], str] = lambda name: name,
    change: Callable[[str, bytes], bytes] = lambda name, data: data,
    add: dict[str, GGUFValue] | None = None,
) -> Path:
    """A file with the metadata of one and tensors of another, as programs write that copy metadata along."""
    header = read_header(tensors)
    rooms, content = header.rooms(), tensors.read_bytes()
    entries, blobs, offset = [], [], 0
    for entry in header.tensors:
        if not keep(entry.name):
            continue
        begin = header.data_start + entry.offset
        data = change(entry.name, content[begin : begin + rooms[entry.name]])
        entries.append(
            TensorEntry(name=rename(entry.name), shape=entry.shape, ggml_type=entry.ggml_type, offset=offset)
        )
        blobs.append(data.ljust(padded(len(data), 32), b"\0"))
        offset += len(blobs[-1])
    pairs = {**read_header(metadata).metadata, **(add or {})}
    path.write_bytes(encode_header(pairs, entries) + b"".join(blobs))
    return path


def recorded(path: Path, registry: Registry) -> Recorded:
    found = recorded_recipe(open_model(path, registry=registry), registry)
    assert found is not None
    return found


def test_a_file_as_it_was_written(files: Files, registry: Registry) -> None:
    found = recorded(files.ours, registry)
    assert (found.outdated, found.rewritten, found.sentence) == (False, False, "")
    assert recorded_recipe(open_model(files.theirs, registry=registry), registry) is None


def test_a_file_that_was_quantized_since(files: Files, tmp_path: Path, registry: Registry) -> None:
    path = rewrite(tmp_path / "q.gguf", files.ours, files.theirs)
    found = recorded(path, registry)
    assert found.outdated
    assert found.sentence == (
        "the file's types aren't those of the recorded recipe: another program has quantized it since "
        "(30 of 39 tensors differ, e.g. output.weight is Q6_K where the recipe makes it BF16)"
    )
    (finding,) = verify_file(path, registry=registry).findings
    assert finding.what == found.sentence
    made = CliRunner().invoke(app, ["import", str(path)])
    assert "extends: llama.cpp/Q4_K_M\n" in made.stdout
    assert found.sentence in " ".join(made.stderr.split())
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert found.sentence in " ".join(shown.stdout.split())
    text = CliRunner().invoke(app, ["inspect", str(path), "--recipe"])
    assert found.sentence in " ".join(text.stderr.split())
    assert "default: BF16" in text.stdout
    assert "default: BF16" in CliRunner().invoke(app, ["import", str(path), "--embedded"]).stdout


def test_one_tensor_is_enough(files: Files, tmp_path: Path, registry: Registry) -> None:
    """The last one, so that no other tensor has another place."""
    last = read_header(files.ours).tensors[-1].name
    header = read_header(files.ours)
    entries = [replace(it, ggml_type=1) if it.name == last else it for it in header.tensors]
    path = tmp_path / "one.gguf"
    path.write_bytes(encode_header(header.metadata, entries) + files.ours.read_bytes()[header.data_start :])
    found = recorded(path, registry)
    assert found.outdated
    assert not found.rewritten
    assert "or it is damaged (1 tensor differs" in found.sentence
    assert f"{last} is F16 where the recipe makes it" in found.sentence


def test_a_header_that_was_edited(files: Files, tmp_path: Path, registry: Registry) -> None:
    """The tensors are what they were, so the recipe is true."""
    added = {"general.author": GGUFValue.of(ValueType.STRING, "Ada")}
    path = rewrite(tmp_path / "e.gguf", files.ours, files.ours, add=added)
    found = recorded(path, registry)
    assert not found.outdated
    assert found.sentence == (
        "another program has written its header anew since; its types are still those of the recorded recipe"
    )
    made = CliRunner().invoke(app, ["import", str(path)])
    assert "default: BF16" in made.stdout
    assert found.sentence in " ".join(made.stderr.split())
    (finding,) = verify_file(path, registry=registry).findings
    assert "another program (gguf-split, an editor of metadata) has written it anew" in finding.what


def test_keys_at_other_places_are_one_finding(files: Files, tmp_path: Path, registry: Registry) -> None:
    """llama-quantize COPY moves what it sets to the end."""
    header = read_header(files.ours)
    first = list(header.metadata)[:3]
    pairs = {
        **{k: v for k, v in header.metadata.items() if k not in first},
        **{k: header.metadata[k] for k in first},
    }
    path = tmp_path / "moved.gguf"
    path.write_bytes(encode_header(pairs, header.tensors) + files.ours.read_bytes()[header.data_start :])
    assert not recorded(path, registry).outdated
    (finding,) = verify_file(path, registry=registry).findings
    assert "stand at other places than they were written to" in finding.what


def test_tensors_that_were_removed(files: Files, tmp_path: Path, registry: Registry) -> None:
    path = rewrite(tmp_path / "r.gguf", files.ours, files.ours, keep=lambda name: "blk.3." not in name)
    found = recorded(path, registry)
    assert not found.outdated
    assert "added or removed tensors since (it had 39, now 30); its types are still those" in found.sentence
    (finding,) = verify_file(path, registry=registry).findings
    assert finding.what == found.sentence
    both = rewrite(tmp_path / "b.gguf", files.ours, files.theirs, keep=lambda name: "blk.3." not in name)
    assert recorded(both, registry).outdated
    assert len(verify_file(both, registry=registry).findings) == 1


def test_tensors_that_were_renamed(tmp_path: Path, files: Files, registry: Registry) -> None:
    recipe = load_recipe_text(
        "quantrecipe: 1\ndefault: Q8_0\nrules: [{tensors: attn_v, type: F16, why: x}]\n", registry=registry
    )
    plan = make_plan(recipe, open_model(files.model, registry=registry), registry=registry)
    ours = apply_plan(plan, tmp_path / "ours.gguf", registry=registry, threads=1).path
    path = rewrite(tmp_path / "n.gguf", ours, ours, rename=lambda name: name.replace("attn_v", "attn_value"))
    assert recorded(path, registry).outdated
    same = rewrite(tmp_path / "s.gguf", ours, ours, rename=lambda name: name.replace("attn_q", "attn_query"))
    assert not recorded(same, registry).outdated


def test_data_that_was_changed_under_the_same_types(files: Files, tmp_path: Path, registry: Registry) -> None:
    """A merged adapter: the recipe is still that of the types, and verify says what happened in one sentence."""
    added = {"general.name": GGUFValue.of(ValueType.STRING, "merged")}

    def merged(name: str, data: bytes) -> bytes:
        return data[:-2] + bytes([data[-2] ^ 1, data[-1]]) if "attn" in name else data

    path = rewrite(tmp_path / "m.gguf", files.ours, files.ours, add=added, change=merged)
    verification = verify_file(path, registry=registry)
    (finding,) = next(check for check in verification.checks if check.name == "payload").findings
    assert "the data of 20 of 39 tensors isn't what was written, e.g. of blk.0.attn" in finding.what


def test_what_nobody_can_say_is_not_believed(files: Files, tmp_path: Path, registry: Registry) -> None:
    """Layers were pruned, so the recipe can't be held against the types; and the header isn't as it was written."""
    recipe = load_recipe_text("quantrecipe: 1\ndefault: Q8_0\nprune: '1'\n", registry=registry)
    plan = make_plan(recipe, open_model(files.model, registry=registry), registry=registry)
    ours = apply_plan(plan, tmp_path / "ours.gguf", registry=registry, threads=1).path
    assert not recorded(ours, registry).outdated
    path = rewrite(tmp_path / "p.gguf", ours, files.theirs, keep=lambda name: "blk.1." not in name)
    found = recorded(path, registry)
    assert found.outdated
    assert "whether the recorded recipe is still true can't be said: layers were pruned" in found.sentence


def test_stale_hashes_are_no_reason_to_copy(files: Files, tmp_path: Path, registry: Registry) -> None:
    """The hashes are those of the BF16 file that it was, or of a Q4_K_M whose data another program has changed."""
    source = open_model(files.model, registry=registry)
    plan = make_plan(load_recipe("llama.cpp/Q4_K_M"), source, registry=registry)
    fresh = apply_plan(plan, tmp_path / "fresh.gguf", registry=registry, threads=1).path
    stale = rewrite(tmp_path / "stale.gguf", files.ours, files.theirs)

    def changed(name: str, data: bytes) -> bytes:
        return bytes(len(data)) if "ffn" in name else data

    others = rewrite(tmp_path / "others.gguf", fresh, fresh, change=changed)
    for number, old in enumerate((stale, others)):
        again = apply_plan(
            plan, tmp_path / f"again{number}.gguf", registry=registry, threads=1, reuse=old
        ).path
        assert again.read_bytes() == fresh.read_bytes()
    fewer = rewrite(tmp_path / "fewer.gguf", fresh, fresh, keep=lambda name: "blk.3." not in name)
    with pytest.raises(ModelError, match="records what 39 tensors were made from, and has 30"):
        apply_plan(plan, tmp_path / "x.gguf", registry=registry, threads=1, reuse=fewer)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("covered", "which tensors importance covers: give --source and --imatrix"),
        ("source_type == 'FP8'", "how the source stores its weights: give --source"),
        ("layer > 0", ""),
    ],
)
def test_what_a_file_alone_can_t_tell(when: str, said: str, registry: Registry) -> None:
    rule = f'{{tensors: attn_q, when: "{when}", type: Q8_0, why: a}}'
    text = f"quantrecipe: 1\nname: asks\ndefault: Q4_K\nrules:\n- {rule}\n"
    assert why_unknown(load_recipe_text(text, registry=registry)).endswith(said)
    assert bool(why_unknown(load_recipe_text(text, registry=registry))) == bool(said)
