"""Small vocabularies of each kind (tests/data/tokenizers/README.md), and how architectures say that they are read."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.model.tokenizer import Vocabulary

DATA = Path(__file__).parents[1] / "data" / "tokenizers"
GLM = (("bos", "[gMASK]"), ("eot", "<|user|>"), ("unk", "<|endoftext|>"), ("eom", "<|observation|>"))
KINDS = {
    "bert": Vocabulary(kinds=("wordpiece",)),
    "exaone4": Vocabulary(kinds=("bpe",), pre=("exaone4",)),
    "gemma4": Vocabulary(kinds=("gemma4",)),
    "glm4moe": Vocabulary(kinds=("bpe",), pre=("glm4",), special=GLM),
    "internlm2": Vocabulary(
        kinds=("sentencepiece",),
        added="internlm2",
        space_prefix="tokenizer.model",
        special_over=(("eos", "<|im_end|>"),),
    ),
    "kimi-k2": Vocabulary(kinds=("bpe", "tiktoken"), pre=("kimi-k2", "deepseek-v3")),
    "phi3": Vocabulary(added="flags"),
    "t5": Vocabulary(kinds=("unigram",)),
    "xlm-roberta": Vocabulary(kinds=("unigram",)),
}
