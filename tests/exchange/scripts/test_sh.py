"""Scripts of sh and bash: what is read is what a real bash would run."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.shells import needs_gnu

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.scripts.call import Script
from quantrecipe.exchange.scripts.filters import FILTERS
from quantrecipe.exchange.scripts.script import read_script
from quantrecipe.exchange.scripts.sh import read_sh

RECORDER = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done >> "$RECORDED"
printf '\\1' >> "$RECORDED"
"""

DATA = Path(__file__).parents[2] / "data/scripts"
CARD = (DATA / "card.sh").read_text()
"""As model cards of ik_llama.cpp's types have it."""

CLEANED = [
    "grep -v '^#' | tr '\\n' ',' | sed 's/^,*//;s/,*$//'",
    "grep -v '^#' | grep -v '^$' | paste -sd, -",
    "sed '/^#/d' | sed '/^$/d' | paste -s -d ','",
    "sed -e '/^[[:space:]]*#/d' -e '/^$/d' | tr '\\n' ','",
    "grep -vE '^\\s*(#|$)' | tr '\\n' ',' | sed 's/,$//'",
    "sed ':a;N;$!ba;s/\\n/,/g'",
    "sed 's/#.*//' | tr -d ' ' | tr -s '\\n' ','",
    "egrep -v '^(#|$)' | tr '\\n' ' ' | sed -e 's/ *$//' -e 's/  */,/g'",
    "cut -d'#' -f1 | grep . | paste -sd,",
    "grep -v -e '^#' -e '^$' | tee kept.txt | tr '\\n' ','",
    "sed -E 's/^(blk)/^\\1/' | grep -v '#' | xargs | tr ' ' ','",
    "grep = | sed 's/[[:blank:]]*$//;s/^/x/' | tr '[:upper:]' '[:lower:]' | tr '\\n' ','",
]

SCRIPTS = {
    **{path.stem: path.read_text() for path in sorted(DATA.glob("*.sh"))},
    **{
        f"cleaned-{number}": CARD.partition("custom=$(")[0] + f'custom=$(echo "$custom" | {filters})\n'
        'llama-quantize --custom-q "$custom" in.gguf out.gguf Q4_K\n'
        for number, filters in enumerate(CLEANED)
    },
}


def calls(script: Script) -> list[list[str]]:
    return [[word.text for word in call.words] for call in script.calls]


def read(text: str) -> Script:
    return read_sh(text, "script.sh", lambda path: None)


@needs_gnu
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_bash_would_run(name: str, tmp_path: Path) -> None:
    """By bash itself, with a program in llama-quantize's place that records its arguments."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/llama-quantize"
    program.write_text(RECORDER)
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECORDED": str(tmp_path / "args"), "LC_ALL": "C"}
    subprocess.run(
        ["bash", "-c", SCRIPTS[name]], cwd=tmp_path, env=env, check=False, capture_output=True, timeout=60
    )
    ran = (tmp_path / "args").read_bytes().decode().split("\1")[:-1]
    assert calls(read(SCRIPTS[name])) == [text.split("\0")[:-1] for text in ran]


@needs_gnu
@settings(max_examples=examples(25), deadline=None)
@given(text=st.text(alphabet="ab=,# \n\t\\.$*", max_size=40), number=st.integers(0, len(CLEANED) - 1))
def test_filters_do_what_they_do(text: str, number: int) -> None:
    """On any text; where they aren't certain, they say so."""
    script = f'echo "$T" | {CLEANED[number]}'
    env = {"T": text, "PATH": os.environ["PATH"], "LC_ALL": "C"}
    theirs = subprocess.run(
        ["bash", "-c", f"cd /; {script.replace('kept.txt', '/dev/null')}"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    quoted = text.replace("'", "'\\''")
    (call,) = read(f"T='{quoted}'\nllama-quantize \"$({script})\"").calls
    if not call.words[0].missing:
        assert call.words[0].text == theirs.stdout.rstrip("\n")


def test_comments_stay_known_when_they_are_filtered_out() -> None:
    ((line, text),) = read(CARD).notes
    assert line == 3
    assert "# Attention\n" in text


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("llama-quantize $IN o.gguf Q4_0", ("$IN",)),
        ('llama-quantize "${DIR}/in.gguf" o.gguf Q4_0', ("$DIR",)),
        ("llama-quantize $1 o.gguf Q4_0", ("$1",)),
        ("llama-quantize $(ls *.gguf) o.gguf Q4_0", ("$(ls *.gguf)",)),
        ("llama-quantize $(jq -r .in x.json) o.gguf Q4_0", ("$(jq -r .in x.json)",)),
        ("llama-quantize $(echo a | sed 's/a/b/w x') o.gguf Q4_0", ("$(echo a | sed 's/a/b/w x')",)),
        ("llama-quantize $((1+2)) o.gguf Q4_0", ("$((1+2))",)),
        ("if a; then X=1; else X=2; fi\nllama-quantize $X o Q4_0", ("$X (which is set in several ways)",)),
        ("X=1\n[ -z $Y ] && X=2\nllama-quantize $X o Q4_0", ("$X (which is set in several ways)",)),
        ("while read X; do llama-quantize $X o Q4_0; done < list", ("$X",)),
        ("for f in *.gguf; do llama-quantize $f o Q4_0; done", ()),
        ("X=$(awk 1)\nllama-quantize $X o Q4_0", ("$(awk 1)",)),
        ("X=a\nunset X\nllama-quantize $X o Q4_0", ("$X",)),
    ],
)
def test_what_is_not_known_is_named(script: str, missing: tuple[str, ...]) -> None:
    (call,) = read(script).calls
    assert call.words[0].missing == missing


