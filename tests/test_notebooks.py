"Every notebook runs, and the failing one is named."
from pathlib import Path

import pytest
from nbdev.test import test_nb as run_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
SKIPPED = ["notest", "slow", "net", "gpu"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[str(path.relative_to(ROOT / "nbs")) for path in NOTEBOOKS])
def test_notebook_runs(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("JAVIS_HOME", str(ROOT))
    passed, seconds = run_notebook(path, skip_flags=SKIPPED, basepath=ROOT)
    assert passed, f"{path.name} stopped at an error: see above"
