"""Write docs/quality.md and its picture: presets beside fitted mixes of the same bytes.

    python benchmarks/quality.py FOLDER --json quality.json               (takes hours)
    python benchmarks/quality_page.py quality.json [MORE.json …]          docs/quality.md; needs matplotlib
    python benchmarks/quality_page.py quality.json -o my-model.md         a page of one's own, my-model.svg beside it

The picture also shows figures that others have published. Their models and texts are different.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/quality.md"
PICTURE = ROOT / "docs/images/quality.svg"

WAYS = {
    "fit": ("`fit --text`", "#1f5fa8"),
    "roles": ("a probe a role", "#4c9f70"),
    "prior": ("prior, losses measured", "#c98a1b"),
    "headers": ("prior alone", "#a04a6f"),
}

LLAMA_3_8B = {  # GiB, KLD
    "Q6_K": (6.14, 0.0055),
    "Q5_K_M": (5.33, 0.0108),
    "Q4_K_M": (4.58, 0.0282),
    "IQ4_XS": (4.14, 0.0363),
    "Q3_K_M": (3.74, 0.0844),
    "IQ3_XXS": (3.05, 0.184),
    "IQ2_M": (2.74, 0.326),
}
"""llama.cpp, tools/perplexity/README.md: Llama-3-8B on Wikitext-2, with importance."""

LLAMA_3_8B_WEIGHTS = 8.03e9

TARGET_SIZE = (4.86, 0.0176 / 0.0209 - 1)
"""llama.cpp pull request 15550 (EAddario): ERNIE-4.5-21B, bits per weight and change of the KLD against Q4_K_M."""

FEWEST = 5
"""Presets that it takes for a mean."""

NOTES = {
    "SmolLM2-135M-Instruct": """\
This is a model that people know, and an unfair one: the file that we had was made from Q4_1, so that Q4_1 loses next
to nothing, and other types of 4 bits lose what they wouldn't lose on weights of full precision. `fit` finds that out:
at the bytes of Q4_K_M it gives Q4_1. The model's rows have 576 weights, which blocks of 256 can't divide; so fallbacks
take the place of K and IQ types in most matrices, in presets and in fitted mixes. Two mixes were tried for each preset.
At Q3_K_M's bytes the mix is worse than at IQ4_XS's, which are fewer: on such weights the estimate errs more.
""",
}
"""What has to be known of a model."""

INTRO = """\
# Quality: fitted mixes beside presets

<!-- benchmarks/quality_page.py writes this page: change the script, not the page. -->

This page is for you if you want to know whether `quantrecipe fit` is worth its time. It compares two mixes of the
same bytes: a preset of llama.cpp, and the mix that `fit` found. We did this for every preset from Q2_K to Q6_K.
llama.cpp measured the mean KL divergence (KLD) from the BF16 model for both. A lower KLD is better: the output is
closer to that of the BF16 model. The texts are code and prose that neither the importance matrix nor the probes have
seen. Both mixes are made with the same importance matrix. `python benchmarks/quality.py` repeats the measurement.

![KL divergence against bits per weight, presets and fitted mixes](images/quality.svg)

`fit` can know in four ways what to spend bytes on. [Sensitivity](sensitivity.md) explains probes and the prior:

| way | losses of types | how much tensors matter | options of `fit` |
|---|---|---|---|
| **{fit}** | measured | {n} passes over {tokens:,} tokens; {tried} mixes are tried | `--imatrix … --text …` |
| **{roles}** | measured | a pass for each role | `--imatrix … --text … --probes 8 --evaluations 0` |
| **{prior}** | measured | typical values for role and depth | `--imatrix …` |
| **{headers}** | typical values for the type | typical values for role and depth | `--imatrix … --prior` |

These figures have limits. The models are small, and llama.cpp's presets were made with large models in mind. The first
two are among the 21 models from which the prior was made. Probes read calibration text only. How much the part of an
error along the weights counts was also decided with calibration text only. The margin by which a mix must be expected
to beat a preset was set after the first results of tiny-code, and before small-code was evaluated.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", metavar="JSON", help="of benchmarks/quality.py")
    parser.add_argument("-o", "--output", type=Path, metavar="PAGE", help="default: docs/quality.md")
    args = parser.parse_args()
    results = [json.loads(path.read_text(encoding="utf-8")) for path in args.results]
    page = args.output or PAGE
    picture = PICTURE if args.output is None else page.with_suffix(".svg")
    labels = {way: label for way, (label, _) in WAYS.items()}
    if args.output is None:
        lines = [
            INTRO.format(
                n=results[0]["probes"], tried=results[0]["evaluations"], tokens=results[0]["tokens"], **labels
            )
        ]
    else:
        lines = [
            "# Fitted mixes beside presets of the same bytes",
            "",
            f"![KL divergence against bits per weight]({picture.name})",
            "",
        ]
    models = [model for result in results for model in result["models"]]
    for model in models:
        lines += section(model, results[0]["older"])
    page.write_text("\n".join(lines), encoding="utf-8")
    draw(models, picture)


