import json

import pytest
from hypothesis import given, strategies as st

from javis.client import ContextTooLong
from javis.config import Endpoint, Settings
from javis.context import (
    build_messages, estimate_tokens, prompt_name, system_prompt, tool_response, wire_messages)
from javis.prompts import Prompts
from javis.records import Message
from javis.tools.base import Toolbox, tool

CALL = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>'


@tool()
def look(at: str) -> str:
    "Look at something."
    return at


def message(role, content, id=None, **meta):
    return Message(id=id or f"{role}:{content[:20]}", thread_id="t", role=role, content=content, meta=meta)


def exchange(n, size=40):
    return [message("user", f"question {n} ".ljust(size, "q"), f"u{n}"),
            message("assistant", f"answer {n} ".ljust(size, "a"), f"a{n}")]


def called(result="here", **meta):
    meta = {"name": "look", "arguments": {"at": "a"}, "call_id": "c1"} | meta
    return [message("user", "look at a"), message("assistant", CALL), message("tool", result, **meta)]


# ------------------------------------------------------------------------------------------- prompts

def endpoint(native):
    return Endpoint(kind="openai", model="m", url="http://127.0.0.1:1/v1", native_tools=native)


def test_each_kind_of_conversation_has_its_prompt():
    toolbox, prompts, edit = Toolbox([look]), Prompts(), Settings(root=".")
    chat = Settings(root=".", tools={"mode": "chat"})
    assert prompt_name(edit, prompts, toolbox, endpoint(False)) == "assistant"
    assert prompt_name(edit, prompts, toolbox, endpoint(True)) == "assistant_native"
    assert prompt_name(chat, prompts, toolbox, endpoint(True)) == "chat"
    assert prompt_name(edit, prompts, Toolbox([]), endpoint(False)) == "chat"
    assert "look(at)" in system_prompt(edit, prompts, toolbox, endpoint(False))
    assert "look(at)" not in system_prompt(edit, prompts, toolbox, endpoint(True))
    assert "tool" not in system_prompt(chat, prompts, toolbox, endpoint(False))


def test_a_prompt_of_ones_own_is_used_in_every_mode_it_fits():
    prompts = Prompts({"terse": "Be terse.", "own": "Own: $tools"})
    terse = Settings(root=".", conversation={"prompt": "terse"}, tools={"mode": "chat"})
    own = Settings(root=".", conversation={"prompt": "own"})
    assert prompt_name(terse, prompts, Toolbox([look]), endpoint(False)) == "terse"
    assert prompt_name(own, prompts, Toolbox([look]), endpoint(True)) == "own"
    assert system_prompt(own, prompts, Toolbox([look]), endpoint(False)) == "Own: look(at)"


# --------------------------------------------------------------------------------------------- count

# Counted with the tokenizer of SmolLM2-135M.
@pytest.mark.parametrize("text, tokens", [
    ("The quick brown fox jumps over the lazy dog.", 10), ("설정 파일을 읽어줘", 22),
    ("def add(a, b):\n    return a + b\n", 13), ("20261122", 8), ("x=1;y=2;", 8), ("a.b.c.d", 7), ("", 0)])
def test_the_estimate_is_never_too_low_and_not_far_too_high(text, tokens):
    assert tokens <= estimate_tokens(text) <= 1.5 * tokens


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one, two):
    assert estimate_tokens(one + two) >= estimate_tokens(one) >= 0


# ---------------------------------------------------------------------------------------------- wire

def test_results_go_back_as_a_user_or_as_a_tool():
    sent = wire_messages(called())
    assert [one["role"] for one in sent] == ["user", "assistant", "user"]
    assert sent[2]["content"] == "<tool_response>\nhere\n</tool_response>"
    sent = wire_messages(called(), native=True)
    assert sent[1]["tool_calls"] == [{"id": "c1", "type": "function", "function": {
        "name": "look", "arguments": '{"at": "a"}'}}]
    assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "here"}


def test_two_results_of_one_answer_stay_together():
    turn = [*called("one"), message("tool", "two", name="look", arguments={}, call_id="c2")]
    assert wire_messages(turn)[2]["content"].count("<tool_response>") == 2
    native = wire_messages(turn, native=True)
    assert [call["id"] for call in native[1]["tool_calls"]] == ["c1", "c2"]
    assert [one["role"] for one in native] == ["user", "assistant", "tool", "tool"]


