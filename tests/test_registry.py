import json
import multiprocessing
import os
import shutil
import subprocess
import sys

import pytest

from javis import registry as module
from javis.chance import Score
from javis.config import sha256
from javis.registry import (AdapterCorrupt, Gate, GateClosed, GateRules, Registry, RegistryError, gate)

OVERRIDE = {"override": "a test"}


def make_run(folder, text="weights"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "adapter.gguf"):
        (folder / name).write_text(f"{text} {name}")
    (folder / "checkpoint-9").mkdir(exist_ok=True)
    (folder / "checkpoint-9/optimizer.pt").write_text("large")
    return folder


def register(registry, folder, text="weights", run_id="r1", **more):
    run = make_run(folder / "run", text)
    return registry.register(run, run / "adapter.gguf", base_model="smol", run_id=run_id, **more)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "data/registry.jsonl")


def opened(version, base=None):
    return Gate(True, ["yes: better"], "base", version.name, base.files["adapter.gguf"] if base else None,
                version.files["adapter.gguf"])


# Versions

def test_an_empty_registry(registry):
    assert registry.versions() == [] and registry.serving() is None and registry.events() == []
    assert repr(registry) == "no versions yet; the base model serves"
    with pytest.raises(RegistryError, match="There are: none yet"):
        registry.resolve("v0.1")
    with pytest.raises(RegistryError, match="No version is 'serving' now"):
        registry.resolve("serving")
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback("why not")


