"""quantrecipe diff: what a reviewer sees, in the terminal and in a pull request; what a machine gets."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

OLD = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - {tensors: attn_v, type: Q6_K, why: values matter}
"""
NEW = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - tensors: attn_v
    layers: first 1/2
    type: Q6_K
    why: values matter in front
  - tensors: ffn_down
    layers: last 1
    type: Q8_0
    why: "outliers | are <b>here</b> [too] @someone #12 https://example.org `x`"
  - {tensors: "*_exps", type: Q3_K, why: experts, optional: true}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str, str]:
    """old.yaml, new.yaml, --model, model.gguf"""
    monkeypatch.chdir(tmp_path)
    Path("old.yaml").write_text(OLD, encoding="utf-8")
    Path("new.yaml").write_text(NEW, encoding="utf-8")
    write_gguf(Path("model.gguf"), llama_tensors(layers=4), llama_metadata(block_count=4))
    return "old.yaml", "new.yaml", "--model", "model.gguf"


def run(capsys: Output, *args: str) -> tuple[int, str, str]:
    status = main(["diff", *args])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_terminal(files: tuple[str, ...], capsys: Output) -> None:
    status, out, _ = run(capsys, *files)
    assert status == 0
    assert "model.gguf: " in out and "3 of 39 tensors change" in out
    assert re.search(r"attn_v +2-3 +2 +Q6_K → Q4_K +−[\d.]+ KiB +6\.56 → 4\.50", out)
    assert re.search(r"ffn_down +3 +1 +Q4_K → Q8_0 .*new\.yaml:9", out)
    assert "outliers" in out
    assert re.search(r"bits per weight +\d\.\d+ +\d\.\d+ +[+−]", out)
    assert "without effect on this model:\n  added new.yaml:13\n" in out


def test_nothing_changes(files: tuple[str, ...], capsys: Output) -> None:
    Path("same.yaml").write_text("# a comment\n" + OLD.replace("values matter", "small"), encoding="utf-8")
    status, out, _ = run(capsys, "old.yaml", "same.yaml", *files[2:], "--exit-code")
    assert status == 0
    assert "no difference" in out
    assert "reworded: attn_v  same.yaml:6" in out


def test_exit_code(files: tuple[str, ...], capsys: Output) -> None:
    assert run(capsys, *files)[0] == 0
    assert run(capsys, *files, "--exit-code")[0] == 1


def test_all_shows_what_stays(files: tuple[str, ...], capsys: Output) -> None:
    assert "ffn_gate" not in run(capsys, *files)[1]
    assert "ffn_gate" in run(capsys, *files, "--all")[1]


def test_json(files: tuple[str, ...], capsys: Output) -> None:
    document = json.loads(run(capsys, *files, "--format", "json")[1])
    (model,) = document["models"]
    assert (document["old"], document["new"], document["differs"]) == ("old.yaml", "new.yaml", True)
    assert [(c["role"], c["layers"], c["after"]["type"]) for c in model["changes"]] == [
        ("attn_v", "2-3", "Q4_K"),
        ("ffn_down", "3", "Q8_0"),
    ]
    assert model["after"]["nbytes"] - model["before"]["nbytes"] == model["delta"]


def test_markdown_is_what_a_page_shows(files: tuple[str, ...], capsys: Output) -> None:
    status, out, _ = run(capsys, *files, "--format", "markdown")
    assert status == 0
    assert out == run(capsys, *files, "--format", "markdown")[1]
    html = MarkdownIt("commonmark").enable("table").render(re.sub(r"</?(details|summary)>", "", out))
    assert html.count("<table>") == 2
    assert "<td><code>attn_v</code></td>\n<td>2-3</td>" in html
    assert "<strong>Q4_K</strong>" in html
    reason = html[html.index("outliers |") :].partition("</li>")[0]
    assert (
        "outliers | are &lt;b&gt;here&lt;/b&gt; [too] @\u200bsomeone #\u200b12 https:\u200b//example.org `x`"
        in reason
    )
    assert "<a " not in html and "<b>" not in html
    assert out.count("<details>") == out.count("</details>") == 2


def test_long_lists_are_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.chdir(tmp_path)
    types = ("Q3_K", "Q5_K", "Q6_K", "Q8_0")
    rules = [
        f"  - {{tensors: {role}, layers: '{n}', type: {types[n % 4]}, why: x}}\n"
        for role in ("ffn_up", "ffn_down")
        for n in range(10)
    ]
    Path("old.yaml").write_text("quantrecipe: 1\ndefault: Q4_K\n", encoding="utf-8")
    Path("new.yaml").write_text(f"quantrecipe: 1\ndefault: Q4_K\nrules:\n{''.join(rules)}", encoding="utf-8")
    write_gguf(Path("model.gguf"), llama_tensors(layers=10), llama_metadata(block_count=10))
    _, out, _ = run(capsys, "old.yaml", "new.yaml", "--model", "model.gguf", "--format", "markdown")
    before, _, after = out.partition("<details><summary>All 20 changes</summary>")
    assert "The 12 changes that weigh most:" in before
    assert len(re.findall(r"^\| `ffn_", before, re.M)) == 12
    assert len(re.findall(r"^\| `ffn_", after, re.M)) == 20


