"The embedded engine: what it starts with, who may ask, how it ends, and what it says when it cannot."
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from javis import local
from javis.local import (Engine, EngineError, PortInUse, lora_scales, shared_engine, thread_count)
from javis.models import AdapterError, ModelNotFound, ModelUnreadable, find_model

pytest.importorskip("xllamacpp")
MODEL = "smollm2-135m-instruct"
POSIX = pytest.mark.skipif(os.name == "nt", reason="processes and signals of POSIX")


@pytest.fixture(scope="module")
def engine():
    with Engine(MODEL, slots=2) as one:
        yield one


def ask(engine, text="Say hello.", tokens=8, **body):
    "The answer of an engine, over its API."
    reply = httpx.post(f"{engine.url}/chat/completions", timeout=120,
                       headers={"Authorization": f"Bearer {engine.api_key}"},
                       json=dict(messages=[dict(role="user", content=text)], max_tokens=tokens,
                                 temperature=0) | body)
    reply.raise_for_status()
    return reply.json()["choices"][0]["message"]["content"]


def gone(pid, within=8.0):
    "Whether a process ends in time."
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def run_script(code, **options):
    "A Python process that runs some lines, with its output in a pipe."
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)


OWNER = """
import os, signal, sys, threading, time
from javis.local import Engine, shared_engine
engine = Engine(slots=1, context_length=512).start()
print(engine._process.pid, engine.url, engine.api_key, flush=True)
"""


def test_it_answers_and_shows_no_path(engine):
    assert ask(engine)
    listed = httpx.get(f"{engine.url}/models", headers={"Authorization": f"Bearer {engine.api_key}"})
    assert listed.json()["data"][0]["id"] == engine.model_name == MODEL
    assert str(engine.model_path.parent) not in listed.text


def test_it_listens_on_the_loopback_address_only(engine):
    port = int(engine.url.split(":")[2].split("/")[0])
    process = psutil.Process(engine._process.pid)
    assert {c.laddr.ip for c in process.net_connections() if c.laddr.port == port} == {"127.0.0.1"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_nobody_is_answered_without_the_key(engine, headers):
    for path in ("/models", "/chat/completions"):
        reply = httpx.request("POST" if "chat" in path else "GET", engine.url + path, headers=headers,
                              json={"messages": [{"role": "user", "content": "x"}]})
        assert reply.status_code == 401


@POSIX
def test_the_key_is_not_for_others_to_see(engine):
    process = psutil.Process(engine._process.pid)
    assert engine.api_key not in " ".join(process.cmdline())
    assert engine.api_key not in " ".join(process.environ().values())
    assert engine.api_key not in repr(engine)


def test_two_engines_have_their_own_keys_and_ports(engine):
    with Engine(MODEL, slots=1) as other:
        assert other.api_key != engine.api_key and other.url != engine.url
        with pytest.raises(httpx.HTTPStatusError):
            httpx.get(f"{other.url}/models",
                      headers={"Authorization": f"Bearer {engine.api_key}"}).raise_for_status()


def test_it_starts_within_two_seconds():
    seconds = []
    for _ in range(4):
        with Engine(MODEL) as one:
            seconds.append(one.start_s)
        if seconds[-1] < 2:
            break
    assert min(seconds) < 2


def test_a_port_may_be_asked_for():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Engine(MODEL, slots=1, port=port) as one:
        assert f":{port}/" in one.url and ask(one)
        with pytest.raises(PortInUse, match=f"Port {port}.*a free one is found"):
            Engine(MODEL, port=port).start()
    with Engine(MODEL, slots=1, port=port) as one:  # free again at once
        assert ask(one)


def test_more_requests_than_slots_wait_their_turn(engine):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: ask(engine, f"Count to {i}."), range(2, 8)))
    assert len(answers) == 6 and all(answers)


def test_many_idle_connections_do_not_block_it(engine):
    clients = [httpx.Client(headers={"Authorization": f"Bearer {engine.api_key}"}) for _ in range(24)]
    for client in clients:
        assert client.get(f"{engine.url}/models", timeout=20).status_code == 200
    for client in clients:
        client.close()


def test_a_slot_holds_as_much_as_was_asked_for(engine):
    with Engine(MODEL, slots=3, context_length=300) as one:
        ask(one, "word " * 200)
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            ask(one, "word " * 700)


def test_the_shared_beginning_of_requests_is_read_once(engine):
    system = dict(role="system", content="You are JAVIS, a developer's assistant. " * 12)
    cached = []
    for text in ("What is a lock file?", "What is a rebase?", "What is a mutex?"):
        reply = httpx.post(f"{engine.url}/chat/completions", timeout=60,
                           headers={"Authorization": f"Bearer {engine.api_key}"},
                           json=dict(messages=[system, dict(role="user", content=text)], max_tokens=4))
        cached.append(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[2] > 100


def test_it_leaves_the_python_of_its_owner_alone():
    code = ("import sys, javis.local, javis.models; bad = {'torch', 'numpy', 'httpx', 'xllamacpp', "
            "'gguf', 'huggingface_hub', 'transformers', 'psutil'} & set(sys.modules); "
            "print(sorted(bad))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True,
                          text=True).stdout == "[]\n"


@POSIX
def test_files_in_the_working_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "javis.py").write_text("raise RuntimeError('imported')")
    monkeypatch.chdir(tmp_path)
    with Engine(MODEL, slots=1) as one:
        assert one.alive


