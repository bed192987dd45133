"""Chat templates in the manner of well-known families: small, written for these tests, each with what makes it odd."""

from __future__ import annotations

CHATML = """\
{%- if tools %}
<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}
    {%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
    {%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
"""ChatML with tools: the prompt for an answer is the header of the turn."""

THINKING = """\
{%- set last = namespace(user=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set thought = message.reasoning_content or '' %}
    {%- set said = message.content %}
    {%- if '</think>' in said %}
        {%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and (loop.index0 > last.user or preserve_thinking) %}
        {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- said + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}
"""
"""As models that think have it: thinking is taken out of earlier turns, and the prompt for an answer begins one."""

LLAMA3 = """\
{{- bos_token }}
{%- set date = strftime_now('%d %b %Y') %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date + '\\n\\n' + (system or '') + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
"""BOS, a date, and a system turn that is always there."""

MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
    {%- else %}{{ ' ' + message.content + eos_token }}{% endif %}
{%- endfor %}
"""
"""No system, strict turns, and no prompt for an answer: the end of the user's turn is one."""

GEMMA = """\
{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
"""Another name for the assistant, contents without space around them."""

GENERATION = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + '<|end|>' }}{% endgeneration %}
    {%- else %}{{ message.content + '<|end|>' }}{% endif %}
    {{- '\\n' }}
{%- endfor %}
"""
"""A template that marks what the assistant says."""

EOS_LAST = """\
{%- for message in messages %}
    {{- message.role + ': ' + message.content }}{% if loop.last %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\nassistant: ' }}{% endif %}
"""
"""EOS stands after the last turn only, so that a beginning isn't what the whole begins with."""

TEXT_ARGUMENTS = """\
{%- for message in messages %}{{ message.role + ':' + message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- call.function.name + '(' + call.function.arguments + ')' }}
    {%- endfor %}
{%- endfor %}
"""
"""A template that takes the arguments of a call as the text that OpenAI sends."""

TEMPLATES = {
    "chatml": CHATML,
    "thinking": THINKING,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "generation": GENERATION,
    "eos-last": EOS_LAST,
}
"""Those that take turns of a user and an assistant."""
