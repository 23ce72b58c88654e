"""Drives a running server with the real `anthropic` package: what its users' programs do.

usage: anthropic_client.py BASE_URL
The server has the assistant `tiny`.
"""

import sys

import anthropic

QUESTION = {"role": "user", "content": "the kiln and the fire"}
WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Bonn", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
# One call: a random model would go on calling until its tokens are used up.
CHOICE = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
NAMED = {"tools": [WEATHER], "tool_choice": CHOICE, "max_tokens": 300}


def main(base_url: str) -> None:
    client = anthropic.Anthropic(base_url=base_url, api_key="unused", max_retries=0, timeout=60)
    text(client)
    stopped(client)
    tool(client)
    errors(client)
    print("ok")


def asked(more: dict) -> dict:
    return {"model": "tiny", "max_tokens": 24, "messages": [QUESTION], "system": "be brief"} | more


def text(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked({}))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 24)
    with client.messages.stream(**asked({})) as stream:
        joined = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert joined == final.content[0].text == message.content[0].text
    assert final.usage.output_tokens == 24
    count = client.messages.count_tokens(model="tiny", messages=[QUESTION], system="be brief").input_tokens
    assert count == message.usage.input_tokens + message.usage.cache_read_input_tokens


def stopped(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**asked({})).content[0].text
    stop = whole[8:11]
    message = client.messages.create(**asked({"stop_sequences": ["never said", stop]}))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].text == whole[: whole.index(stop)]


def tool(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(NAMED))
    call = message.content[-1]
    assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather"), message
    assert call.input["city"] in ("Bonn", "Oslo")
    with client.messages.stream(**asked(NAMED)) as stream:
        assert stream.get_final_message().content[-1].input == call.input
    answer = {"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees"}
    talk = [QUESTION, {"role": "assistant", "content": message.content}, {"role": "user", "content": [answer]}]
    client.messages.create(**asked({"messages": talk, "tools": [WEATHER]}))


def errors(client: anthropic.Anthropic) -> None:
    def expect(error: type, kind: str, needle: str, more: dict) -> None:
        try:
            client.messages.create(**asked(more))
        except error as raised:
            body = raised.body["error"]
            assert body["type"] == kind and needle in body["message"], body
        else:
            raise AssertionError(f"{more} was accepted")

    expect(anthropic.NotFoundError, "not_found_error", "gpt-x", {"model": "gpt-x"})
    expect(anthropic.BadRequestError, "invalid_request_error", "tempreature", {"extra_body": {"tempreature": 1}})
    long = [{"role": "user", "content": "x" * 5000}]
    expect(anthropic.BadRequestError, "invalid_request_error", "context", {"messages": long})


if __name__ == "__main__":
    main(sys.argv[1])
