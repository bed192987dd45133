"""Make quantrecipe/model/architectures/defaults.json: what transformers assumes where a config.json is silent.

    pip install transformers==5.24.0
    git clone https://github.com/ggml-org/llama.cpp
    python tools/make_defaults.py llama.cpp > defaults.json  # then move it to quantrecipe/model/architectures/
    python tools/make_defaults.py llama.cpp --check
    python tools/make_defaults.py llama.cpp --record > tests/data/completion.jsonl

llama.cpp's converter reads config.json through transformers' configuration classes, so it sees their defaults. This
script asks these classes for them: every `model_type` that the converter has a class for, and those of the parts
within (text, vision, audio). PyTorch isn't needed. The table's layout is explained in completion.py, which reads it.

`--check` is the proof. It makes configurations at random, lets transformers complete them, and compares what
`complete` makes of the same. It prints what differs, and ends with 1 then. `--record` writes such configurations down,
a line for each model type: what is given, and what transformers makes of it beyond the table's defaults.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import logging
import random
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quantrecipe.model.architectures.completion import completed
from quantrecipe.model.architectures.completion.rope_spellings import NOT_CONVERTED, TWO_THETAS
from quantrecipe.model.architectures.completion.rules import FILLS, Rule

AS_WRITTEN = {
    "deepseek_v4": "its class drops compress_ratios and num_hash_layers, which the converter reads",
    "dots3_note": "its class drops swa_head_dim and its kin, which the converter reads",
    "dots3_note_text": "as dots3_note",
    "mimo_v2_flash": "its class drops rope_theta and swa_rope_theta, which the converter reads",
    "mpt": "its class counts heads by another name than the converter",
    "nemotron_h": "its class gives experts to models that have none, and drops hybrid_override_pattern",
    "step3p5": "its class drops rope_theta and partial_rotary_factors, which the converter reads layer by layer",
    "step3p7": "its text is a step3p5",
}
"""Model types that stay out: the converter needs config.json as it is."""

BESIDE = (
    "deepseek_ocr2", "glmasr", "kimi_k25", "lighton_ocr", "minimax", "ministral", "mistral4", "phimoe", "qwen2_5_omni",
    "unlimited_ocr",
)  # fmt: skip
"""Model types whose classes the converter calls by another name than transformers."""

_NOT_SHAPE = re.compile(
    r"^_|^(dtype|architectures|transformers_version|chunk_size_feed_forward|id2label|label2id|problem_type|return_dict"
    r"|is_encoder_decoder|is_decoder|add_cross_attention|model_args|architecture|do_pooling|label_names|standardize"
    r"|use_cache|residual_in_fp32|rescale_prenorm_residual|reorder_and_upcast_attn|slow_but_exact|seed|model_parallel_size"
    r"|use_mamba_kernels|use_mambapy|use_associative_scan|gradient_clipping|num_logits_to_keep|pretraining_tp"
    r"|deterministic_flash_attn|sparse_prediction|sparse_pred_ignore_index|has_lora_adapter|frame_rate"
    r"|output_(hidden_states|attentions|router_logits)|summary_.*|tts_.*|tokenizer_class|vocabulary_map)$"
    r"|dropout|pdrop|initializer|_loss|loss_|jitter|classifier_|lsd_|latent_stats|_implementation$|time_step_init_scheme"
    r"|mamba_ssm_cache_dtype|ignore_keys"
)
"""Keys that neither a model's shape nor its arithmetic depends on: training, caches, generation, labels."""
_SPEECH = ("talker_config", "token2wav_config", "code2wav_config", "flow_head_config", "vq_config")
"""Parts that make speech or pictures, which the converter leaves out."""
_UNREAD = frozenset({
    "full_attn_idxs", "layer_rope_theta", "merged_hidden_size", "moe_layers", "moe_normalize_expert_weights",
    "num_classes", "number_of_conv_states", "patch_dim", "rope_scaling", "scale",
    "scale_decoder_outputs", "text_hidden_size",
})  # fmt: skip
"""What classes work out, and the converter doesn't read."""
_TOKEN_ID = re.compile(r"_token_(id|index)$|_ids?$")