def section(model: dict[str, Any], older: list[str]) -> list[str]:
    """One model: the changes of the KLD, then everything of the best way."""
    ways = [way for way in WAYS if way in model["rows"][0]["fitted"]]
    kinds = [kind for kind in model["rows"][0]["stock"] if kind != "all"]
    columns = [
        *((f"KLD, {kind}", kind, "kld_mean", ".5f") for kind in kinds),
        ("KLD, 99 %", "all", "kld_99", ".4f"),
        ("KLD, 99.9 %", "all", "kld_999", ".4f"),
        ("top-1", "all", "top1", ".2%"),
        *((f"perplexity, {kind}", kind, "perplexity", ".3f") for kind in kinds),
    ]
    texts = ", ".join(f"{text['chunks']} chunks of {text['name']}" for text in model["reference"]["texts"])
    lines = [
        f"## {model['model']}, {model['weights'] / 1e6:.1f} million weights",
        "",
        *([NOTES[model["model"]]] if model["model"] in NOTES else []),
        f"The texts are {texts}, with a context of {model['reference']['n_ctx']}.",
        "The columns of `fit` show by how much its mix changes the mean KLD at the same bytes, ± the standard error.",
        "`=` means that `fit` did not expect to be better by enough, and gave a preset that has no more bytes.",
        "",
        "| preset | bits per weight | KLD | " + " | ".join(WAYS[way][0] for way in ways) + " |",
        "|---|---|---|" + "---|" * len(ways),
    ]
    for row in model["rows"]:
        cells = (change(row["fitted"][way]) for way in ways)
        kld = row["stock"]["all"]["kld_mean"]
        lines.append(
            f"| {row['mix']} | {row['bits_per_weight']:.2f} | {kld:.5f} | " + " | ".join(cells) + " |"
        )
    newer = [row for row in model["rows"] if row["mix"] not in older]
    changes = {way: [row["fitted"][way]["change"] for row in model["rows"]] for way in ways}
    without = {way: [row["fitted"][way]["change"] for row in newer] for way in ways}
    if len(model["rows"]) >= FEWEST:
        lines += [
            "| **mean** | | | "
            + " | ".join(f"**{100 * statistics.fmean(changes[way]):+.1f} %**" for way in ways)
            + " |",
            f"| mean without {', '.join(older)} | | | "
            + " | ".join(f"{100 * statistics.fmean(without[way]):+.1f} %" for way in ways)
            + " |",
            "| worst | | | " + " | ".join(f"{100 * max(changes[way]):+.1f} %" for way in ways) + " |",
        ]
    lines += [
        "",
        f"This table has all figures. Each cell is preset → fitted mix ({WAYS[ways[0]][0]}):",
        "",
        "| preset | " + " | ".join(heading for heading, *_ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in model["rows"]:
        stock, fitted = row["stock"], row["fitted"][ways[0]]["figures"]
        both = [
            f"{stock[text][figure]:{form}} → {fitted[text][figure]:{form}}"
            for _, text, figure, form in columns
        ]
        lines.append(f"| {row['mix']} | " + " | ".join(both) + " |")
    lines.append("")
    return lines + closer([row for row in model["rows"] if "closer" in row])


def closer(rows: list[dict[str, Any]]) -> list[str]:
    """What else was measured of some mixes: continuations, questions, long contexts."""
    if not rows:
        return []
    stock = rows[0]["closer"]["stock"]
    lines = [
        "Some mixes were looked at more closely. Each cell is preset → fitted mix, ± half of a 95 % interval:",
        "",
        f"* **goes on**: after {stock['places']} beginnings of texts, both go on greedily. Tokens (of 32, and of 128)",
        "  until the first that differs from what the BF16 model writes; more is better.",
        f"* **answers**: of {stock['questions']['questions']} questions for the last word of a line, the share that is",
        f"  right, and how many the fitted mix gained and lost. The BF16 model has {stock['reference_right']:.1%}.",
        f"* **KLD far**: in contexts of {stock['far_context']:,} tokens.",
        "",
        "| preset | goes on, of 32 | goes on, of 128 | answers | KLD far |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        one, other = row["closer"]["stock"], row["closer"]["fitted"]
        cells = [
            " → ".join(
                with_error(it["continuations"]["agreement"][number]["until"], ".1f") for it in (one, other)
            )
            for number in range(2)
        ]
        paired = other["questions"]["beside_first"]
        right = " → ".join(f"{it['questions']['right']['value']:.1%}" for it in (one, other))
        cells.append(f"{right} (+{paired['gained']} −{paired['lost']})")
        cells.append(" → ".join(f"{it['far']['kld_mean']:.5f}" for it in (one, other)))
        lines.append(f"| {row['mix']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def with_error(interval: dict[str, float], form: str) -> str:
    """A value, and half of its interval."""
    half = (interval["high"] - interval["low"]) / 2
    return f"{interval['value']:{form}} ± {half:{form}}"


def change(fitted: dict[str, Any]) -> str:
    sign = " =" if fitted["is"] else ""
    return f"{100 * fitted['change']:+.1f} ± {100 * fitted['change_error']:.1f} %{sign}"


def draw(models: list[dict[str, Any]], picture: Path) -> None:
    """Above the divergence against size, below what changes at the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(models), 8.2), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, height_ratios=(3, 2))
    for (above, below), model in zip(axes.T, models, strict=True):
        rows = sorted(model["rows"], key=lambda row: (row["bits_per_weight"], row["mix"]))
        above.set_title(f"{model['model']}, {model['weights'] / 1e6:.1f} M weights", fontsize=10, loc="left")
        _draw_sizes(above, rows)
        _draw_changes(below, rows)
        for ax in (above, below):
            ax.grid(alpha=0.25, which="both", linewidth=0.4)
            ax.tick_params(labelsize=8)
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
    picture.parent.mkdir(exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "quantrecipe", "svg.fonttype": "none"}):
        figure.savefig(picture, metadata={"Date": None, "Creator": None})


def _draw_sizes(axes: Any, rows: list[dict[str, Any]]) -> None:
    gib = 8 * 2**30 / LLAMA_3_8B_WEIGHTS
    bits = [row["bits_per_weight"] for row in rows]
    stock = [row["stock"]["all"]["kld_mean"] for row in rows]
    axes.plot(
        [size * gib for size, _ in LLAMA_3_8B.values()],
        [kld for _, kld in LLAMA_3_8B.values()],
        color="#bbbbbb",
        marker=".",
        linestyle=":",
        label="Llama-3-8B, presets (llama.cpp's README)",
    )
    axes.plot(bits, stock, "o", color="#555555", markersize=5, label="presets", zorder=3)
    for number, row in enumerate(rows):
        place, offset = (bits[number], stock[number]), (3, 5) if number % 2 else (-3, 5)
        axes.annotate(
            row["mix"],
            place,
            xytext=offset,
            textcoords="offset points",
            fontsize=6,
            color="#555555",
            rotation=60,
            rotation_mode="anchor",
        )
    for way in [way for way in WAYS if way in rows[0]["fitted"]][:1]:
        label, color = WAYS[way][0].replace("`", ""), WAYS[way][1]
        klds = [row["fitted"][way]["figures"]["all"]["kld_mean"] for row in rows]
        axes.plot(bits, klds, "D", color=color, markersize=4, label=f"fitted, {label}", zorder=4)
    axes.set_yscale("log")
    axes.set_xlim(min(bits) - 0.3, max(bits) + 0.4)
    axes.set_xlabel("bits per weight", fontsize=9)
    axes.set_ylabel("mean KL divergence", fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="upper right")


def _draw_changes(axes: Any, rows: list[dict[str, Any]]) -> None:
    mixes = [row["mix"] for row in rows]
    ways = [way for way in WAYS if way in rows[0]["fitted"]]
    for number, way in enumerate(ways):
        label, color = WAYS[way][0].replace("`", ""), WAYS[way][1]
        fitted = [row["fitted"][way] for row in rows]
        axes.errorbar(
            [place + 0.16 * (number - (len(ways) - 1) / 2) for place in range(len(rows))],
            [100 * f["change"] for f in fitted],
            yerr=[100 * f["change_error"] for f in fitted],
            fmt="D" if number == 0 else "o",
            markersize=4 if number == 0 else 3,
            linewidth=0.8,
            color=color,
            label=label,
        )
    if "Q4_K_M" in mixes:
        peer = f"ERNIE-4.5-21B at {TARGET_SIZE[0]} bits (llama.cpp PR 15550)"
        axes.plot(mixes.index("Q4_K_M"), 100 * TARGET_SIZE[1], "*", color="#777777", label=peer)
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.set_xticks(range(len(mixes)), mixes, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_ylabel("change at the same bytes, %", fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncol=2)


if __name__ == "__main__":
    main()
