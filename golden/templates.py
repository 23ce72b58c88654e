"""Renders chat templates with Jinja2, set up as the transformers library sets it up, and writes templates.json.

    python3 -m venv venv && venv/bin/pip install jinja2==3.1.6 && venv/bin/python golden/templates.py

The templates are small ones of our own that use the constructs of published families: tools and tool results, hidden
reasoning, dates, alternating roles, macros, loop controls. Each is rendered with each conversation, with and without
the opening of an answer; what Jinja2 refuses is recorded as refused. crates/tokenizer/tests/templates.rs compares.
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

DATE = datetime.datetime(2024, 7, 26)
BOS, EOS = "<|begin|>", "<|im_end|>"


class Generation(jinja2.ext.Extension):
    """`{% generation %}` marks an answer and renders what it holds."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("render", []), [], [], body).set_lineno(line)

    def render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = DATE.strftime
    return env


CHATML_TOOLS = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You answer.' }}
    {%- endif %}
    {{- "\n\n# Functions\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\nCall as {\"name\": <name>, \"arguments\": <object>}<|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' ~ message.content ~ '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

THINKING = r"""
{%- set ns = namespace(searching=true, last_question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_question and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

HEADERS_TOOLS = r"""
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2000" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("No first user message") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("Only one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {%- if builtin_tools is defined and tool_call.name in builtin_tools %}
            {{- "<|python_tag|>" + tool_call.name + ".call(" }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' + arg_val|string + '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
            {%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '{"name": "' + tool_call.name + '", ' }}
            {{- '"parameters": ' }}
            {{- tool_call.arguments | tojson }}
            {{- "}" }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

ALTERNATING = r"""
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate user/assistant/user/assistant") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

BRACKETS = r"""
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""

TAGS = r"""{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' and message['content'] %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}
"""

REASONER = r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜Assistant｜><｜calls｜>' + tool['type'] + '<｜sep｜>' + tool['function']['name'] + '\n' + '```json' + '\n' + tool['function']['arguments']|tojson + '\n' + '```'}}{%- set ns.is_first = true -%}{%- else %}{{'\n' + tool['type'] + '<｜sep｜>' + tool['function']['name'] + '\n' + tool['function']['arguments']|tojson}}{{'<｜/calls｜>'}}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<｜/outputs｜>' + message['content'] + '<|im_end|>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<|im_end|>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<｜outputs｜>' + message['content']}}{%- set ns.is_output_first = false %}{%- else %}{{'\n<｜output｜>' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜/outputs｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\n'}}{% endif %}"""

MACROS = r"""
{%- macro type_of(spec) -%}
    {%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool", "null": "None"} -%}
    {%- if basic[spec.type] is defined -%}
        {{- basic[spec.type] -}}
    {%- elif spec.type == "array" -%}
        {{- "list[" + type_of(spec['items']) + "]" -}}
    {%- elif spec.type == "object" -%}
        {%- if spec.additionalProperties is defined -%}
            {{- "dict[str, " + type_of(spec.additionalProperties) + ']' -}}
        {%- else -%}
            {{- "dict" -}}
        {%- endif -%}
    {%- elif spec.type is iterable -%}
        {{- "Union[" -}}
        {%- for t in spec.type -%}
            {{- type_of({"type": t}) -}}
            {%- if not loop.last -%}
                {{- "," -}}
            {%- endif -%}
        {%- endfor -%}
        {{- "]" -}}
    {%- else -%}
        {{- "Any" -}}
    {%- endif -%}
{%- endmacro -%}
{%- macro describe(tool, mark='-') %}
    {%- set function = tool.function if tool.function is defined else tool %}
{{ mark }} {{ function.name }}(
    {%- for name, spec in (function.parameters.properties | default({}, true)).items() %}
        {{- name }}: {{ type_of(spec) }}
        {%- if name in (function.parameters.required | default([])) %} (needed){% endif %}
        {%- if not loop.last %}, {% endif %}
    {%- endfor %}): {{ function.description | default('no description', true) | trim | upper }}
{% endmacro %}
{%- for tool in tools | default([], true) %}
    {{- describe(tool, mark='*' if loop.first else '-') }}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- continue %}
    {%- endif %}
    {%- if loop.index > 4 %}
        {{- '…' }}
        {%- break %}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
            {{- message.content | default('', true) }}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

VALUES = r"""{# how values look when they are printed #}
{{ true }} {{ false }} {{ none }} {{ 1.0 }} {{ 1e22 }} {{ 0.00001 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 5 }} {{ -7 % 3 }}
{{ [1, 'a', "it's", none, true] }} {{ {'k': 'v', 'n': [1.5]} }}
{{ true | string }} {{ 'n' ~ 1 ~ 2.5 }} {{ [true, none, 'x'] | join(',') }} {{ 'a' * 3 }} {{ 'abc'[::-1] }} {{ 'abcdef'[1:4] }}
{{ messages | map(attribute='role') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list }}
{{ (messages | last).role }} {{ (messages | first).role | capitalize }} {{ messages[-1]['role'] | title }}
{{ undefined_thing }}|{{ messages[0].nothing }}|{{ messages[0].get('nothing', 'fallback') }}|{{ undefined_thing | default('d') }}
{{ 'yes' if messages is sequence and messages is not mapping else 'no' }} {{ 'a' is string }} {{ 1 is number }} {{ true is boolean }} {{ 'abc' is iterable }} {{ 1 is integer }} {{ 1.0 is float }}
{{ {'b': 1, 'a': [1, {'c': none}], 'é': '<&>"\\/'} | tojson }}
{{ {'b': 1, 'a': [], 'c': {}} | tojson(indent=2) }}
{{ {'b': 1, 'a': [1.0, 1e-7, 123456789012]} | tojson(separators=(',', ':'), sort_keys=true) }}
{{ 'Ünï\n' | tojson }} {{ 'Ü😀' | tojson(ensure_ascii=true) }}
{{ '  padded '.strip() ~ '|' ~ 'x--'.rstrip('-') ~ '|' ~ 'a,b,c'.split(',')[1] ~ '|' ~ 'a b  c'.split() | length }}
{{ 'Hello'.lower() }} {{ 'hello'.upper() }} {{ 'hello world'.title() }} {{ 'abc'.replace('b', 'x') }} {{ 'abc'.startswith('ab') }} {{ 'abc'.find('c') }} {{ 'a\nb'.splitlines() }} {{ '1,2'.split(',', 1) | last }}
{{ 'b' in 'abc' }} {{ 'role' in messages[0] }} {{ not ('x' in ['y']) }} {{ 1 in [1, 2] and 2 not in [1] }}
{% set ns = namespace(items=[], total=0) %}
{% for message in messages %}{% set ns.items = ns.items + [message.role] %}{% set ns.total = ns.total + message.content | default('', true) | length %}{% endfor %}
{{ ns.items | unique | list }} {{ ns.total }} {{ range(3) | list }} {% for pair in {'b': 2, 'a': 1} | dictsort %}{{ pair[0] }}{{ pair[1] }}{% endfor %} {{ [3, 1, 2] | sort }} {{ [1, 2] + [3] }}
{% for a, b in {'x': 1, 'y': 2}.items() %}{{ loop.index }}:{{ a }}={{ b }}{{ ', ' if not loop.last }}{% else %}none{% endfor %}

{% for message in messages if message.role == 'user' %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}

{%- set block %}  kept {{ 'inside' }}
{% endset %}[{{ block }}]{{ 'x\ty' }}{{ "q\"q" }}{{ '\u00e9' }}
    {% if true %}
indented
    {% endif %}
{%- raw %}{{ raw }}{% endraw %}
"""

FUNCTIONS = r"""
{%- macro render_type(spec, required=[], optional=false) -%}
    {%- if spec.type == 'array' -%}
        {{- render_type(spec['items']) ~ '[]' -}}
    {%- elif spec.type == 'object' -%}
        {{- '{\n' -}}
        {%- for name, inner in spec.properties | dictsort -%}
            {{- name ~ ('?' if name not in (spec.required or []) else '') ~ ': ' ~ render_type(inner) ~ (',' if not loop.last) ~ '\n' -}}
        {%- endfor -%}
        {{- '}' -}}
    {%- elif spec.enum -%}
        {{- '"' ~ spec.enum | join('" | "') ~ '"' -}}
    {%- else -%}
        {{- spec.type if spec.type is string else spec.type | join(' | ') -}}
    {%- endif -%}
{%- endmacro -%}
{%- set effort = reasoning_effort | default('medium') -%}
<|start_header_id|>system<|end_header_id|>Reasoning: {{ effort }}
Today: {{ strftime_now('%Y-%m-%d') }}
{% if tools %}
namespace functions {
{% for tool in tools %}
// {{ tool.function.description or '' }}
type {{ tool.function.name }} = (_: {{ render_type(tool.function.parameters) }}) => any;
{% endfor %}
}
{% endif -%}
<|eot_id|>
{%- for message in messages -%}
    {%- if message.role == 'assistant' and message.tool_calls -%}
        {%- for call in message.tool_calls -%}
            {{- '<|start_header_id|>assistant to=functions.' ~ call.function.name ~ '<|end_header_id|>' ~ call.function.arguments | tojson ~ '<|eot_id|>' -}}
        {%- endfor -%}
    {%- elif message.role == 'tool' -%}
        {%- if loop.previtem is defined and loop.previtem.role == 'assistant' -%}
            {{- '<|start_header_id|>tool ' ~ (message.name or 'unnamed') ~ '<|end_header_id|>' ~ message.content | tojson ~ '<|eot_id|>' -}}
        {%- endif -%}
    {%- else -%}
        {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>' ~ message.content ~ '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_header_id|>assistant{% endif %}
"""

TEMPLATES = {
    "chatml with tools": CHATML_TOOLS,
    "hidden reasoning": THINKING,
    "headers with tools and a date": HEADERS_TOOLS,
    "alternating roles without a system": ALTERNATING,
    "brackets with tools": BRACKETS,
    "tags": TAGS,
    "reasoner with tool outputs": REASONER,
    "macros, loop controls, generation marks": MACROS,
    "printed values": VALUES,
    "functions as types": FUNCTIONS,
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place — \"now\" & later <soon>.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "城市, e.g. Zürich"},
                    "days": {"type": "integer", "minimum": 1, "maximum": 7.5},
                    "units": {"type": "string", "enum": ["c", "f"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "near": {"type": ["number", "null"]},
                },
                "required": ["place"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "stop",
            "description": "",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    },
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, id="abcdefgh1"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


ASKED = [
    {"role": "system", "content": "You know the weather.  "},
    user("Weather in Zürich?"),
    assistant(None, tool_calls=[call("get_weather", {"place": "Zürich", "days": 2, "exact": True, "near": None, "f": 1.5})]),
    {"role": "tool", "tool_call_id": "abcdefgh1", "name": "get_weather", "content": "{\"sky\": \"blue\"}"},
]
CONVERSATIONS = {
    "one question": {"messages": [user("Hi there")]},
    "a system and two turns": {
        "messages": [
            {"role": "system", "content": " Be brief.\n"},
            user("What is 1+1?  "),
            assistant(" 2 "),
            user("一加一等于几？\n\"quoted\" <b>&amp;</b>"),
        ]
    },
    "an answer at the end": {"messages": [user("a"), assistant("b\n")]},
    "reasoning": {
        "messages": [
            user("Think."),
            assistant("<think>\nfirst\n\nthought\n</think>\n\nAnswer one."),
            user("Again."),
            assistant("<think>\nsecond\n</think>\n\nAnswer two."),
        ]
    },
    "reasoning apart from the answer": {
        "messages": [user("Think."), assistant("Answer.", reasoning_content="\nhidden steps\n"), user("Why?")],
        "variables": {"enable_thinking": False, "reasoning_effort": "high"},
    },
    "tools offered": {"messages": [user("Weather in Bern?")], "tools": TOOLS},
    "a call and its result": {"messages": ASKED, "tools": TOOLS},
    "a call, its result and the answer": {
        "messages": ASKED + [assistant("Blue."), user("Thanks")],
        "tools": TOOLS,
        "variables": {"tools_in_user_message": False, "builtin_tools": ["get_weather"], "date_string": "1 May 2030"},
    },
    "two calls at once": {
        "messages": [
            user("Two places"),
            assistant("Let me see.", tool_calls=[call("get_weather", {"place": "A"}), call("stop", {}, "bcdefghi2")]),
            {"role": "tool", "tool_call_id": "abcdefgh1", "content": "1"},
            {"role": "tool", "tool_call_id": "bcdefghi2", "content": "2"},
        ],
        "tools": TOOLS,
    },
    "two questions in a row": {"messages": [user("a"), user("b")]},
    "empty texts": {"messages": [{"role": "system", "content": ""}, user(""), assistant(""), user(" ")]},
}


def main():
    cases = []
    for template, source in TEMPLATES.items():
        compiled = environment().from_string(source)
        for name, conversation in CONVERSATIONS.items():
            case = {"template": template, "conversation": name}
            for key, opens in (("prompt", True), ("text", False)):
                try:
                    case[key] = compiled.render(
                        messages=conversation["messages"],
                        tools=conversation.get("tools"),
                        documents=None,
                        add_generation_prompt=opens,
                        bos_token=BOS,
                        eos_token=EOS,
                        **conversation.get("variables", {}),
                    )
                except (jinja2.exceptions.TemplateError, TypeError) as error:
                    case[key + "_refused"] = str(error)
            cases.append(case)
    golden = {"bos": BOS, "eos": EOS, "templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases}
    path = pathlib.Path(__file__).with_name("templates.json")
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