def converter_classes(llama_cpp: Path) -> set[str]:
    """The names under `architectures` that the converter knows, in lower case."""
    named = set()
    for file in (llama_cpp / "conversion").glob("*.py"):
        for call in re.findall(r"ModelBase\.register\(([^()]*)\)", file.read_text(encoding="utf-8")):
            named |= {name.lower() for name in re.findall(r'"([^"]+)"', call)}
    return named


def model_types(llama_cpp: Path) -> dict[str, Any]:
    """Model type → transformers' class, for those that the converter knows, and the parts within these."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    source = Path(transformers.__file__).parent / "models/auto/modeling_auto.py"
    pairs = re.findall(r'\(\s*"([\w.\-]+)",\s*(\([^()]*\)|"\w+")', source.read_text(encoding="utf-8"))
    known = converter_classes(llama_cpp)
    open_ones = [kind for kind, names in pairs if any(n.lower() in known for n in re.findall(r"\w+", names))]
    open_ones += BESIDE
    found: dict[str, Any] = {}
    while open_ones:
        kind = open_ones.pop(0)
        if kind in found or kind in AS_WRITTEN or kind not in CONFIG_MAPPING:
            continue
        found[kind] = CONFIG_MAPPING[kind]
        open_ones += [of for of, _ in parts(found[kind]).values()]
    return dict(sorted(found.items()))


def parts(cls: Any) -> dict[str, tuple[str, Any]]:
    """Key of a part within, such as text_config → its model type, and the specification that transformers has of it."""
    specs = getattr(cls, "sub_configs_defaults", None) or {}
    return {
        key: (spec.model_type, spec)
        for key, spec in sorted(specs.items())
        if spec.model_type and key not in _SPEECH
    }


def declared(cls: Any) -> dict[str, Any]:
    """The defaults that the class declares, by the names under which it keeps them.

    What it works out from other values isn't among them.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        value = field.default
        if value is dataclasses.MISSING:
            value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        found[cls.attribute_map.get(field.name, field.name)] = value
    declared_ones: dict[str, Any] = plain(found)
    return declared_ones


def plain(value: Any) -> Any:
    """Tuples become lists, as in JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(of) for key, of in value.items()}
    return [plain(of) for of in value] if isinstance(value, list | tuple) else value


def seen(cls: Any, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the converter sees of such a config.json; None where transformers refuses it."""
    try:
        found: dict[str, Any] = plain(cls.from_dict(copy.deepcopy(dict(values))).to_dict())
    except Exception:  # noqa: BLE001  whatever a class raises, this configuration can't be compared
        return None
    return found


def rope_defaults(cls: Any) -> Any:
    """The rotary settings that the class assumes: "beside" a scaling that is given, and "alone" where nothing is."""
    alone = (seen(cls, {}) or {}).get("rope_parameters")
    if not alone or any(isinstance(value, dict) for value in alone.values()):
        return alone
    marked = {"rope_type": "linear", "factor": 2.0}
    scaled = (seen(cls, dict[str, Any](rope_parameters=marked)) or {}).get("rope_parameters") or {}
    beside = {key: value for key, value in scaled.items() if key not in marked}
    asked: dict[str, Any] = {"rope_theta": 4321.0, "partial_rotary_factor": 0.75}
    heard = (seen(cls, asked) or {}).get("rope_parameters") or {}
    for key in asked.keys() & alone.keys():
        if heard.get(key) == asked[key]:  # config.json's own counts, too, where no scaling is given
            beside[key] = alone.pop(key)
    if {key for key, value in alone.items() if beside.get(key) != value} == {"rope_type"}:
        return beside | ({} if alone["rope_type"] == "default" else {"rope_type": alone["rope_type"]})
    return {"alone": alone, "beside": beside}


def fills(cls: Any) -> list[str]:
    """The rules of FILLS that hold for the class, tried on two configurations each."""
    holds = [name for name, rule in FILLS.items() if all(follows(cls, rule, *sizes) for sizes in _SIZES)]
    always = {FILLS[name].key for name in holds if FILLS[name].always}
    return [name for name in holds if FILLS[name].always or FILLS[name].key not in always]


_SIZES = ((512, 8, 24), (768, 4, 40))