def test_several_models_with_one_that_can_t_be_planned(files: tuple[str, ...], capsys: Output) -> None:
    narrow = llama_tensors(layers=1, cols=32, hidden=64)
    write_gguf(Path("one.gguf"), narrow, llama_metadata(block_count=1))
    Path("new.yaml").write_text(
        NEW.replace("quantrecipe: 1", "quantrecipe: 1\nfallback: error"), encoding="utf-8"
    )
    models = ("--model", "model.gguf", "--model", "one.gguf")
    status, out, _ = run(capsys, "old.yaml", "new.yaml", *models)
    assert status == 1
    assert "one.gguf: new.yaml can't be planned" in out
    assert "line 6: " in out or "new.yaml: " in out
    assert "3 of 39 tensors change" in out
    status, out, _ = run(capsys, "old.yaml", "new.yaml", *models, "--format", "markdown")
    assert status == 1
    assert "| `one.gguf` |  |  | **new.yaml can't be planned** |" in out
    assert "> [!CAUTION]" in out
    document = json.loads(run(capsys, "old.yaml", "new.yaml", *models, "--format", "json")[1])
    assert document["models"][1]["old_error"] == []
    assert "no tensor named by 'attn_v' is in these layers" in document["models"][1]["new_error"][0]
    assert run(capsys, "new.yaml", "old.yaml", *models)[0] == 0  # what is broken is the old one


def test_a_recipe_that_does_not_load(files: tuple[str, ...], capsys: Output) -> None:
    Path("new.yaml").write_text("quantrecipe: 1\ndefault: Q4K\n", encoding="utf-8")
    status, out, _ = run(capsys, *files)
    assert status == 1
    assert "did you mean" in out


def test_revisions_of_git(files: tuple[str, ...], capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q", "-b", "main"), ("add", "old.yaml"), ("commit", "-qm", "x")):
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)
    Path("old.yaml").write_text(NEW, encoding="utf-8")
    status, out, _ = run(capsys, "main:old.yaml", "old.yaml", *files[2:])
    assert status == 0
    assert "3 of 39 tensors change" in out


def test_gguf_files_and_locks(files: tuple[str, ...], capsys: Output) -> None:
    assert main(["apply", "old.yaml", "model.gguf", "-o", "old.gguf"]) == 0
    assert main(["lock", "old.yaml", "model.gguf", "-o", "old.lock"]) == 0
    assert main(["lock", "new.yaml", "model.gguf", "-o", "new.lock"]) == 0
    capsys.readouterr()
    for old in ("old.gguf", "old.lock"):
        assert "no difference" in run(capsys, old, "old.yaml", "--model", "model.gguf")[1]
        assert "3 of 39 tensors change" in run(capsys, old, "new.yaml", "--model", "model.gguf")[1]
    assert "3 of 39 tensors change" in run(capsys, "old.lock", "new.lock")[1]
    assert "3 of 39 tensors change" in run(capsys, "old.gguf", "new.yaml")[1]
    assert "no difference" in run(capsys, "old.gguf", "old.gguf")[1]
    write_gguf(Path("other.gguf"), llama_tensors(layers=4, hidden=256), llama_metadata(block_count=4))
    assert "lock of another model" in run(capsys, "old.lock", "new.yaml", "--model", "other.gguf")[1]


def test_variables(files: tuple[str, ...], capsys: Output) -> None:
    text = OLD.replace("default: Q4_K", "variables: {values: Q6_K}\ndefault: Q4_K").replace(
        "Q6_K, why", "$values, why"
    )
    Path("new.yaml").write_text(text, encoding="utf-8")
    assert "no difference" in run(capsys, *files)[1]
    assert "Q6_K → Q8_0" in run(capsys, *files, "--set", "values=Q8_0")[1]
    status, _, err = run(capsys, *files, "--set", "value=Q8_0")
    assert status == 1
    assert "neither recipe has a variable 'value'" in err


def test_importance_can_be_assumed(files: tuple[str, ...], capsys: Output) -> None:
    Path("new.yaml").write_text(
        "quantrecipe: 1\nimportance: required\ndefault: IQ2_XS\n"
        "rules:\n  - {tensors: [token_embd, head], type: Q4_K}\n",
        encoding="utf-8",
    )
    assert "needs an importance matrix" in run(capsys, *files)[1]
    status, out, _ = run(capsys, *files, "--assume-imatrix")
    assert status == 0
    assert "IQ2_XS" in out


def test_a_model_is_needed(files: tuple[str, ...], capsys: Output) -> None:
    status, _, err = run(capsys, "old.yaml", "new.yaml")
    assert status == 2
    assert "--model" in err


def test_a_model_that_is_no_option_is_told_with_the_right_command(
    files: tuple[str, ...], capsys: Output
) -> None:
    status, _, err = run(capsys, "old.yaml", "new.yaml", "shapes/qwen3-0.6b", "--all")
    assert status == 2
    assert "shapes/qwen3-0.6b is a model, which `diff` is told with --model" in err
    assert "quantrecipe diff old.yaml new.yaml --all --model shapes/qwen3-0.6b" in err
    assert run(capsys, "old.yaml", "new.yaml", "--all", "--model", "shapes/qwen3-0.6b")[0] == 0


def test_names_from_files_do_not_reach_the_terminal(files: tuple[str, ...], capsys: Output) -> None:
    Path("new.yaml").write_text(NEW.replace("[too]", "\\e[31mred\\r"), encoding="utf-8")
    for form in ("text", "markdown"):
        out = run(capsys, *files, "--format", form)[1]
        assert "\x1b" not in out and "\r" not in out


def test_a_warning_of_several_models_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    rule = "rules: [{tensors: [attn_q, v_proj], type: Q6_K, why: x}]"
    Path("new.yaml").write_text(f"quantrecipe: 1\nextends: llama.cpp/Q4_K_M\n{rule}\n")
    models = [it for name in ("qwen3-14b", "qwen3-30b-a3b") for it in ("--model", f"shapes/{name}")]
    for form in ("text", "markdown"):
        assert main(["diff", "llama.cpp/Q4_K_M", "new.yaml", *models, "--format", form]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert out.count("is named by 'v") == out.count("(all 2 models)") == 1
