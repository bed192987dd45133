"""Tokens, types, merges and special tokens of byte-level BPE, as llama.cpp's converter writes them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
PRE: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def added(number: int, content: str, *, special: bool = False) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": special, **flags}


def make(folder: Path, config: Any = None, **parts: Any) -> Path:
    """A folder with a tokenizer of the tokens a, b, ab."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]} | parts.pop("model", {})
    tokenizer = {"added_tokens": [], "normalizer": None, "pre_tokenizer": PRE, "post_processor": None} | parts
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"model": model}), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def pairs(folder: Path, size: int | None = None, **model_config: Any) -> dict[str, Any]:
    found = tokenizer_pairs(folder, size, model_config)
    return {key.removeprefix("tokenizer.ggml."): value.decode() for key, value in found.items()}


class TestTokens:
    def test_types_and_padding(self, tmp_path: Path) -> None:
        tokens = [added(3, "<s>", special=True), added(4, "<|tool|>"), added(5, "<think>"), added(6, "▁▁x")]
        found = pairs(make(tmp_path, added_tokens=tokens), 9)
        assert found["tokens"] == ["a", "b", "ab", "<s>", "<|tool|>", "<think>", "  x", "[PAD7]", "[PAD8]"]
        assert found["token_type"] == [*[NORMAL] * 3, *[CONTROL] * 2, *[USER_DEFINED] * 2, *[UNUSED] * 2]

    @pytest.mark.parametrize("name", ["<pad>", "<mask>", "<｜end▁of▁sentence｜>", "<unused7>", "<|x|>"])
    def test_tokens_that_look_special(self, name: str, tmp_path: Path) -> None:
        found = pairs(make(tmp_path, added_tokens=[added(3, name)]))
        assert (found["tokens"][3], found["token_type"][3]) == (name, CONTROL)

    def test_tokenizer_config_has_the_last_word(self, tmp_path: Path) -> None:
        config = {"added_tokens_decoder": {"3": added(3, "<x>", special=True), "4": added(4, "<y>")}}
        found = pairs(make(tmp_path, config, added_tokens=[added(3, "<x>")]))
        assert found["tokens"][3:] == ["<x>", "<y>"]
        assert found["token_type"][3:] == [CONTROL, USER_DEFINED]

    def test_a_hole_in_the_ids(self, tmp_path: Path) -> None:
        found = pairs(make(tmp_path, model={"vocab": {"a": 0, "b": 2}}))
        assert found["tokens"] == ["a", "[PAD1]", "b"]

    def test_ids_beyond_the_vocabulary(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"token id 2, but config\.json says vocab_size: 2"):
            pairs(make(tmp_path), 2)

    def test_an_id_twice(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tokenizer\.json: gives the id 1 twice, to 'b' and to 'c'"):
            pairs(make(tmp_path, model={"vocab": {"a": 0, "b": 1, "c": 1}}))

    @pytest.mark.parametrize(
        ("config", "tokens", "types"),
        [
            ({"bos_token": "<s>"}, ["<s>", "[PAD4]", "[PAD5]"], [CONTROL, UNUSED, UNUSED]),
            (
                {"bos_token": "<s>", "unk_token": {"content": "Ġx"}},
                ["<s>", " x", "[PAD5]"],
                [CONTROL, CONTROL, UNUSED],
            ),
            (
                {"bos_token": "<s>", "eos_token": "<s>"},
                ["<s>", "[PAD4]", "[PAD5]"],
                [CONTROL, UNUSED, UNUSED],
            ),
            (
                {"tokenizer_class": "GPT2TokenizerFast"},
                ["<|endoftext|>", "[PAD4]", "[PAD5]"],
                [CONTROL, UNUSED, UNUSED],
            ),
            (
                {
                    "tokenizer_class": "GPTNeoXTokenizer",
                    "bos_token": None,
                    "eos_token": "b",
                    "unk_token": "b",
                },
                ["<|padding|>", "[PAD4]", "[PAD5]"],
                [CONTROL, UNUSED, UNUSED],
            ),
            ({"tokenizer_class": "LlamaTokenizerFast"}, ["[PAD3]", "[PAD4]", "[PAD5]"], [UNUSED] * 3),
            ({"tokenizer_class": "PreTrainedTokenizerFast"}, ["[PAD3]", "[PAD4]", "[PAD5]"], [UNUSED] * 3),
        ],
    )
    def test_special_tokens_that_are_only_named(
        self, config: dict[str, Any], tokens: list[str], types: list[int], tmp_path: Path
    ) -> None:
        """They come behind the last, as long as there are rows; the class may name them."""
        found = pairs(make(tmp_path, config, decoder={"type": "ByteLevel"}), 6)
        assert (found["tokens"][3:], list(found["token_type"][3:])) == (tokens, types)

    def test_special_tokens_that_are_only_named_without_rows(self, tmp_path: Path) -> None:
        found = pairs(make(tmp_path, {"bos_token": "<s>", "eos_token": "b"}), 3)
        assert (found["tokens"], list(found["token_type"])) == (["a", "b", "ab"], [NORMAL, CONTROL, NORMAL])

    @pytest.mark.parametrize(("decoder", "shown"), [("ByteLevel", "é"), ("Fuse", "Ã©")])
    def test_added_tokens_in_the_alphabet_of_bytes(self, decoder: str, shown: str, tmp_path: Path) -> None:
        """Where ids become text by that alphabet, llama.cpp looks for the text."""
        tokens = [added(3, "Ã©"), {**added(4, "Ã©!"), "normalized": True}]
        found = pairs(make(tmp_path, added_tokens=tokens, decoder={"type": decoder}))
        assert found["tokens"][3:] == [shown, "Ã©!"]

    @pytest.mark.parametrize("token", [{"id": 3, "content": 4}, {"id": 3}, {"content": "x"}, 3])
    def test_nonsense_among_added_tokens(self, token: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"tokenizer\.json: its added_tokens are not understood"):
            pairs(make(tmp_path, added_tokens=[token]))

    def test_types_that_the_architecture_gives(self, tmp_path: Path) -> None:
        vocabulary = Vocabulary(types=(("<think>", CONTROL), ("<none>", CONTROL)))
        made = tokenizer_pairs(
            make(tmp_path, added_tokens=[added(3, "<think>")]), None, {}, vocabulary=vocabulary
        )
        assert list(made["tokenizer.ggml.token_type"].decode()) == [NORMAL, NORMAL, NORMAL, CONTROL]

    @pytest.mark.parametrize(
        "vocab", [{"a": -1}, {"a": "0"}, {"a": 0.5}, {"a": True}, {"a": 2**60}, {"\ud800": 0}]
    )
    def test_nonsense(self, vocab: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError):
            pairs(make(tmp_path, model={"vocab": vocab}))


class TestMerges:
    @pytest.mark.parametrize("merges", [["a b"], [["a", "b"]]])
    def test_both_spellings(self, merges: Any, tmp_path: Path) -> None:
        assert pairs(make(tmp_path, model={"merges": merges}))["merges"] == ["a b"]

    def test_spaces_inside(self, tmp_path: Path) -> None:
        assert pairs(make(tmp_path, model={"merges": [["a", " b"], ["a ", "b"]]}))["merges"] == [
            "a Ġb",
            "aĠ b",
        ]

    def test_merges_txt(self, tmp_path: Path) -> None:
        (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\nodd\n# x\n", encoding="utf-8")
        assert pairs(make(tmp_path, model={"merges": []}))["merges"] == ["a b", "# x"]

    @pytest.mark.parametrize(
        ("merges", "said"),
        [
            ([], "has no merges; convert the model with llama.cpp's"),
            (None, "has no merges"),
            ([["a"]], "has merges that are not pairs of texts; download it again"),
            ([1], "has merges that are not pairs of texts"),
            ([[1, 2]], "has merges that are not pairs of texts"),
            (["a b", ["c", "d"]], "has merges that are not pairs of texts"),
        ],
    )
    def test_none_or_nonsense(self, merges: Any, said: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=rf"tokenizer\.json: {said}"):
            pairs(make(tmp_path, model={"merges": merges}))


class TestSpecialTokens:
    def test_names_come_before_config_json(self, tmp_path: Path) -> None:
        tokens = [added(3, "<s>", special=True), added(4, "</s>", special=True)]
        config = {
            "bos_token": {"content": "<s>"},
            "eos_token": "</s>",
            "pad_token": "<none>",
            "unk_token": None,
        }
        found = pairs(
            make(tmp_path, config, added_tokens=tokens), bos_token_id=0, pad_token_id=1, eos_token_id=[1, 2]
        )
        assert {k: v for k, v in found.items() if k.endswith("_id")} == {
            "bos_token_id": 3,
            "eos_token_id": 4,
            "padding_token_id": 1,
        }

    def test_bos_by_template(self, tmp_path: Path) -> None:
        found = pairs(make(tmp_path, {"bos_token": "<s>"}, post_processor=template("<s>")))
        assert (found["add_bos_token"], "add_eos_token" in found) == (True, False)

    def test_the_post_processor_comes_before_the_flags(self, tmp_path: Path) -> None:
        config = {"add_bos_token": True, "add_eos_token": True, "add_sep_token": "yes"}
        found = pairs(make(tmp_path, config, post_processor={"type": "ByteLevel"}))
        assert (found["add_bos_token"], found["add_eos_token"], "add_sep_token" in found) == (
            False,
            False,
            False,
        )

    def test_another_end_becomes_eos_and_the_old_one_eot(self, tmp_path: Path) -> None:
        tokens = [added(3, "<end>", special=True), added(4, "<stop>", special=True)]
        config = {"eos_token": "<end>"}
        found = pairs(make(tmp_path, config, added_tokens=tokens, post_processor=template("$", "<stop>")))
        assert (found["eos_token_id"], found["eot_token_id"], found["add_eos_token"]) == (4, 3, True)

    def test_roberta(self, tmp_path: Path) -> None:
        tokens = [added(3, "<s>", special=True), added(4, "</s>", special=True)]
        processor = {"type": "RobertaProcessing", "cls": ["<s>", 3], "sep": ["</s>", 4]}
        found = pairs(make(tmp_path, {"bos_token": "<s>"}, added_tokens=tokens, post_processor=processor))
        assert (found["add_bos_token"], found["add_eos_token"], found["add_sep_token"]) == (True, True, True)
        assert found["seperator_token_id"] == 4

    @pytest.mark.parametrize(
        "processor", [3, {"processors": [4]}, {"type": "TemplateProcessing", "single": [1, 2]}]
    )
    def test_nonsense(self, processor: Any, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="post_processor"):
            pairs(make(tmp_path, post_processor=processor))


class TestSpecialTokensOfTheArchitecture:
    TOKENS = [added(3, "<end>"), added(4, "<user>")]  # noqa: RUF012 - never changed

    def ids(
        self, folder: Path, config: Any = None, vocabulary: Any = None, **model_config: Any
    ) -> dict[str, int]:
        make(folder, config, added_tokens=self.TOKENS)
        made = tokenizer_pairs(folder, None, model_config, vocabulary=Vocabulary(**vocabulary))
        ids = {key: value.decode() for key, value in made.items() if key.endswith("_id")}
        return {
            key.removeprefix("tokenizer.ggml.").removesuffix("_token_id"): number
            for key, number in ids.items()
        }

    def test_where_the_folder_gives_none(self, tmp_path: Path) -> None:
        special = (("eos", "<end>"), ("eot", "<user>"), ("unk", "<end>"))
        found = self.ids(tmp_path, vocabulary={"special": special}, eos_token_id=1)
        assert found == {"eos": 1, "eot": 4, "unknown": 3}

    def test_they_have_to_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"has no added token '<x>', which models of .* need as eot_token"
        ):
            self.ids(tmp_path, vocabulary={"special": (("eot", "<x>"),)})

    def test_in_place_of_what_the_folder_gives(self, tmp_path: Path) -> None:
        over = (("eos", "<user>"), ("bos", "<x>"), ("unk", "unk_token"))
        config = {"unk_token": {"content": "<end>"}}
        found = self.ids(
            tmp_path, config, {"special_over": over}, eos_token_id=1, bos_token_id=2, unk_token_id=0
        )
        assert found == {"bos": 2, "eos": 4, "unknown": 3}


def template(first: str, last: str | None = None) -> dict[str, Any]:
    pieces = [{"SpecialToken": {"id": first, "type_id": 0}}] if first != "$" else []
    pieces += [{"Sequence": {"id": "A", "type_id": 0}}]
    pieces += [{"SpecialToken": {"id": last, "type_id": 0}}] if last else []
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}}