def follows(cls: Any, rule: Rule, hidden: int, heads: int, rotated: int) -> bool:
    """Whether the class follows the rule, for a model of these sizes."""
    given: dict[str, Any] = {"hidden_size": hidden, "num_attention_heads": heads,
                             "num_key_value_heads": heads, "qk_rope_head_dim": rotated,
                             "qk_nope_head_dim": rotated + 8}  # fmt: skip
    given = {key: value for key, value in given.items() if key in declared(cls) and key != rule.key}
    if not rule.takes <= given.keys():
        return False
    tries = [given | {rule.key: 7}] if rule.always else [given | {rule.key: None}, given]
    answers = filter(None, (seen(cls, asked) for asked in tries))
    return any(answer.get(rule.key) == rule.value(given) for answer in answers)


def entry(cls: Any) -> dict[str, Any]:
    """One model type's line of the table."""
    within = parts(cls)
    values = {
        key: value
        for key, value in sorted(declared(cls).items())
        if value is not None and not _NOT_SHAPE.search(key) and key not in within and key != "rope_parameters"
        and (not _TOKEN_ID.search(key) or isinstance(value, int | list)) and value not in ({}, [])
    }  # fmt: skip
    said = {
        "values": values,
        "aliases": dict(sorted(cls.attribute_map.items())),
        "rope": rope_defaults(cls),
        "fills": fills(cls),
        "parts": {key: part_entry(kind, spec) for key, (kind, spec) in within.items()},
    }
    return {key: value for key, value in said.items() if value}


def part_entry(kind: str, spec: Any) -> dict[str, Any]:
    """How a part within is completed: as which model type, and from which values where there is none."""
    fixed = spec.config_class.__name__ != "AutoConfig"
    values = {key: value for key, value in plain(spec.init_kwargs).items() if not _NOT_SHAPE.search(key)}
    said = {"model_type": kind, "fixed": fixed, "optional": spec.optional, "values": values}
    return {key: value for key, value in said.items() if value}


def table(llama_cpp: Path) -> Iterator[str]:
    """The table's lines."""
    import transformers

    found = model_types(llama_cpp)
    yield f'{{"version": 1, "transformers": "{transformers.__version__}", "model_types": {{'
    last = list(found)[-1]
    for kind, cls in found.items():
        line = json.dumps(entry(cls), sort_keys=True, ensure_ascii=False)
        yield f'"{kind}": {line}{"" if kind == last else ","}'
    yield "}}"


