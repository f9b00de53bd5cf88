"What the repository promises of itself: modules, notebooks and README agree, and nothing is left over."
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def notebook_tool():
    spec = importlib.util.spec_from_file_location("nb", ROOT / "tools/nb.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of what is tracked by git or would be, as a repository of its own."
    folder = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def changed(folder):
    return subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.parametrize("command", ["export", "clean"])
def test_nothing_is_left_to_do(copy, command):
    code = {"export": "from nbdev.export import nb_export; from nbdev.doclinks import nbdev_export; nbdev_export()",
            "clean": "from nbdev.clean import nbdev_clean; nbdev_clean()"}[command]
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert changed(copy) == "", f"nbdev_{command} changes files: run it and commit"


def test_imports_only_run_to_smaller_numbers():
    assert notebook_tool().wrong_way_imports() == []


def test_every_module_has_its_notebook():
    assert notebook_tool().stale_modules() == []


def test_readme_is_made_from_the_index():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == notebook_tool().readme_text()


def test_no_notebook_shows_an_error():
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        failed = [out for cell in cells for out in cell.get("outputs", []) if out["output_type"] == "error"]
        assert not failed, f"{path.name} shows {failed[0]['ename']}"


def test_no_file_is_large():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    large = [name for name in listed if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 2_000_000]
    assert large == []


def test_a_wrong_way_import_and_a_stale_module_are_found(tmp_path, monkeypatch):
    tool = notebook_tool()
    (tmp_path / "nbs").mkdir()
    (tmp_path / "javis").mkdir()
    for name, source in (("00_low", "from javis.high import x"), ("01_high", "x = 1")):
        cells = [{"cell_type": "code", "id": id, "metadata": {}, "outputs": [], "execution_count": None, "source": text}
                 for id, text in (("a", f"#| default_exp {name[3:]}"), ("b", f"#| export\n{source}"))]
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / f"nbs/{name}.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "javis/gone.py").write_text("")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    assert tool.wrong_way_imports() == ["00_low.ipynb imports javis.high, which 01_high.ipynb makes"]
    assert tool.stale_modules() == ["javis/gone.py is made by no notebook"]
