import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "duckdb", "IPython", "sqlalchemy", "httpx", "pydantic", "alembic", "rich", "typer")


def loaded_after(code):
    code += f"; import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_import_javis_loads_nothing_heavy():
    assert loaded_after("import javis; dir(javis); javis.__version__") == []


def test_names_load_when_they_are_used():
    assert "torch" not in loaded_after("from javis import ChatSession, Store, load_settings, tool, Toolbox")
    assert not {"IPython", "torch", "duckdb"} & set(loaded_after("from javis import Chat"))


def test_all_names_are_there_and_others_are_not():
    import javis
    assert set(javis.__all__) <= set(dir(javis))
    for name in javis.__all__:
        assert getattr(javis, name).__module__.startswith("javis.")
    from javis import tools
    assert tools.__name__ == "javis.tools"
    with pytest.raises(AttributeError, match="no attribute 'Chatt'"):
        javis.Chatt
