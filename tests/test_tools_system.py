"Processes, disks, and the toolbox of all nine tools."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from javis.config import ConfigError, Settings
from javis.tools.base import ToolError
from javis.tools.files import SafeRoot
from javis.tools.system import default_toolbox, disk_usage, find_process

SIGNATURES = """read_file(path, start?, end?)
list_dir(path)
search_text(pattern, path?)
write_file(path, content)
run_shell(command)
web_search(query)
fetch_url(url)
find_process(name)
disk_usage(path?)"""


@pytest.fixture
def child():
    code = "print('up', flush=True); import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, "--password=hush"], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_find_process(child):
    text = find_process(os.path.basename(sys.executable).upper(), limit=1000)
    line, = [line for line in text.splitlines() if line.startswith(f"{child.pid}  ")]
    assert "cpu" in line and "MiB" in line and "running for" in line
    assert "hush" not in text
    assert find_process("no such program at all") == "no process is called 'no such program at all'"


def test_find_process_is_bounded(child):
    text = find_process("python", limit=1, pause_s=0).splitlines()
    assert len(text) == 2 and text[1].endswith("more]")


def test_disk_usage(tmp_path):
    root = SafeRoot(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/x").write_bytes(b"x" * 1500)
    (tmp_path / "a/b/y").write_bytes(b"x" * 36)
    (tmp_path / "a/all").symlink_to("/")
    text = disk_usage("a", root=root)
    assert text.startswith("a: 1.5 KiB") and "files: 3" in text
    assert disk_usage("a/x", root=root) == "a/x: 1.5 KiB"
    assert "holds more" in disk_usage("a", root=root, timeout_s=-1)
    assert "free" in disk_usage(root=root) and "%" in disk_usage(root=root)
    with pytest.raises(ToolError, match="does not exist"):
        disk_usage("nowhere", root=root)
    with pytest.raises(ToolError, match="not approved"):
        disk_usage("/home", root=root)


def test_signatures_are_the_contract(tmp_path):
    assert default_toolbox(Settings(root=tmp_path)).signatures() == SIGNATURES


def test_effects(tmp_path):
    effects = {tool.name: tool.effect for tool in default_toolbox(Settings(root=tmp_path))}
    assert [name for name, effect in effects.items() if effect != "read"] == [
        "write_file", "run_shell", "web_search", "fetch_url"]
    assert effects["run_shell"] == "exec" and effects["fetch_url"] == "net"


def test_settings_choose_and_bound(tmp_path):
    (tmp_path / "long.txt").write_text("word\n" * 5000)
    settings = Settings(root=tmp_path, tools={"enabled": ["run_shell", "read_file"], "max_output_chars": 300,
                                              "timeout_s": 0.5})
    box = default_toolbox(settings)
    assert box.names == ["read_file", "run_shell"]
    assert len(box.call("read_file", {"path": "long.txt"})) <= 300
    assert "longer than 0.5 s" in box.call("run_shell", {"command": "sleep 30"})
    with pytest.raises(ConfigError, match="Did you mean 'run_shell'"):
        default_toolbox(Settings(root=tmp_path, tools={"enabled": ["run_shel"]}))


def test_rules_reach_the_tools(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tools.yaml").write_text("secrets: ['*.diary']\nshell_variables: [MY_FLAG]\n")
    (tmp_path / "my.diary").write_text("hush")
    monkeypatch.setenv("MY_FLAG", "on")
    box = default_toolbox(Settings(root=tmp_path))
    assert "may hold secrets" in box.call("read_file", {"path": "my.diary"})
    assert "MY_FLAG=on" in box.call("run_shell", {"command": "env"})
    assert "stays closed" in box.call("fetch_url", {"url": "http://127.0.0.1:9/"})
    (tmp_path / "configs/tools.yaml").write_text("private_network: true\n")
    assert "cannot be fetched" in default_toolbox(Settings(root=tmp_path)).call("fetch_url", {"url": "http://127.0.0.1:9/"})


def test_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("hi")
    box = default_toolbox(Settings(root=tmp_path), root=tmp_path / "elsewhere")
    assert box.call("list_dir", {"path": "."}).endswith("a.txt  2 bytes")
    assert str(Path.cwd()) not in box.call("run_shell", {"command": "pwd"})
