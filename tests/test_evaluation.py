import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted_server import END, ScriptedServer, said, stream_head

from javis.cases import BadSuite, Case, Suite
from javis.client import ChatClient, EndpointUnreachable, Sampling
from javis.config import register_secret, sha256
from javis.evaluation import (Asker, BadResults, Evaluation, Result, conditions, engine_asker,
                              load_evaluation, run_suite, summarise)
from javis.tools.base import Toolbox, render_tool_call, tool


@tool("read")
def find_process(name: str) -> str:
    "Find a process."


TOOLBOX = Toolbox([find_process])
VITE = render_tool_call("find_process", {"name": "vite"})
CASES = (*(Case(f"c{i}", "en" if i % 2 else "ko", f"is vite running? {i}", "find_process", {"name": "vite"})
           for i in range(6)), Case("n1", "en", "thanks", None), Case("n2", "ko", "고마워", None))
SUITE = Suite("example", "", "assistant", 64, 0, CASES, "cases.jsonl", "s", "c")


def run(ask, suite=SUITE, **options):
    options = {"system": "Be brief.", "toolbox": TOOLBOX} | options
    return asyncio.run(run_suite(suite, ask, **options))


async def perfect(messages):
    return VITE if "vite" in messages[-1]["content"] else "Gladly."


def test_all_cases_are_asked_under_the_same_words_and_kept_in_order():
    seen = []

    async def ask(messages):
        seen.append(messages)
        await asyncio.sleep(0.001 * (len(seen) % 3))
        return await perfect(messages)

    told = []
    found = run(ask, concurrency=3, progress=lambda done, of, result: told.append((done, of)))
    assert [result.id for result in found.results] == [case.id for case in CASES]
    assert {messages[0]["content"] for messages in seen} == {"Be brief."}
    assert told == [(i, 8) for i in range(1, 9)]
    summary = found.summary
    assert summary["complete"] and summary["call"]["right"] == 6 and summary["no_call"]["right"] == 2
    assert summary["by_lang"]["ko"]["call"]["n"] == 3
    assert summary["by_tool"]["find_process"]["arguments"]["rate"] == 1
    assert summary["outcomes"]["no_call"] == {"n1": True, "n2": True}


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_no_more_requests_than_asked_for_are_under_way(concurrency):
    now, most = 0, 0

    async def ask(messages):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return "words"

    run(ask, concurrency=concurrency)
    assert most == concurrency


def test_a_failed_request_is_a_row_with_an_error_and_counts_nowhere():
    register_secret("sk-very-secret-key")

    async def ask(messages):
        if "2" in messages[-1]["content"]:
            raise EndpointUnreachable("Nothing answers.")
        if "thanks" in messages[-1]["content"]:
            raise RuntimeError("odd sk-very-secret-key")
        return await perfect(messages)

    found = run(ask)
    assert [result.error for result in found.errors] == ["Nothing answers.", "RuntimeError: odd ****"]
    summary = found.summary
    assert (summary["n"], summary["errors"], summary["complete"]) == (8, 2, False)
    assert (summary["call"]["n"], summary["no_call"]["n"]) == (5, 1)
    assert "c2" not in summary["outcomes"]["call"] and "2 failed" in repr(found)


def test_an_endpoint_that_is_down_is_not_asked_for_an_hour():
    asked = []

    async def ask(messages):
        asked.append(messages)
        raise EndpointUnreachable("Nothing answers.")

    found = run(ask, concurrency=1)
    assert len(asked) == 10 and len(found.errors) == 8
    assert found.results[-1].error == "not asked: 5 requests in a row had failed"


@pytest.mark.parametrize("fails, errors", [(1, 0), (2, 4)])
def test_a_request_that_fails_is_asked_once_more(fails, errors):
    count = {}

    async def ask(messages):
        request = messages[-1]["content"]
        count[request] = count.get(request, 0) + 1
        if count[request] <= fails and len(count) % 2:
            raise EndpointUnreachable("busy")
        return "words"

    assert len(run(ask, concurrency=1).errors) == errors
    assert sorted(count.values()) == [1] * 4 + [2] * 4


def test_failures_here_and_there_do_not_end_a_run():
    suite = Suite("long", "", "p", 9, 0, tuple(Case(f"c{i}", "en", f"{i}", None) for i in range(16)))

    async def ask(messages):
        if int(messages[-1]["content"]) % 2:
            raise EndpointUnreachable("busy")
        return "words"

    found = run(ask, suite, concurrency=1)
    assert {result.error for result in found.errors} == {"busy"} and len(found.errors) == 8


def test_stop_means_stop():
    closed = []

    class Ask:
        async def __call__(self, messages):
            raise KeyboardInterrupt

        async def aclose(self):
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(Ask())
    assert closed


def test_a_suite_for_other_tools_is_refused_before_the_first_request():
    async def ask(messages):
        raise AssertionError("asked")

    suite = Suite("x", "", "p", 9, 0, (Case("a", "en", "ls", "run_shell", {"command": "ls"}, line=7),), "f.jsonl")
    with pytest.raises(BadSuite, match="f.jsonl, line 7: there is no tool 'run_shell'"):
        run(ask, suite)


def test_constrained_calls_leave_out_what_needs_words():
    schemas = []

    async def ask(messages, schema):
        schemas.append(schema)
        return '{"name": "find_process", "arguments": {"name": "vite"}}'

    found = run(ask, constrained=True)
    assert schemas[0] == TOOLBOX.call_schema() and len(found.results) == 6
    assert found.summary["call"]["right"] == 6 and found.summary["no_call"]["n"] == 0
    assert found.about["constrained"] is True


