"""The file: what was written is read again, to the byte; what is no such file is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError, SensitivityError
from quantrecipe.sensitivity import (
    Loss,
    Probed,
    Provenance,
    Sensitivity,
    TensorSensitivity,
    read_sensitivity,
    write_sensitivity,
)

FOUND = Sensitivity(
    tensors={
        "token_embd.weight": TensorSensitivity(
            name="token_embd.weight",
            digest="ab" * 16,
            weights=1024,
            losses={
                "Q4_K": Loss(error=0.00512345, standard_error=2.5e-05, nbytes=576, version=1),
                "Q8_0": Loss(error=2.9e-05, standard_error=0.0, nbytes=1088, version=2),
            },
            alpha=0.987654,
            alpha_source="probe",
            importance="cd" * 16,
            rows=4,
        ),
        "blk.0.ffn_up_exps.weight": TensorSensitivity(
            name="blk.0.ffn_up_exps.weight",
            digest="ef" * 16,
            weights=4096,
            losses={"Q4_K": Loss(error=0.25, standard_error=0.01, nbytes=2304, version=1)},
            alpha=0.5,
            experts=(0.1, 0.0, 0.3),
            expert_type="Q4_K",
            unseen=(1,),
        ),
    },
    provenance=Provenance(model="größer", arch="llama", n_layers=1, analysis="imatrix 1", prior=1),
    probes=(Probed(key="01" * 16, what="attn_v → Q3_K", kld=0.00125, standard_error=1e-05),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.sensitivity.jsonl"


def test_is_read_as_it_was_written(path: Path) -> None:
    write_sensitivity(FOUND, path)
    assert read_sensitivity(path) == FOUND
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_the_same_measurement_gives_the_same_bytes(path: Path) -> None:
    write_sensitivity(FOUND, path)
    before = path.read_bytes()
    write_sensitivity(read_sensitivity(path), path)
    assert path.read_bytes() == before


def test_costs_are_alpha_times_error() -> None:
    assert FOUND.cost("token_embd.weight", "Q4_K") == pytest.approx(0.987654 * 0.00512345)
    assert FOUND.cost("token_embd.weight", "Q2_K") is None
    assert FOUND.cost("output.weight", "Q4_K") is None
    assert FOUND.error("blk.0.ffn_up_exps.weight", "Q4_K") == 0.25
    assert FOUND.total({"token_embd.weight": "Q8_0", "blk.0.ffn_up_exps.weight": "Q4_K"}) == pytest.approx(
        0.987654 * 2.9e-05 + 0.125
    )
    assert FOUND.total({"token_embd.weight": "Q2_K"}) is None


def test_types_are_told_by_size() -> None:
    assert FOUND.types == ("Q4_K", "Q8_0")


def test_leaves_nothing_behind_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_sensitivity(FOUND, tmp_path / "nowhere" / "file.jsonl")
    assert list(tmp_path.iterdir()) == []


def edited(line: dict[str, object], **changes: object) -> str:
    return json.dumps({**line, **changes})


def test_every_damage_names_its_line(path: Path) -> None:
    write_sensitivity(FOUND, path)
    header, first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    whole = [json.dumps(line) for line in (header, first, second)]
    cases = {
        "no such file": (["{}"], ":1: has no"),
        "another version": ([edited(header, quantrecipe_sensitivity=99)], ":1: is of version 99"),
        "no JSON": ([*whole[:2], "{nonsense"], ":3: is not valid JSON"),
        "a list": ([whole[0], "[1]"], ":2: is not a JSON object"),
        "a name twice": ([*whole, whole[1]], ":4: is the second one of token_embd.weight"),
        "no digest": ([whole[0], '{"name": "x", "weights": 3}'], ":2: isn't a tensor of"),
        "a negative alpha": (
            [whole[0], edited(first, alpha=-1)],
            "(alpha: expected `float` >= 0",
        ),
        "infinity": ([whole[0], whole[1].replace("0.987654", "1e999")], "(alpha: expected `float` <= 1.79"),
        "no number": ([whole[0], edited(first, alpha="much")], "(alpha: expected `float`, got `str`)"),
        "half a loss": ([whole[0], edited(first, losses={"Q4_K": [1.0]})], ":2: isn't a tensor of"),
        "no weights": ([whole[0], edited(first, weights=0)], "(weights: expected `int` >= 1)"),
        "no text": ([json.dumps({k: v for k, v in header.items() if k != "text"})], "text is missing"),
        "no list of probes": ([edited(header, probes={})], ":1: isn't a header of"),
        "a probe without a number": ([edited(header, probes=[{"key": "", "what": ""}])], "field `kld`"),
        "no layers": ([edited(header, n_layers=-1)], ":1: isn't a header of"),
    }
    for what, (lines, said) in cases.items():
        path.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(SensitivityError) as error:
            read_sensitivity(path)
        assert str(path) in str(error.value), what
        assert said in str(error.value), what


def test_what_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"GGUF\xff\xfe\x00")
    with pytest.raises(SensitivityError, match="UTF-8"):
        read_sensitivity(path)
    with pytest.raises(SensitivityError, match="can't be read"):
        read_sensitivity(path.parent)
