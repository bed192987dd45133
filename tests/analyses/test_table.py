"""table: results of others, in any of three layouts; what isn't one is refused with its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.analyses.table import Table
from quantrecipe.api import Study
from quantrecipe.errors import SensitivityError
from quantrecipe.tensor import TensorInfo

NAMES = ("output.weight", "blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight")
PRIOR = dict.fromkeys(NAMES, 0.5)


def study(path: Path | None, **changes: Any) -> Study:
    settings: dict[str, Any] = {
        "tensors": tuple(TensorInfo.from_name(name, (8, 8), "BF16") for name in NAMES),
        "n_layers": 2,
        "losses": {name: {"Q3_K": 0.02, "Q2_K": 0.08} for name in NAMES},
        "prior": PRIOR,
        "doubt": dict.fromkeys(NAMES, 1.0),
        "file": path,
    }
    return Study(**settings | changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_a_line_for_each_measurement(path: Path) -> None:
    path.write_text(
        "# measured by hand\n"
        "Tensor, Type, KLD\n"
        "base,Q8_0,0.001\n"
        "\n"
        "output,Q3_K,0.011\n"
        "blk.0.attn_v.weight,q3_k,0.002\n"
        "blk.1.attn_v,Q3_K,\n",
        encoding="utf-8",
    )
    found = Table().weigh(study(path))
    assert found == {"output.weight": pytest.approx(0.5), "blk.0.attn_v.weight": pytest.approx(0.05)}


def test_perplexities_are_taken_by_their_logarithm(path: Path) -> None:
    path.write_text("tensor,type,ppl\nbase,F16,10\noutput,Q3_K,10.2\n", encoding="utf-8")
    assert Table().weigh(study(path))["output.weight"] == pytest.approx(math.log(1.02) / 0.02)


SUITE = """\
QTYPE,output.weight,blk.0.attn_v.weight,blk.1.attn_v.weight,blk.1.ffn_down.weight
q3_k,0.0210,0.0030,0.0010,404
q2_k,0.0850,0.0080,0.0012,0.0450
"""


def test_the_suite_s_files(path: Path) -> None:
    path.write_text(SUITE, encoding="utf-8")
    found = Table().weigh(study(path))
    base = 0.001  # the lowest figure, where no line is of 16 bits
    assert found["blk.1.ffn_down.weight"] == pytest.approx((0.0450 - base) / 0.08)
    assert found["output.weight"] == pytest.approx(((0.0210 - base) / 0.02 + (0.0850 - base) / 0.08) / 2)
    assert 0 < found["blk.1.attn_v.weight"] < 0.02  # the lowest itself costs something, too


def test_a_16_bit_line_is_the_base(path: Path) -> None:
    path.write_text(SUITE + "bf16,0.0005,0.0005,0.0005,0.0005\n", encoding="utf-8")
    found = Table().weigh(study(path))
    assert found["blk.1.ffn_down.weight"] == pytest.approx(0.0445 / 0.08)


def test_a_type_that_is_not_measured_here_keeps_the_prior_s_sum(path: Path) -> None:
    path.write_text(SUITE.replace("q3_k", "iq1_kt").split("q2_k")[0], encoding="utf-8")
    found = Table().weigh(study(path))
    assert sum(found.values()) == pytest.approx(sum(PRIOR[name] for name in found))
    assert found["output.weight"] > 5 * found["blk.0.attn_v.weight"]


def test_types_that_saturate_do_not_count(path: Path) -> None:
    path.write_text("tensor,type,kld\nbase,,0\noutput,Q3_K,0.01\noutput,Q1,0.6\n", encoding="utf-8")
    losses = {name: {"Q3_K": 0.02, "Q1": 0.6} for name in NAMES}
    assert Table().weigh(study(path, losses=losses))["output.weight"] == pytest.approx(0.5)


def test_ppl_files_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "ppl_results.csv"
    path.write_text("QTYPE,output.weight,blk.0.attn_v.weight\nq3_k,6.9,6.8\n", encoding="utf-8")
    assert Table().weigh(study(path))["output.weight"] == pytest.approx(math.log(6.9 / 6.8) / 0.02)


WRONG = {
    "no header": ("output,Q3_K,0.1\n", "no header that says"),
    "empty": ("", "no header that says"),
    "header alone": ("tensor,type,kld\n", "has no results"),
    "no number": ("tensor,type,kld\noutput,Q3_K,much\n", ":2: 'much' is no number"),
    "a negative one": ("tensor,type,kld\n\noutput,Q3_K,-1\n", ":3: '-1' is no measured result"),
    "a short line": ("tensor,type,kld\noutput,Q3_K\n", ":2: has 2 columns (expected: 3)"),
    "a short line of the suite": (SUITE + "iq1_kt,1\n", ":4: has 2 columns (expected: 5)"),
    "16 bits alone": ("tensor,type,kld\noutput,BF16,0.1\n", "16-bit types alone"),
    "whole models": ("QTYPE,group0\nq4_0,0.02\n", "none of its tensors"),
    "another model": (
        "tensor,type,kld\nbase,,0\nblk.7.x,Q3_K,0.1\nblk.8.x,Q3_K,0.1\n",
        "is of another model: 2 of",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_table_is_refused(path: Path, text: str, said: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SensitivityError) as error:
        Table().weigh(study(path))
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(SensitivityError, match="--table"):
        Table().weigh(study(None))
    with pytest.raises(SensitivityError, match="can't be read as CSV"):
        Table().weigh(study(tmp_path / "nothing.csv"))
