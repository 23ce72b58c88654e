"""Compares hearth's conversations with the published chat templates of model families.

    python3 -m venv venv && venv/bin/pip install jinja2==3.1.6
    venv/bin/python golden/published_templates.py FOLDER

FOLDER holds templates as `*.jinja`: from models on disk, or those that the source package of llama-cpp-python on PyPI
brings along (vendor/llama.cpp/models/templates). They are other people's texts, so they aren't in this repository; the
tests have ones of our own with the same constructs (golden/templates.py, whose conversations and Jinja2 this uses).

For each template and conversation: the prompt and the whole conversation are rendered as Jinja2 renders them (or both
refuse), ids spell exactly that text, and the mask marks answers, never what others said.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

import jinja2

import templates

# What control tokens look like in published templates.
SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<(?:start|end)_of_turn>|\[/?[A-Z_]{3,24}\]|</?s>")
BOS, EOS = "<|begin|>", "<|finish|>"
TALKS = {
    "several turns with tools and thinking": {
        "messages": [
            {"role": "system", "content": "You know the weather."},
            {"role": "user", "content": "Question one?"},
            {"role": "assistant", "content": "Answer one."},
            {"role": "user", "content": "Question two?"},
            {"role": "assistant", "content": "", "tool_calls": [templates.call("get_weather", {"place": "Bern"})]},
            {"role": "tool", "tool_call_id": "abcdefgh1", "name": "get_weather", "content": "Result one."},
            {"role": "assistant", "content": "Answer two.", "reasoning_content": "Thought two."},
            {"role": "user", "content": "Question three?"},
            {"role": "assistant", "content": "Answer three.", "reasoning_content": "Thought three."},
        ],
        "tools": templates.TOOLS,
    },
    "several plain turns": {
        "messages": [
            {"role": "user", "content": "Question one?"},
            {"role": "assistant", "content": "Answer one."},
            {"role": "user", "content": "问题二？"},
            {"role": "assistant", "content": "回答二。"},
        ]
    },
}
# As the templates' users get them: messages without text but with calls have no content.
SAID = ("Question", "Result", "You know", "问题")


def render(compiled, conversation, opens):
    messages = []
    for message in conversation["messages"]:
        empty = not message.get("content") and message.get("tool_calls")
        messages.append({**message, "content": None} if empty else message)
    try:
        return compiled.render(
            messages=messages,
            tools=conversation.get("tools"),
            documents=None,
            add_generation_prompt=opens,
            bos_token=BOS,
            eos_token=EOS,
            **conversation.get("variables", {}),
        )
    except Exception as error:  # whatever a template does wrong, refusing is the answer
        return error


lenient = collections.Counter()


def problems(case, answer):
    """What differs, and how training ended."""
    if "refused" in answer:
        return ["the template isn't read: " + answer["refused"]], "refused"
    found = []
    for key, ids in (("prompt", "prompt_ids"), ("text", None)):
        expected, ours = case[key], answer[key]
        if isinstance(expected, Exception):
            # hearth goes on where a template handles a value that isn't there; nothing else is rendered differently.
            lenient["ok" in ours] += 1
        elif "refused" in ours:
            found.append(f"{key}: hearth refuses ({ours['refused'][:200]})")
        elif ours["ok"] != expected:
            at = next((i for i, (a, b) in enumerate(zip(ours["ok"], expected)) if a != b), -1)
            found.append(f"{key} differs at {at}: {ours['ok'][at - 30 : at + 60]!r} for {expected[at - 30 : at + 60]!r}")
        elif ids and answer[ids].get("ok") != expected:
            found.append(f"ids of the {key} spell another text")
    training = answer["training"]
    if "refused" in training:
        return found, training["refused"].split(":")[0]
    examples = training["ok"]
    is_whole = answer["is_whole"] and not isinstance(case["text"], Exception)
    if is_whole and examples[0]["ids"] != case["text"]:
        found.append("ids of training spell another text")
    learned = " ".join(run for example in examples for run in example["learned"])
    found += [f"the mask marks `{said}…`, which the assistant didn't say" for said in SAID if said in learned]
    answers = [m["content"] for m in case["conversation"]["messages"] if m["role"] == "assistant" and m["content"]]
    text = "" if isinstance(case["text"], Exception) else case["text"]
    found += [f"the mask leaves out `{a}`" for a in answers if case["is_talk"] and a in text and a not in learned]
    return found, "learned" if answer["is_whole"] else "learned answer by answer"


def main():
    conversations = {**templates.CONVERSATIONS, **TALKS}
    cases = []
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        try:
            compiled = templates.environment().from_string(source)
        except jinja2.exceptions.TemplateError as error:
            print(f"{path.stem}: Jinja2 can't compile it: {error}")
            continue
        for name, conversation in conversations.items():
            case = {"template": path.stem, "name": name, "conversation": conversation, "source": source}
            case |= {key: render(compiled, conversation, opens) for key, opens in (("prompt", True), ("text", False))}
            cases.append(case | {"is_talk": name in TALKS})
    lines = []
    for case in cases:
        conversation = dict(case["conversation"])
        variables = conversation.pop("variables", {})
        special = sorted(set(SPECIAL.findall(case["source"])))
        line = {"template": case["source"], "conversation": {**conversation, "chat_template_kwargs": variables}}
        lines.append(json.dumps(line | {"bos": BOS, "eos": EOS, "special": special}, ensure_ascii=False))
    command = ["cargo", "run", "--quiet", "--release", "-p", "hearth-tokenizer", "--example", "render"]
    root = pathlib.Path(__file__).parent.parent
    run = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, cwd=root, check=True)
    bad = collections.defaultdict(list)
    training = collections.defaultdict(collections.Counter)
    for case, answer in zip(cases, map(json.loads, run.stdout.splitlines()), strict=True):
        found, end = problems(case, answer)
        training[case["template"]][end] += 1
        bad[case["template"]] += [f"{case['name']}: {what}" for what in found]
    for template, ends in training.items():
        kinds = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        print(f"{template}: {len(bad[template])} differences; training: {kinds}")
        for what in bad[template]:
            print("    " + what)
    num_bad = sum(map(len, bad.values()))
    print(f"{len(cases)} cases of {len(training)} templates, {num_bad} differences")
    print(f"where Jinja2 refuses, hearth renders {lenient[True]} times and refuses {lenient[False]} times")
    return 1 if num_bad else 0


if __name__ == "__main__":
    sys.exit(main())