class TestChatTemplates:
    def test_config_comes_before_files(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.jinja").write_text("file")
        assert pairs(make(tmp_path, {"chat_template": "config"}))["tokenizer.chat_template"] == "config"
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
        assert pairs(tmp_path)["tokenizer.chat_template"] == "file"

    def test_several(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.jinja").write_text("usual")
        (tmp_path / "additional_chat_templates").mkdir()
        for name in ("tool-use", "rag"):
            (tmp_path / "additional_chat_templates" / f"{name}.jinja").write_text(name)
        found = pairs(make(tmp_path, {"eos_token": "x"}))
        assert {key: value for key, value in found.items() if "chat" in key} == {
            "tokenizer.chat_template.rag": "rag",
            "tokenizer.chat_template.tool_use": "tool-use",
            "tokenizer.chat_templates": ["rag", "tool_use"],
            "tokenizer.chat_template": "usual",
        }

    def test_chat_template_json(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.json").write_text('{"chat_template": "old"}')
        assert pairs(make(tmp_path, {"eos_token": "x"}))["tokenizer.chat_template"] == "old"

    def test_of_a_list_what_has_no_name_or_no_text_is_left_out(self, tmp_path: Path) -> None:
        templates = [
            {"name": "", "template": "nameless"},
            {"name": "rag", "template": 7},
            {"name": "default", "template": "usual"},
        ]
        found = pairs(make(tmp_path, {"chat_template": templates}))
        assert {key: value for key, value in found.items() if "chat" in key} == {
            "tokenizer.chat_template": "usual"
        }

    def test_the_file_first_if_the_architecture_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.jinja").write_bytes(b"fi\r\nle")
        make(tmp_path, {"chat_template": "config"})
        made = {
            first: tokenizer_pairs(tmp_path, None, {}, vocabulary=Vocabulary(template_file=first))
            for first in (False, True)
        }
        templates = [pairs["tokenizer.chat_template"].decode() for pairs in made.values()]
        assert templates == ["config", "fi\nle"]
        (tmp_path / "chat_template.jinja").unlink()
        again = tokenizer_pairs(tmp_path, None, {}, vocabulary=Vocabulary(template_file=True))
        assert again["tokenizer.chat_template"].decode() == "config"


def test_whole_words(tmp_path: Path) -> None:
    vocabulary = Vocabulary(kinds=("whitespace", "bpe"))
    steps = [{"type": "StripAccents"}, {"type": "Lowercase"}]
    normalizer = {"type": "Sequence", "normalizers": steps}
    make(tmp_path, pre_tokenizer={"type": "Whitespace"}, normalizer=normalizer)
    found = tokenizer_pairs(tmp_path, None, {}, vocabulary=vocabulary)
    assert [found[f"tokenizer.ggml.{key}"].decode() for key in ("model", "pre")] == [
        "whitespace",
        "whitespace",
    ]
    assert list(found)[-2:] == [f"tokenizer.ggml.normalizer.{key}" for key in ("lowercase", "strip_accents")]
    assert found["tokenizer.ggml.normalizer.lowercase"].decode() is True
    assert (
        tokenizer_pairs(make(tmp_path), None, {}, vocabulary=vocabulary)["tokenizer.ggml.pre"].decode()
        == "gpt-2"
    )


def test_an_architecture_s_name_of_the_model_and_its_rules(tmp_path: Path) -> None:
    vocabulary = Vocabulary(pre=("qwen2", "olmo"), model="other")
    found = tokenizer_pairs(make(tmp_path), None, {}, vocabulary=vocabulary)
    assert [found[f"tokenizer.ggml.{key}"].decode() for key in ("model", "pre")] == ["other", "olmo"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"type": "Unigram", "vocab": [["a", 0.0]]}, "kind 'Unigram'"),
            ({"type": "WordPiece"}, "kind 'WordPiece'"),
            ({"byte_fallback": True}, r"SentencePiece .*tokenizer\.model"),
            ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
            ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ],
    )
    def test_other_kinds(self, model: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=message):
            pairs(make(tmp_path, model=model))


@pytest.mark.slow
def test_a_large_vocabulary_is_quick(tmp_path: Path) -> None:
    tokens = {f"Ġtoken{number}": number for number in range(150_000)}
    merges = [[f"Ġto{number}", "ken"] for number in range(150_000)]
    make(tmp_path, model={"vocab": tokens, "merges": merges})
    start = time.process_time()
    found = tokenizer_pairs(tmp_path, None, {})
    assert time.process_time() - start < 2  # 0.3 s; far more on a busy machine
    assert len(found["tokenizer.ggml.merges"]) == 150_000