def test_threads_wait_without_holding_their_core(monkeypatch):
    started = {}
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(local.subprocess, "Popen",
                        lambda *a, env, **k: started.update(env) or pytest.fail("stop"))
    with pytest.raises(pytest.fail.Exception):
        local._launch({})
    assert started["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with pytest.raises(pytest.fail.Exception):
        local._launch({})
    assert started["GOMP_SPINCOUNT"] == "7"


@pytest.mark.parametrize("text, cores", [("150000 100000", 1.5), ("max 100000", float("inf")),
                                         ("", float("inf")), ("nonsense 1", float("inf"))])
def test_the_quota_of_a_container(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert local._quota(tmp_path / "cpu.max") == cores
    assert local._quota(tmp_path / "none") == float("inf")


def test_thread_count_is_at_least_one(monkeypatch):
    monkeypatch.setattr(local, "_quota", lambda: 0.5)
    assert thread_count() == 1
    monkeypatch.setattr(local, "_quota", lambda: float("inf"))
    assert 1 <= thread_count(most=3) <= 3


def test_scales_name_every_adapter():
    assert lora_scales([], None) == {}
    assert lora_scales("ab", None) == {"lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}]}
    assert lora_scales("ab", "b") == {"lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]}
    with pytest.raises(AdapterError, match="It has: none"):
        lora_scales([], "a")


# How it ends


def test_close_ends_it_and_may_be_repeated():
    one = Engine(MODEL, slots=1).start()
    pid = one._process.pid
    assert one.start() is one and one._process.pid == pid
    one.close()
    one.close()
    assert gone(pid) and not one.alive
    with pytest.raises(EngineError, match="start()"):
        one.url
    assert ask(one.start())
    one.close()


def test_close_during_an_answer_is_quick_and_the_asker_hears_of_it():
    one = Engine(MODEL, slots=2).start()
    ends = []

    def listen(stream):
        try:
            ask(one, "Count to 500.", 1500, ignore_eos=True, stream=stream)
        except Exception as error:
            ends.append(error)

    threads = [threading.Thread(target=listen, args=(stream,)) for stream in (True, False)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    began = time.monotonic()
    one.close()
    assert time.monotonic() - began < 2
    for thread in threads:
        thread.join(10)
    assert [isinstance(end, httpx.TransportError) for end in ends] == [True, True]


def test_it_ends_when_nobody_holds_it():
    one = Engine(MODEL, slots=1).start()
    pid = one._process.pid
    del one
    gc.collect()
    assert gone(pid)


@POSIX
@pytest.mark.parametrize("last", ["pass", "raise SystemExit(3)", "1 / 0", "os._exit(0)",
                                  "os.kill(os.getpid(), signal.SIGKILL)",
                                  "os.kill(os.getpid(), signal.SIGTERM)"])
def test_it_ends_with_its_owner(last):
    owner = run_script(OWNER + last, stderr=subprocess.DEVNULL)
    pid = int(owner.stdout.readline().split()[0])
    owner.wait(20)
    assert gone(pid)


@POSIX
def test_an_owner_killed_in_the_middle_of_an_answer_leaves_nothing():
    code = OWNER + """
import httpx
httpx.post(engine.url + '/chat/completions', headers={'Authorization': 'Bearer ' + engine.api_key},
           timeout=100, json=dict(messages=[dict(role='user', content='x')], ignore_eos=True,
                                  max_tokens=400))
"""
    owner = run_script(code)
    pid = int(owner.stdout.readline().split()[0])
    time.sleep(0.7)
    owner.kill()
    owner.wait(20)
    assert gone(pid)


@POSIX
def test_it_ends_with_its_owner_even_if_a_forked_child_lives_on():
    code = OWNER + "if os.fork() == 0: time.sleep(60); os._exit(0)\nos._exit(0)"
    owner = run_script(code, start_new_session=True)
    pid = int(owner.stdout.readline().split()[0])
    owner.wait(20)
    try:
        assert gone(pid)
    finally:
        os.killpg(owner.pid, signal.SIGKILL)


@POSIX
def test_a_forked_child_that_ends_leaves_it_running():
    code = OWNER + """
child = os.fork()
if child == 0:
    del engine
    sys.exit(0)
print(os.waitpid(child, 0)[1], engine.alive, flush=True)
"""
    owner = run_script(code)
    owner.stdout.readline()
    assert owner.stdout.readline().split() == ["0", "True"]
    owner.wait(20)


@POSIX
def test_a_forked_child_gets_a_shared_engine_of_its_own():
    code = OWNER + """
first = shared_engine(slots=1)
if os.fork() == 0:
    print(shared_engine(slots=1)._process.pid != first._process.pid, flush=True)
    sys.exit(0)
os.wait()
print(first.alive, flush=True)
"""
    owner = run_script(code)
    assert owner.communicate(timeout=60)[0].split()[-2:] == ["True", "True"]


@POSIX
def test_control_c_is_for_the_owner():
    code = OWNER + """
try:
    time.sleep(30)
except KeyboardInterrupt:
    time.sleep(1)
    print(engine.alive, flush=True)
"""
    owner = run_script(code, start_new_session=True)
    pid = int(owner.stdout.readline().split()[0])
    os.killpg(owner.pid, signal.SIGINT)
    assert owner.stdout.readline() == "True\n"
    owner.wait(20)
    assert gone(pid)


def test_one_that_was_killed_says_so_and_starts_again():
    one = Engine(MODEL, slots=1).start()
    one._process.kill()
    one._process.wait()
    assert not one.alive
    with pytest.raises(EngineError, match="not running"):
        one.url
    assert ask(one.start())
    one.close()


# Shared


def test_threads_share_one_engine():
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda _: shared_engine(MODEL, slots=2), range(8)))
        assert len({id(one) for one in engines}) == 1
        assert all(pool.map(ask, engines))
    engines[0].close()


def test_other_options_are_another_engine_and_the_last_holder_ends_it():
    one, other = shared_engine(MODEL, slots=1), shared_engine(MODEL, slots=2)
    assert one is not other
    pid = one._process.pid
    del one
    gc.collect()
    assert gone(pid) and other.alive
    other.close()


def test_a_shared_engine_that_was_killed_is_started_again():
    one = shared_engine(MODEL, slots=1)
    one._process.kill()
    one._process.wait()
    again = shared_engine(MODEL, slots=1)
    assert again.alive and ask(again)
    again.close()


def test_a_model_file_that_changed_is_another_engine(tmp_path):
    path = tmp_path / "model.gguf"
    os.link(find_model(MODEL), path) if os.name != "nt" else pytest.skip("links")
    one = shared_engine(path, slots=1)
    assert one.model_name == "model"
    path.unlink()
    path.write_bytes(find_model(MODEL).read_bytes())
    assert shared_engine(path, slots=1) is not one


# What cannot work


def test_what_is_missing_or_no_model(tmp_path):
    with pytest.raises(ModelNotFound):
        Engine(tmp_path / "none.gguf")
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(ModelUnreadable, match="page.gguf"):
        Engine(tmp_path / "page.gguf").start()
    with pytest.raises(AdapterError, match="There is no adapter"):
        Engine(MODEL, adapters={"a": tmp_path / "a.gguf"}).start()


@pytest.mark.parametrize("options", [{"slots": 0}, {"slots": -1}, {"threads": -2}])
def test_it_needs_something_to_work_with(options):
    with pytest.raises(EngineError, match="at least one slot and one thread"):
        Engine(MODEL, **options).start()


@pytest.mark.parametrize("length", [0, -5, 9000, 10**9])
def test_a_context_that_the_model_cannot_read(length):
    with pytest.raises(EngineError, match="at most 8192 tokens"):
        Engine(MODEL, context_length=length).start()


def test_what_only_llama_cpp_finds_is_told_with_its_words(tmp_path):
    whole = find_model(MODEL).read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[:-1000])  # in the middle of the last tensor
    with pytest.raises(EngineError, match="It said: error loading model.*corrupted or incomplete"):
        Engine(tmp_path / "short.gguf").start()


def test_a_start_that_takes_too_long_leaves_nothing():
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(EngineError, match="nothing in 0.01 s"):
        Engine(MODEL, start_timeout_s=0.01).start()
    assert {child.pid for child in psutil.Process().children()} <= before


def test_without_xllamacpp_the_command_is_named(monkeypatch, tmp_path):
    (tmp_path / "xllamacpp.py").write_text("raise ModuleNotFoundError(name='xllamacpp')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(local.MissingExtra, match=r"pip install 'javis\[local\]'"):
        Engine(MODEL).start()


def test_what_llama_cpp_says_goes_to_the_log(tmp_path, caplog):
    (tmp_path / "short.gguf").write_bytes(find_model(MODEL).read_bytes()[:-1000])
    with caplog.at_level(logging.DEBUG, logger="javis"):
        with pytest.raises(EngineError):
            Engine(tmp_path / "short.gguf").start()
    assert any("llama.cpp" in record.getMessage() for record in caplog.records)


def test_nothing_is_printed():
    code = "from javis.local import Engine\nwith Engine(slots=1): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
