"""Record what C++'s std::regex answers, which llama-quantize and ik_llama.cpp search their patterns with.

    python tools/record_regex_answers.py tests/data/recipes/std-regex.json

Compiles a small program with g++ (libstdc++), and asks it which names each pattern is found in, as it is written and
lower-cased, as llama-quantize does. The tests hold `quantrecipe.recipe.terms.regex` against the answers, and need no
compiler.
"""

# ruff: noqa: T201  # a script prints

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

PROGRAM = r"""
#include <iostream>
#include <regex>
#include <string>
#include <vector>
int main() {
    std::string line;
    std::getline(std::cin, line);
    std::vector<std::string> names(std::stoi(line));
    for (auto & name : names) std::getline(std::cin, name);
    while (std::getline(std::cin, line)) {
        try {
            std::regex pattern(line);
            for (auto & name : names) std::cout << (std::regex_search(name, pattern) ? '1' : '0');
        } catch (const std::regex_error &) {
            std::cout << 'E';
        }
        std::cout << '\n';
    }
}
"""

NAMES = (
    "token_embd.weight", "output.weight", "output_norm.weight", "rope_freqs.weight", "per_layer_token_embd.weight",
    "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.1.attn_v.weight", "blk.9.attn_output.weight",
    "blk.10.attn_q_norm.weight", "blk.12.ffn_down.weight", "blk.33.ffn_down_exps.weight", "blk.60.ffn_gate_exps.weight",
    "blk.61.ffn_up_shexp.weight", "blk.100.ffn_gate_inp.weight", "blk.7.ssm_conv1d.weight", "blk.3.attn_q.bias",
    "v.blk.0.attn_q.weight", "enc.blk.2.ffn_up.weight", "BLK.0.ATTN_Q.WEIGHT", "a", "A", "_", "-", "blk-0", "x.y", "z9",
    "a b", "tab\there", "0", "007", "mm.2.weight",
)  # fmt: skip
"""Names of tensors, and some that no tensor has."""

WRITTEN = (
    *(
        "[[:alnum:]]",
        "[[:alpha:]]",
        "[[:blank:]]",
        "[[:cntrl:]]",
        "[[:digit:]]",
        "[[:graph:]]",
        "[[:lower:]]",
    ),
    *("[[:print:]]", "[[:punct:]]", "[[:space:]]", "[[:upper:]]", "[[:xdigit:]]"),
    *(f"[[:{name}:]]" for name in ["d", "w", "s", "D", "W", "S", "DIGIT", "Alpha", "foo", "word", "ascii"]),
    *(
        "blk\\.[[:digit:]]+\\.attn",
        "^blk\\.[[:digit:]]\\.",
        "[[:alnum:]_]+$",
        "^[[:alpha:]_.]+$",
        "[^[:alnum:]._]",
    ),
    *(
        "[[:upper:]]+",
        "[[:lower:]]{3}\\.",
        "blk\\.[[:digit:]]{2}\\.",
        "[[:digit:][:upper:]]$",
        "[a-c[:digit:]]\\.",
    ),
    *(
        "[[=a=]]",
        "[[=a=]b]",
        "[[.a.]]",
        "[[.hyphen.]]",
        "[[.period.]]",
        "[[.-.]]",
        "[[:digit:]",
        "[[:digit]]",
        "[[.a]",
    ),
    *(
        "[:digit:]",
        "[[:digit:]-z]",
        "[a-[:digit:]]",
        "[]a]",
        "[^]a]",
        "[a-]",
        "[-a]",
        "[]",
        "[^]",
        "[a\\]b]",
        "[\\d_]+$",
    ),
    *(
        "[\\D]",
        "[^\\D]\\.",
        "[^\\W]",
        "[\\S ]",
        "[\\W_]",
        "[^\\d\\W]",
        "[\\s-]",
        "[z-a]",
        "[a-a]",
        "[.]",
        "[$^]",
        "[|()]",
    ),
    *(
        "attn_v",
        "attn_(k|q)",
        "attn_(?:k|q)\\.",
        "ffn_(up|gate)_exps",
        "(^|\\.)blk\\.",
        "blk\\.([0-9]|1[0-9])\\.ffn",
    ),
    *(
        "blk\\.\\d+\\.ATTN_Q",
        "BLK\\.\\D",
        "\\D",
        "\\W",
        "\\S",
        "\\d{2}",
        "\\d{2,}",
        "\\d{1,2}\\.ffn",
        "\\w+\\.\\d",
        "\\s",
    ),
    *(
        ".*",
        ".+\\.bias$",
        "^output",
        "weight$",
        "^$",
        "$^",
        "^.",
        "output|token",
        "a|",
        "|a",
        "(|a)b",
        "()",
        "(a*)*",
        "a**",
    ),
    *(
        "a{2",
        "a{,2}",
        "{2}",
        "a{2}{3}",
        "*a",
        "+",
        "?",
        "(a",
        "a)",
        "[a",
        "a\\",
        "\\.",
        "\\-",
        "\\_",
        "\\/",
        "\\y",
        "\\e",
    ),
    *(
        "\\b",
        "\\bblk",
        "\\Bk",
        "(?=blk)",
        "(?!blk)blk",
        "(?<=b)l",
        "(?i)blk",
        "(a)\\1",
        "\\x41",
        "\\u0041",
        "\\cA",
        "\\0",
    ),
    *(
        "a+?",
        "a*?b",
        "(ab)+?",
        ".{3}\\.",
        "^.{1,3}$",
        "blk.0.attn_q",
        "blk\\..*\\.attn_.*",
        "x*y",
        "[0-9]+\\.[a-z_]+\\.",
    ),
)


def patterns() -> list[str]:
    """Those above, and others made by chance of the parts that people use."""
    rng = random.Random(1)
    parts = (
        *(
            "blk",
            "\\.",
            ".",
            "[0-9]",
            "[[:digit:]]",
            "\\d",
            "\\D",
            "\\w",
            "[[:alpha:]_]",
            "[^.]",
            "attn_",
            "q",
            "k",
            "ffn",
        ),
        *(
            "_exps",
            "weight",
            "[a-f]",
            "[^[:digit:]_]",
            "[\\w.]",
            "(up|gate)",
            "(?:k|q|v)",
            "([0-9]|1[0-9])",
            "(a|)",
            "A",
        ),
    )
    found = []
    for _ in range(220):
        text = "".join(
            rng.choice(parts) + rng.choice(("", "", "", "", "*", "+", "?", "{2}", "{1,3}", "+?"))
            for _ in range(rng.randrange(1, 6))
        )
        found.append(rng.choice(("", "", "^")) + text + rng.choice(("", "", "$")))
    return list(dict.fromkeys((*WRITTEN, *found)))


def main() -> None:
    """Compile, ask, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    asked = patterns()
    lowered = [text.lower() for text in asked]
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "ask.cpp"), Path(folder, "ask")
        source.write_text(PROGRAM)
        subprocess.run(["g++", "-std=c++17", "-O1", "-o", program, source], check=True)
        text = "\n".join([str(len(NAMES)), *NAMES, *asked, *lowered]) + "\n"
        answers = subprocess.run(
            [program], input=text, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    content = {
        "made by": "tools/record_regex_answers.py",
        "names": NAMES,
        "answers": dict(zip(asked, answers[: len(asked)], strict=True)),
        "lower-cased": dict(zip(asked, answers[len(asked) :], strict=True)),
    }
    out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{out}: {len(asked)} patterns, {len(NAMES)} names")


if __name__ == "__main__":
    main()
