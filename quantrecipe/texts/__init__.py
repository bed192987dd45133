"""Texts: what `--text` reads, as documents; and chats as the model's own template writes them.

domains = read_domains(["code=src/:2", "talk.jsonl"])
template = chat_template(model)
for domain in domains:
    for document in render(domain, template):
        document.text, document.special, document.answers
"""

from quantrecipe.texts.cautions import FEWEST_SAMPLES, Caution, cautions, losses
from quantrecipe.texts.chat_template import ChatTemplate, chat_template
from quantrecipe.texts.documents import Document, Domain, Message, Rendered
from quantrecipe.texts.plain_text import Text, read_text
from quantrecipe.texts.read_domain import read_domain, read_domains
from quantrecipe.texts.rendering import as_text, render
from quantrecipe.texts.splitting import Overlap, json_lines_of, overlap, passages, split

__all__ = [
    "FEWEST_SAMPLES",
    "Caution",
    "ChatTemplate",
    "Document",
    "Domain",
    "Message",
    "Overlap",
    "Rendered",
    "Text",
    "as_text",
    "cautions",
    "chat_template",
    "json_lines_of",
    "losses",
    "overlap",
    "passages",
    "read_domain",
    "read_domains",
    "read_text",
    "render",
    "split",
]