def trial(cls: Any, dice: random.Random) -> dict[str, Any]:
    """A configuration at random: numbers that fit each other, and keys that are missing or null."""
    heads, layers = dice.choice([4, 8]), dice.randint(4, 13)
    given: dict[str, Any] = {"model_type": cls.model_type}
    for key, value in declared(cls).items():
        if key in parts(cls) or _NOT_SHAPE.search(key) or dice.random() < 0.4:
            continue
        if "layers" in key and isinstance(value, int):
            given[key] = layers
        elif key in ("num_attention_heads", "n_head", "n_heads", "num_heads"):
            given[key] = heads
        elif key in ("hidden_size", "n_embd", "d_model"):
            given[key] = heads * dice.choice([32, 64])
        elif value is None:
            given[key] = None
        elif isinstance(value, bool):
            given[key] = dice.random() < 0.5
        elif isinstance(value, int) and dice.random() < 0.3:
            given[key] = max(value // 2, 1) * 2
    for key, value in {"rope_theta": 12345.0, "partial_rotary_factor": 0.5, "sliding_window_pattern": 3,
                       "rope_local_base_freq": 777.0, "full_attention_interval": 3}.items():  # fmt: skip
        if dice.random() < 0.3:
            given[key] = value
    if dice.random() < 0.4:
        given[dice.choice(["rope_scaling", "rope_parameters"])] = dice.choice(
            [
                {"type": "linear", "factor": 2.0},
                {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
                {"rope_type": "yarn", "factor": 4.0, "rope_theta": 99.0},
                None,
            ]
        )
    return given


def differences(expected: Any, got: Any, given: Any, cls: Any, path: str = "") -> Iterator[str]:
    """What `complete` says otherwise than transformers. What it leaves alone on purpose isn't compared."""
    for key, value in shown(expected, given, cls):
        of = got.get(key)
        if isinstance(value, dict) and isinstance(of, dict) and key.endswith("_config"):
            within = class_within(cls, key, value)
            yield from differences(value, of, given.get(key) or given, within, f"{path}{key}.")
        elif value != of and not (value in (None, [], {}) and of in (None, [], {})):
            yield f"{path}{key}: transformers says {value!r}, complete {of!r}"


def shown(expected: Mapping[str, Any], given: Mapping[str, Any], cls: Any) -> Iterator[tuple[str, Any]]:
    """Those of a class's answers that `complete` has to give, too."""
    for key, value in sorted(expected.items()):
        both_names = any(
            key == name and {alias, name} <= given.keys() for alias, name in cls.attribute_map.items()
        )
        tied = key == "tie_word_embeddings" and "text_config" in expected  # the text's own counts
        left_alone = _NOT_SHAPE.search(key) or key in (*_SPEECH, *_UNREAD, "model_type")
        if left_alone or both_names or tied or (key == "rope_parameters" and not compared(cls, given)):
            continue
        yield key, value


def beyond_defaults(expected: Mapping[str, Any], given: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    """A class's answers, without what it was given, its defaults, and null."""
    found, usual = {}, entry(cls).get("values", {})
    for key, value in shown(expected, given, cls):
        says = value
        if isinstance(value, dict) and key.endswith("_config"):
            says = beyond_defaults(value, given.get(key) or given, class_within(cls, key, value))
        if says not in (None, [], {}) and says != given.get(key, usual.get(key)):
            found[key] = says
    return found


def class_within(cls: Any, key: str, value: Mapping[str, Any]) -> Any:
    """The class of a part, which says its `model_type`; the base class where it has no type of its own."""
    from transformers import PreTrainedConfig

    spec = parts(cls).get(key)
    return spec[1].get_config_class(value["model_type"]) if spec else PreTrainedConfig


def compared(cls: Any, given: Mapping[str, Any]) -> bool:
    """Whether the class's rotary settings of this config.json have to be the same."""
    kind = getattr(cls, "model_type", "")
    scaling = given.get("rope_scaling") or given.get("rope_parameters") or {}
    if kind in NOT_CONVERTED or kind == "cohere2_moe":  # no such file exists, and the class loses them
        return not {"rope_scaling", "rope_parameters"} & given.keys()
    return not (kind in TWO_THETAS and "type" in scaling) and bool(rope_defaults(cls))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def check(llama_cpp: Path, trials: int) -> int:
    """Compare `complete` with transformers on random configurations, and print what differs."""
    wrong = 0
    for kind, cls in model_types(llama_cpp).items():
        dice, told = random.Random(kind), set[str]()
        tried = 0
        for _ in range(trials):
            given = trial(cls, dice)
            if (expected := seen(cls, given)) is None:
                continue
            tried += 1
            for text in differences(expected, completed(given), given, cls):
                if (name := text.split(":")[0]) not in told:
                    told.add(name)
                    say(f"{kind}: {text[:300]}\n    of {json.dumps(given)[:700]}")
        wrong += len(told)
        if not tried:
            say(f"{kind}: transformers refuses every trial")
    return wrong


def record(llama_cpp: Path) -> Iterator[str]:
    """One configuration for each model type, with what transformers makes of it."""
    for kind, cls in model_types(llama_cpp).items():
        dice = random.Random(kind)
        for given in (trial(cls, dice) for _ in range(40)):
            expected = seen(cls, given)
            if expected is not None and not list(differences(expected, completed(given), given, cls)):
                yield json.dumps([given, beyond_defaults(expected, given, cls)], sort_keys=True)
                break


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("llama_cpp", type=Path, help="a checkout of llama.cpp")
    parser.add_argument("--check", action="store_true", help="compare `complete` with transformers")
    parser.add_argument(
        "--record", action="store_true", help="write configurations and transformers' answers"
    )
    parser.add_argument("--trials", type=int, default=40, help="configurations for each model type")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if given.check:
        return 1 if check(given.llama_cpp, given.trials) else 0
    if given.record:
        say("\n".join(record(given.llama_cpp)))
        return 0
    say("\n".join(table(given.llama_cpp)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
