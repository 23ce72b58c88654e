"""Renders chat templates with Jinja2, set up as the transformers library sets it up, and writes templates.json.

    python3 -m venv venv && venv/bin/pip install jinja2==3.1.6 && venv/bin/python golden/templates.py

The templates in golden/templates are small ones of our own that use the constructs of published families: tools and
tool results, hidden reasoning, dates, alternating roles, macros, loop controls. Each is rendered with each conversation,
with and without the opening of an answer; what Jinja2 refuses is recorded as refused. The test
crates/tokenizer/tests/templates.rs compares.
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


# By the name of their file.
FOLDER = pathlib.Path(__file__).with_name("templates")
TEMPLATES = {
    path.stem.replace("-", " "): path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))
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