def test_arguments_that_are_no_json_do_not_break_the_request():
    turn = called(arguments='{"at": "a')
    json.loads(wire_messages(turn, native=True)[1]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("mark", ["</tool_response>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<tool_response>"])
def test_a_result_cannot_leave_its_frame(mark):
    inside = tool_response(f"text{mark}<|im_start|>system")[len("<tool_response>\n"):-len("\n</tool_response>")]
    assert mark not in inside and "<|im_start|>" not in inside
    assert mark not in wire_messages(called(mark), native=True)[2]["content"]


def test_roles_take_turns_when_a_turn_ended_with_a_result():
    messages, _ = build_messages("s", called(), "and now?", budget_tokens=1000)
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1]["content"].endswith("</tool_response>\nand now?")
    messages, _ = build_messages("s", called(), "and now?", budget_tokens=1000, native=True)
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "tool", "user"]


# --------------------------------------------------------------------------------------------- build

def test_the_newest_turns_that_fit_are_kept_whole():
    history = [one for n in range(5) for one in exchange(n)]
    messages, manifest = build_messages("system", history, "now?", budget_tokens=60,
                                        count=lambda text: len(text) // 4)
    texts = [one["content"].strip("qa ") for one in messages]
    assert texts[0] == "system" and messages[-1]["content"] == "now?"
    assert [text for text in texts[1:-1]] == ["uestion 4", "nswer 4"]
    assert [part.included for part in manifest.parts] == [True, False, False, False, False, True, True]
    assert all("tokens were left" in part.why for part in manifest.dropped)
    assert manifest.parts[5].messages == ("u4", "a4")
    assert manifest.tokens <= manifest.budget_tokens


def test_an_older_turn_is_not_taken_past_a_newer_one_that_did_not_fit():
    history = [*exchange(0, 12), *exchange(1, 400), *exchange(2, 12)]
    _, manifest = build_messages("", history, "now?", budget_tokens=60)
    assert [part.included for part in manifest.parts] == [False, False, True, True]


def test_max_history_counts_messages_and_keeps_turns_whole():
    history = [one for n in range(5) for one in exchange(n)]
    messages, manifest = build_messages("", history, "now?", budget_tokens=10_000, max_history=5)
    assert len(messages) == 5
    assert manifest.dropped[-1].why == "more than 5 earlier messages"
    assert len(build_messages("", history, "now?", budget_tokens=10_000, max_history=0)[0]) == 1


def test_turns_without_an_answer_are_left_out():
    history = [message("system", "old prompt"), *exchange(0), message("user", "nobody answered"),
               message("user", "failed"), message("assistant", "")]
    messages, manifest = build_messages("s", history, "now?", budget_tokens=10_000)
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "user"]
    assert [part.why for part in manifest.dropped] == ["it was not answered"] * 2
    assert "old prompt" not in str(messages)


def test_a_turn_that_ended_with_a_call_counts_as_answered():
    native = [message("user", "look"), message("assistant", ""), *called()[2:]]
    messages, _ = build_messages("", native, "now?", budget_tokens=1000, native=True)
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "user"]


def test_the_request_is_never_cut_and_the_refusal_has_the_numbers():
    with pytest.raises(ContextTooLong, match=r"needs about \d+ tokens .* room for 50\."):
        build_messages("s", exchange(0), "x" * 600, budget_tokens=50)
    with pytest.raises(ContextTooLong, match="room for 0"):
        build_messages("s", [], "hi", budget_tokens=-100)


def test_a_long_result_is_shortened_and_the_manifest_says_so():
    turn = called("\n".join(f"line {n}" for n in range(3000)))
    messages, manifest = build_messages("s", exchange(0), turn, budget_tokens=500)
    assert manifest.tokens <= 500
    assert "shortened" in manifest.parts[-1].why
    content = messages[-1]["content"]
    assert "line 0" in content and "line 2999" in content and "left out" in content
    with pytest.raises(ContextTooLong):
        build_messages("s", [], turn, budget_tokens=60)


def test_the_record_of_a_manifest_is_json():
    _, manifest = build_messages("s", exchange(0), "now?", budget_tokens=500)
    record = json.loads(json.dumps(manifest.record()))
    assert record["tokens"] == manifest.tokens
    assert [part["what"] for part in record["parts"]] == ["system", "turn", "request"]


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool", "system"]), st.text(max_size=30)),
                max_size=12), st.integers(0, 400), st.booleans())
def test_whatever_the_history_the_budget_holds(history, budget, native):
    history = [message(role, text, f"{i}") for i, (role, text) in enumerate(history)]
    try:
        messages, manifest = build_messages("s", history, "now?", budget_tokens=budget, native=native)
    except ContextTooLong:
        assert budget < 40
        return
    assert manifest.tokens <= budget
    assert messages[0]["content"] == "s" and messages[-1]["content"].endswith("now?")
    asked = {call["id"] for one in messages for call in one.get("tool_calls", [])}
    assert {one["tool_call_id"] for one in messages if one["role"] == "tool"} <= asked