def test_the_fingerprint_covers_what_was_asked_and_not_who_answered():
    base = conditions(SUITE, "a", TOOLBOX)
    other = Suite("other name", "", "assistant", 64, 0, CASES, "moved.jsonl", "edited", "c")
    assert conditions(other, "a", TOOLBOX)["fingerprint"] == base["fingerprint"]
    changed = [conditions(SUITE, "b", TOOLBOX), conditions(SUITE, "a", Toolbox([])),
               conditions(SUITE, "a", TOOLBOX, True),
               conditions(Suite("example", "", "assistant", 65, 0, CASES, "", "", "c"), "a", TOOLBOX),
               conditions(Suite("example", "", "assistant", 64, 0, CASES, "", "", "d"), "a", TOOLBOX)]
    assert len({one["fingerprint"] for one in [base, *changed]}) == 6


def test_what_is_saved_is_what_is_read(tmp_path):
    found = run(perfect, about={"model": "made-up", "run_id": "r1"})
    again = load_evaluation(found.save(tmp_path / "eval"))
    assert again.results == found.results and again.about == found.about
    summary = json.loads((tmp_path / "eval/summary.json").read_text())
    assert summary["model"] == "made-up" and summary["call"]["low"] > 0.6
    rows = [json.loads(line) for line in (tmp_path / "eval/results.jsonl").read_text().splitlines()]
    assert rows[7]["request"] == "고마워" and "고마워" in (tmp_path / "eval/results.jsonl").read_text()


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "summary.json").unlink(),
    lambda folder: (folder / "summary.json").write_text("[]"),
    lambda folder: (folder / "summary.json").write_text("{}"),
    lambda folder: (folder / "results.jsonl").write_text("{}\n"),
    lambda folder: (folder / "results.jsonl").write_text((folder / "results.jsonl").read_text()[:-20]),
    lambda folder: (folder / "results.jsonl").write_text(
        (folder / "results.jsonl").read_text().replace('"right": true', '"right": false', 1)),
])
def test_damaged_results_are_refused(tmp_path, damage):
    run(perfect).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(BadResults, match="javis eval"):
        load_evaluation(tmp_path)


def test_results_of_a_later_javis_can_be_read(tmp_path):
    run(perfect).save(tmp_path)
    text = (tmp_path / "results.jsonl").read_text().replace('{"id"', '{"later": 1, "id"')
    summary = json.loads((tmp_path / "summary.json").read_text())
    (tmp_path / "results.jsonl").write_text(text)
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"results_sha256": sha256(text)}))
    assert len(load_evaluation(tmp_path).results) == 8


def test_summaries_say_when_cases_belong_together():
    rows = [Result(str(i), "call", "en", "t", "", "", right=True, cluster="one") for i in range(3)]
    assert "belong to 1 groups" in summarise(rows)["note"]
    assert summarise([])["complete"] and Evaluation({}, []).score("call").n == 0


def test_through_a_served_endpoint(tmp_path):
    adapter = tmp_path / "adapter.gguf"
    adapter.write_text("made-up")
    with ScriptedServer([stream_head(), said(VITE), END]) as server:
        engine = SimpleNamespace(url=server.url, api_key="sk-local-key", model_name="smol",
                                 adapters={"v1": adapter},
                                 lora=lambda name: {"lora": [{"id": 0, "scale": float(name == "v1")}]})
        found = run(engine_asker(engine, "v1", SUITE), concurrency=2)
        sent = server.requests[0].json
        plain = run(engine_asker(engine, None, SUITE), concurrency=1)
        last = server.requests[-1].json
    assert found.summary["call"]["right"] == 6 and found.summary["no_call"]["right"] == 0
    assert sent["lora"] == [{"id": 0, "scale": 1.0}] and sent["temperature"] == 0 and sent["max_tokens"] == 64
    assert found.about["adapter"] == "v1" and found.about["adapter_sha256"] == sha256(Path(adapter))
    assert found.results[0].finish_reason == "stop" and found.results[0].seconds > 0
    assert last["lora"] == [{"id": 0, "scale": 0.0}] and plain.about["adapter_sha256"] is None


def test_words_are_read_only_until_they_are_long_enough():
    long = [stream_head(), *(said(f"word{i} ") for i in range(40)), END]
    with ScriptedServer(long) as server:
        ask = Asker(ChatClient(server.url), "smol", Sampling(), prose_characters=30)
        found = run(ask, concurrency=1)
    answer = found.results[-1]
    assert found.summary["no_call"]["right"] == 2 and 30 <= len(answer.answer) < 40
    assert answer.finish_reason == "enough"
    with ScriptedServer([stream_head(), said(VITE), END]) as server:
        found = run(Asker(ChatClient(server.url), "smol", Sampling(), prose_characters=1), concurrency=1)
    assert found.summary["call"]["right"] == 6


def test_native_tool_calls_are_heard():
    call = {"index": 0, "id": "c1", "function": {"name": "find_process", "arguments": '{"name": "vite"}'}}
    chunk = {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    script = [stream_head(), f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n"]
    with ScriptedServer(script) as server:
        ask = Asker(ChatClient(server.url), "qwen", Sampling(), tools=TOOLBOX.schemas())
        found = run(ask)
        assert server.requests[0].json["tools"] == TOOLBOX.schemas()
    assert found.summary["call"]["right"] == 6