def test_a_version_is_a_copy_with_hashes(registry, tmp_path):
    version = register(registry, tmp_path, dataset="v0.3", dataset_sha256="d" * 64, summary={"n": 1})
    shutil.rmtree(tmp_path / "run")
    again = registry.load("v0.1")
    assert again == version and again.name == "javis-v0.1" and again.verify() is again
    assert sorted(version.files) == ["adapter.gguf", "adapter/README.md", "adapter/adapter.gguf",
                                     "adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    assert sha256(version.gguf) == version.files["adapter.gguf"]
    assert (version.adapter / "adapter_config.json").read_text() == "weights adapter_config.json"
    assert (again.dataset, again.dataset_sha256, again.summary) == ("v0.3", "d" * 64, {"n": 1})
    told = json.loads((version.folder / "version.json").read_text())
    assert told["files"] == version.files and "folder" not in told
    assert not list(registry.models.glob(".*"))


def test_a_version_without_gguf(registry, tmp_path):
    version = registry.register(make_run(tmp_path / "run"), base_model="qwen")
    assert version.gguf is None and version.verify()


def test_names_aliases_and_guesses(registry, tmp_path):
    register(registry, tmp_path, "one", "r1")
    second = register(registry, tmp_path, "two", "r2")
    assert [one.name for one in registry.versions()] == ["javis-v0.1", "javis-v0.2"]
    for name in ("candidate", "v0.2", "javis-v0.2"):
        assert registry.resolve(name) == second
    with pytest.raises(RegistryError, match="Did you mean 'javis-v0.2'"):
        registry.resolve("javis-v02")
    with pytest.raises(RegistryError, match="Did you mean 'serving'"):
        registry.resolve("servin")


def test_the_same_run_is_registered_once(registry, tmp_path):
    assert register(registry, tmp_path) == register(registry, tmp_path)
    assert register(registry, tmp_path, run_id="r2").name == "javis-v0.2"
    assert register(registry, tmp_path, "other", run_id="r2").name == "javis-v0.3"
    assert len(registry.events()) == 3


def test_what_is_no_adapter_is_refused(registry, tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(RegistryError, match="nothing.gguf. Convert the adapter to GGUF first"):
        registry.register(run, run / "nothing.gguf", base_model="smol")
    (run / "adapter_model.safetensors").unlink()
    with pytest.raises(RegistryError, match="holds no adapter_model.safetensors"):
        registry.register(run, base_model="smol")
    assert registry.events() == [] and not registry.models.exists()


@pytest.mark.parametrize("name", ["adapter.gguf", "adapter/adapter_model.safetensors"])
def test_a_changed_file_is_named(registry, tmp_path, name):
    version = register(registry, tmp_path)
    with open(version.folder / name, "ab") as file:
        file.write(b"!")
    with pytest.raises(AdapterCorrupt, match=f"{name} is not the file"):
        registry.load("candidate")
    (version.folder / name).unlink()
    with pytest.raises(AdapterCorrupt, match=f"{name} is missing"):
        registry.promote("candidate", "why", opened(version))
    assert registry.serving() is None and registry.resolve("v0.1") == version


# Promotion

def test_promote_and_roll_back_through_history(registry, tmp_path):
    one, two, three = (register(registry, tmp_path, f"w{i}", f"r{i}") for i in range(3))
    registry.promote("v0.1", "first", opened(one))
    assert registry.aliases() == {"serving": one.name, "previous": None, "candidate": three.name}
    registry.promote("v0.2", "second", opened(two, one))
    registry.promote("candidate", "third", opened(three, two))
    assert registry.aliases() == {"serving": three.name, "previous": two.name, "candidate": None}
    assert registry.rollback("bad") == two
    assert registry.aliases() == {"serving": two.name, "previous": one.name, "candidate": None}
    registry.promote("v0.3", "fixed the cause", opened(three, two))
    assert registry.aliases()["previous"] == two.name
    assert [registry.rollback("x"), registry.rollback("x"), registry.rollback("x")] == [two, one, None]
    assert registry.serving() is None
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback("x")


def test_promoting_what_serves_changes_nothing(registry, tmp_path):
    one = register(registry, tmp_path)
    registry.promote("v0.1", "first", opened(one))
    registry.promote("v0.1", "again", None)
    assert len(registry.events()) == 2


def test_a_closed_gate_needs_a_written_reason(registry, tmp_path):
    one = register(registry, tmp_path)
    closed = Gate(False, ["no: worse"], "base", one.name, None, one.files["adapter.gguf"])
    for override in (None, "", "  "):
        with pytest.raises(GateClosed, match="no: worse"):
            registry.promote("v0.1", "now", closed, override=override)
    registry.promote("v0.1", "now", closed, override="We measured it by hand.")
    event = registry.events()[-1]
    assert event["override"] == "We measured it by hand." and event["closed"] == ["no: worse"]
    assert event["gate"]["reasons"] == ["no: worse"] and event["why"] == "now"


def test_a_gate_is_for_one_adapter_against_what_serves(registry, tmp_path):
    one, two = register(registry, tmp_path, "a", "r1"), register(registry, tmp_path, "b", "r2")
    with pytest.raises(GateClosed, match="another adapter"):
        registry.promote("v0.2", "x", opened(one))
    nobody = Gate(True, [], "base", "?", None, None)
    with pytest.raises(GateClosed, match="another adapter"):
        registry.promote("v0.2", "x", nobody)
    registry.promote("v0.1", "x", opened(one))
    with pytest.raises(GateClosed, match="compared with base, but javis-v0.1 serves"):
        registry.promote("v0.2", "x", opened(two))
    registry.promote("v0.2", "x", opened(two, one))
    registry.rollback("x")
    registry.rollback("x")
    with pytest.raises(GateClosed, match="but the base model serves"):
        registry.promote("v0.2", "x", opened(two, one))


def test_going_back_to_a_broken_version_is_refused(registry, tmp_path):
    one, two = register(registry, tmp_path, "a", "r1"), register(registry, tmp_path, "b", "r2")
    registry.promote("v0.1", "x", opened(one))
    registry.promote("v0.2", "x", opened(two, one))
    one.gguf.unlink()
    with pytest.raises(AdapterCorrupt):
        registry.rollback("x")
    assert registry.serving() == two


# A file that several processes write

def _register_in_a_process(folder, number):
    registry = Registry(folder / "data/registry.jsonl")
    register(registry, folder / f"p{number}", f"w{number}", f"r{number}")
    registry.promote("v0.1", f"by {number}", override="a race")


def test_many_processes_at_once(registry, tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_register_in_a_process, args=(tmp_path, i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    versions = registry.versions()
    assert [one.name for one in versions] == [f"javis-v0.{i}" for i in range(1, 5)]
    assert {one.run_id for one in versions} == {"r0", "r1", "r2", "r3"}
    assert all(one.verify() for one in versions)
    assert [event["event"] for event in registry.events()].count("promote") == 1


def test_a_half_written_line_is_passed_over_and_then_removed(registry, tmp_path):
    register(registry, tmp_path)
    whole = registry.path.read_bytes()
    registry.path.write_bytes(whole + '{"event": "promote", "aliases": {"serv'.encode())
    assert len(registry.events()) == 1 and registry.serving() is None
    registry.promote("v0.1", "x", **OVERRIDE)
    assert registry.path.read_bytes().startswith(whole) and len(registry.events()) == 2


@pytest.mark.parametrize("line", ["not json", "[]", "{}", '{"event": "register"}',
                                  '{"event": "register", "version": {"name": "x"}}'])
def test_a_line_that_is_no_event_is_named(registry, tmp_path, line):
    register(registry, tmp_path)
    with open(registry.path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(RegistryError, match="registry.jsonl, line 2 is no event"):
        registry.versions()


def test_events_and_keys_of_a_later_javis_are_passed_over(registry, tmp_path):
    register(registry, tmp_path)
    text = registry.path.read_text().replace('"base_model"', '"later": 1, "base_model"')
    registry.path.write_text(text + '{"event": "praise", "text": "good"}\n')
    assert registry.resolve("v0.1").base_model == "smol"


def test_a_process_that_is_killed_while_it_copies(registry, tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from pathlib import Path
from javis import registry as module
from test_registry import register
kill = lambda *args: os._exit(9)
setattr(module, {{"copy": "_copy", "event": "append_event"}}[sys.argv[1]], kill)
register(module.Registry(Path({str(tmp_path)!r}) / "data/registry.jsonl"), Path({str(tmp_path)!r}), "dead")
"""
    for moment in ("copy", "event"):
        assert subprocess.run([sys.executable, "-c", code, moment]).returncode == 9
        assert registry.versions() == []
    version = register(registry, tmp_path, "alive")
    assert version.name == "javis-v0.1" and version.verify()
    assert (version.adapter / "adapter_config.json").read_text().startswith("alive")
    assert [path.name for path in registry.models.iterdir()] == ["javis-v0.1"]


def test_a_full_disk_leaves_everything_as_it_was(registry, tmp_path, monkeypatch):
    register(registry, tmp_path)
    before = registry.path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(RegistryError, match="No space left on device"):
            registry.promote("v0.1", "x", **OVERRIDE)
        with pytest.raises(RegistryError, match="No space left on device"):
            register(registry, tmp_path, "new", "r2")
    assert registry.path.read_bytes() == before
    assert [path.name for path in registry.models.iterdir()] == ["javis-v0.1"]
    assert registry.promote("v0.1", "x", **OVERRIDE)


def test_an_adapter_that_changes_while_it_is_copied(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_copy", lambda source, target: "0" * 64)
    with pytest.raises(RegistryError, match="changed while it was copied"):
        register(registry, tmp_path)
    assert registry.versions() == []


def test_waiting_for_the_lock_ends(registry, monkeypatch):
    with module.locked(registry.path):
        with pytest.raises(RegistryError, match="Another process has been changing registry.jsonl"):
            with module.locked(registry.path, wait_s=0.05):
                pass
    with module.locked(registry.path, wait_s=0.05):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(RegistryError, match="could not be written"):
        Registry(tmp_path / "data/registry.jsonl").rollback("x")


# The gate

def summary(calls, words, *, n=20, m=20, formed=None, **more):
    outcomes = {"call": {f"c{i}": i < calls for i in range(n)}, "no_call": {f"n{i}": i < words for i in range(m)}}
    return {"fingerprint": "f", "complete": True, "constrained": False, "outcomes": outcomes,
            "format": Score(calls if formed is None else formed, n).as_dict(),
            "no_call": Score(words, m).as_dict(), **more}


@pytest.mark.parametrize("base, candidate, passed", [
    (summary(0, 20), summary(12, 16), True),  # the base never calls: only the floor counts
    (summary(0, 20), summary(12, 15), False),  # below the floor
    (summary(5, 20), summary(18, 19), True),
    (summary(5, 20), summary(18, 17), False),  # three of twenty lower than a base that calls
    (summary(5, 10), summary(18, 10), False),  # no lower, but below the floor
    (summary(5, 20), summary(10, 20), False),  # five gains are not enough
    (summary(5, 20), summary(11, 20), True),  # six are
    (summary(12, 20), summary(2, 20), False),
    (summary(5, 20), summary(5, 20), False),
    (summary(0, 0, m=0), summary(12, 0, m=0), False),  # no-calls were not asked
    (summary(0, 0, n=0), summary(0, 20, n=0), False),
])
def test_the_gate(base, candidate, passed):
    found = gate(base, candidate)
    assert found.passed is passed
    assert found.passed is not any(reason.startswith("no: ") for reason in found.reasons)


def test_the_gate_says_when_no_calls_of_the_base_are_no_merit():
    assert "no merit" in gate(summary(0, 20), summary(12, 17)).reasons[2]
    assert "no merit" not in str(gate(summary(2, 20), summary(12, 17)))


@pytest.mark.parametrize("spoilt, reason", [
    ({"fingerprint": "g"}, "not asked the same"), ({"fingerprint": None}, "not asked the same"),
    ({"complete": False, "errors": 2}, "incomplete (2 requests failed)"),
    ({"constrained": True}, "held to a schema"),
])
def test_what_cannot_be_compared_does_not_pass(spoilt, reason):
    good, bad = summary(0, 20), summary(20, 20, **spoilt)
    for pair in ((good, bad), (bad, good)):
        assert not gate(*pair).passed and reason in str(gate(*pair))


def test_other_rules():
    base, candidate = summary(5, 20), summary(18, 15)
    assert not gate(base, candidate).passed
    assert gate(base, candidate, GateRules(no_call_floor=0.7, no_call_drop=0.25)).passed
    found = gate(base | {"adapter_sha256": "a"}, candidate | {"adapter_sha256": "b", "adapter": "v2"})
    assert (found.base_sha256, found.candidate_sha256, found.candidate) == ("a", "b", "v2")
