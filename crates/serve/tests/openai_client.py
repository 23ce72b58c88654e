"""Drives a running server with the real `openai` package: what its users' programs do.

usage: openai_client.py BASE_URL
The server has the assistants `tiny` and `handbook` and the embedder `letters`.
"""

import json
import sys

import openai


def main(base_url: str) -> None:
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="unused", max_retries=0, timeout=60)
    models(client)
    text = whole(client)
    streamed(client, text)
    grounded(client)
    plain(client)
    embeddings(client)
    shaped(client)
    tools(client)
    responses(client)
    errors(client)
    print("ok")


def ask(client: openai.OpenAI, **more):
    messages = [{"role": "user", "content": "the kiln and the fire"}]
    return client.chat.completions.create(**{"model": "tiny", "messages": messages, "max_tokens": 24} | more)


def models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "handbook", "letters"]
    assert client.models.retrieve("handbook").owned_by == "hearth"


def whole(client: openai.OpenAI) -> str:
    answer = ask(client, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert choice.finish_reason == "length"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert len(choice.logprobs.content) == answer.usage.completion_tokens == 24
    assert choice.logprobs.content[0].top_logprobs[0].logprob == choice.logprobs.content[0].logprob
    return choice.message.content


def streamed(client: openai.OpenAI, expected: str) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 24
    with ask(client, stream=True, max_tokens=2000) as stream:
        next(iter(stream))  # and hang up


def grounded(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "How many months does the warranty last?"}]
    message = ask(client, model="handbook", messages=messages).choices[0].message
    assert message.citations[0]["document"] == "service/warranty.pdf", message
    # An answer can be sent back as it came.
    messages += [message, {"role": "user", "content": "And the heating wires?"}]
    last = list(ask(client, model="handbook", messages=messages, stream=True))[-1]
    assert last.choices[0].delta.citations


def plain(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "prompt": "the thin tin", "max_tokens": 8}
    text = client.completions.create(**asked).choices[0].text
    chunks = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == text


def embeddings(client: openai.OpenAI) -> None:
    # The package asks for base64 unless told otherwise.
    packed = client.embeddings.create(model="letters", input=["ab", "b"])
    plain = client.embeddings.create(model="letters", input=["ab", "b"], encoding_format="float")
    assert packed.data[0].embedding[:3] == [0.5, 0.5, 0.0]
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert packed.usage.total_tokens == 3


def shaped(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
    named = {"type": "json_schema", "json_schema": {"name": "switch", "strict": True, "schema": schema}}
    answer = ask(client, n=3, temperature=2, max_tokens=200, response_format=named, logit_bias={"32": -50})
    assert [type(json.loads(choice.message.content)["on"]) for choice in answer.choices] == [bool] * 3


def tools(client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"enum": ["Bonn", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    asked = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    (call,) = ask(client, **asked).choices[0].message.tool_calls
    assert call.function.name == "get_weather" and json.loads(call.function.arguments)["city"] in ("Bonn", "Oslo")
    chunks = [chunk.choices[0].delta.tool_calls for chunk in ask(client, stream=True, **asked) if chunk.choices]
    parts = [part for calls in chunks for part in calls or []]
    assert "".join(part.function.arguments for part in parts) == call.function.arguments


def responses(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "input": "the kiln and the fire", "max_output_tokens": 24}
    whole = client.responses.create(**asked)
    assert whole.status == "incomplete" and whole.usage.output_tokens == 24
    text = whole.output_text
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert events[-1].response.output_text == text


def errors(client: openai.OpenAI) -> None:
    def expect(kind: type, code: str, param: str, **more) -> None:
        try:
            ask(client, **more)
        except kind as error:
            assert (error.code, error.param) == (code, param), error
        else:
            raise AssertionError(f"{more} was accepted")

    expect(openai.NotFoundError, "model_not_found", "model", model="gpt-x")
    expect(openai.BadRequestError, "unknown_parameter", "tempreature", extra_body={"tempreature": 1})
    expect(openai.BadRequestError, "invalid_value", "n", n=99)
    long = [{"role": "user", "content": "x" * 5000}]
    expect(openai.BadRequestError, "context_length_exceeded", "messages", messages=long)
    expect(openai.BadRequestError, "context_length_exceeded", "messages", messages=long, stream=True)


if __name__ == "__main__":
    main(sys.argv[1])