def test_lines_are_those_of_the_script() -> None:
    script = read(
        "\n# x\nA='a\nb'\n\nnohup \\\n  llama-quantize \\\n  --pure \\\n  in \"$A\" \\\n  Q4_0\nllama-quantize a b Q5_0"
    )
    assert [call.line for call in script.calls] == [7, 11]
    assert [word.line for word in script.calls[0].words] == [8, 9, 9, 10]


def test_why_a_command_ends_early() -> None:
    (space,) = read("llama-quantize \\\n --pure \\ \n in out Q4_0").calls
    assert space.cut == "a space stands behind the \\ at the end of line 2, so the command ends there"
    (comment,) = read("llama-quantize \\\n --pure \\\n # --x \\\n in out Q4_0").calls
    assert comment.cut == "the comment in line 3 ends the command"


def test_what_else_runs() -> None:
    script = read(
        "set -e\ncmake --build . --target llama-quantize\ncp build/bin/llama-quantize .\npython c.py\n"
        "llama-quantize a b Q4_0"
    )
    assert script.others == (("cmake", 2), ("cp", 3), ("python", 4))
    assert len(script.calls) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("llama-quantize 'a", "script.sh:1: the quotation ' is opened here"),
        ('\nllama-quantize "a', 'script.sh:2: the quotation " is opened here'),
        ("llama-quantize $(a", "script.sh:1: the substitution $( is opened here"),
        ("llama-quantize `a", "script.sh:1: the substitution ` is opened here"),
        ("llama-quantize ${a", "script.sh:1: the variable ${ is opened here"),
        ("a=(b\n", "script.sh:1: the list a=( is opened here"),
        ("f() { f; }\nf", "go too deep"),
        ("for a in {1..200}; do for b in {1..200}; do x; done; done", "its loops repeat too much"),
        ("for a in {1..200}; do x" + " y" * 1000 + "; done", "its loops repeat too much"),
        ("a=x\nfor i in {1..99}; do a=$a$a; done", "grow too long"),
        ("llama-quantize " + "$(" * 60 + ")" * 60, "within more than 40 others"),
    ],
)
def test_scripts_that_cannot_be_followed(text: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert what in str(caught.value)


PARTS = (
    *(
        "llama-quantize ",
        "a=",
        "b+=",
        "(",
        ")",
        "$(",
        "`",
        '"',
        "'",
        "$a",
        "${a",
        "}",
        "{",
        "for x in ",
        "do ",
        "done",
        ";",
    ),
    *(
        "\n",
        "if ",
        "then ",
        "fi",
        "case ",
        "esac",
        "<<E\n",
        "E\n",
        "|",
        "&&",
        "#",
        "\\",
        " ",
        "in ",
        "f() ",
        "${a%",
        "//",
    ),
    *(
        "echo ",
        "sed s/a/b/ ",
        "Q4_0",
        "{a,b}",
        "{1..9}",
        ">",
        "<",
        "$'",
        "function ",
        "while ",
        "$((",
        "))",
        ";;",
        "eval ",
    ),
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join))
def test_any_script_is_read_or_refused(text: str) -> None:
    try:
        read(text)
    except RecipeError as error:
        assert str(error)


@pytest.mark.parametrize(
    "command",
    [
        *(
            "sed s/a/b/w~file",
            "sed y/a/b/",
            "sed -n p",
            r"sed s/\(a*\)*/b/",
            "sed s/a*b*c*/x/",
            "grep -c a",
            "grep a file",
        ),
        *("tr -d a b", r"tr \101 b", "paste -d ,", "xargs -n1", "cut -c1", "printf %5d 1"),
    ],
)
def test_filters_refuse_what_they_do_not_know(command: str) -> None:
    name, *args = command.split()
    assert FILTERS[name](args, "a\n") is None


@pytest.mark.parametrize(
    "text",
    [
        "quantize in.gguf Q4_K" + "\n" * 60_000,
        "quantize in.gguf Q4_K\n" + " \t\n" * 20_000,
        "quantize in.gguf Q4_K\n" + "in(" * 20_000,
        "$ " + "a=" * 30_000 + " quantize",
    ],
    ids=["blank lines", "lines of space", "brackets", "assignments"],
)
def test_long_texts_take_no_time(text: str) -> None:
    """The square of so many characters would be minutes."""
    start = time.process_time()
    with suppress(RecipeError):
        read_script(text, "x")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("begin", ["a=(", "$(", '"$(', "a=${b:-", "{ ", "if ", "a=(${b:-"])
def test_what_is_nested_a_thousand_times_is_an_error_of_ours(begin: str) -> None:
    with suppress(RecipeError):
        read_script(begin * 3000 + " quantize", "x.sh")
    read_script(
        "list=(a b)\nlist+=(c)\n" * 50 + 'llama-quantize "${list[0]}" Q4_K\n', "x.sh"
    )  # one after the other
