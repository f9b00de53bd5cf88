"""The notebook tool: edit notebooks as text, run them again, make README.md, and check the tree.

    python tools/nb.py py    nbs/00a_config.ipynb  # -> nbs/00a_config.py, the text to edit
    python tools/nb.py ipynb nbs/00a_config.py     # -> back into the notebook; ids and outputs are kept, the .py goes
    python tools/nb.py run   nbs/00a_config.ipynb  # run every cell that tests run, and keep the new outputs
    python tools/nb.py readme                      # README.md from nbs/index.ipynb
    python tools/nb.py check                       # import order, stale modules, README; exit 1 and say which
"""
import ast
import re
import subprocess
import sys
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.process import NBProcessor, extract_directives

ROOT = Path(__file__).resolve().parent.parent
TEXT_OPTIONS = ["--opt", "cell_metadata_filter=-all", "--opt", "notebook_metadata_filter=-all"]
MADE_BY = "<!-- made from nbs/index.ipynb by `make readme`: edit there -->"


def to_text(notebook: Path):
    "Write the notebook as a py:percent file beside it."
    text = notebook.with_suffix(".py")
    subprocess.run(["jupytext", "-q", "--to", "py:percent", *TEXT_OPTIONS, str(notebook), "-o", str(text)], check=True)
    print(text)


def to_notebook(text: Path):
    "Fold an edited py:percent file back into its notebook and remove it."
    notebook = text.with_suffix(".ipynb")
    subprocess.run(["jupytext", "-q", "--to", "ipynb", "--update", str(text), "-o", str(notebook)], check=True)
    nb = read_nb(notebook)
    nb.metadata.pop("jupytext", None)
    nb.metadata.setdefault("kernelspec", dict(name="python3", language="python", display_name="python3"))
    write_nb(nb, notebook)
    text.unlink()
    print(notebook)


def run(notebook: Path, *flags: str):
    "Run the notebook's cells in order, stop at the first error, and save the outputs."
    skipped = set(get_config().tst_flags.split()) - set(flags)
    nb = read_nb(notebook)
    marks = {cell.id: cell.directives_ for cell in NBProcessor(notebook, rm_directives=False).nb.cells}

    def leave_out(cell) -> bool:
        directives = marks.get(cell.id, {})
        off = directives.get("eval:", [""])[0] == "false"
        return cell.cell_type != "code" or off or bool(skipped & directives.keys())

    for cell in nb.cells:
        if not leave_out(cell):
            cell.outputs = []  # a cell that prints nothing now would keep what it printed once
    sys.path.insert(0, str(ROOT))
    shell = CaptureShell(notebook)
    shell.run_all(nb, exc_stop=True, preproc=leave_out)
    write_nb(nb, notebook)
    if shell.exc:
        sys.exit(f"{notebook}: stopped at an error: {shell.exc[1]!r}")
    print(notebook)


def _output_markdown(output: dict) -> str:
    data = output.get("data", {})
    if markdown := data.get("text/markdown"):
        return "".join(markdown)
    plain = "".join(output.get("text") or data.get("text/plain") or "")
    return f"```\n{plain.rstrip()}\n```" if plain.strip() else ""


def readme_text() -> str:
    "The front page: Markdown cells, visible code cells and their outputs."
    parts = [MADE_BY]
    for cell in read_nb(ROOT / "nbs/index.ipynb").cells:
        directives = extract_directives(cell, remove=False) if cell.cell_type == "code" else {}
        if "hide" in directives or not cell.source.strip():
            continue
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace("](images/", "](nbs/images/"))
            continue
        code = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        parts.append(f"```python\n{code}\n```")
        parts += filter(None, map(_output_markdown, cell.get("outputs", [])))
    return "\n\n".join(parts) + "\n"


def readme():
    "Write README.md."
    (ROOT / "README.md").write_text(readme_text(), encoding="utf-8", newline="\n")


def _exported(notebook: Path) -> tuple[str | None, list[str]]:
    "The module a notebook makes, and the sources of its exported cells."
    sources = [cell.source for cell in read_nb(notebook).cells if cell.cell_type == "code"]
    names = [found[1] for source in sources if (found := re.search(r"^#\|\s*default_exp\s+(\S+)", source, re.M))]
    exported = [source for source in sources if re.match(r"(#\|.*\n)*#\|\s*export", source)]
    return (names[0] if names else None), exported


def _imports(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def wrong_way_imports() -> list[str]:
    "Exported imports of a module that a later notebook makes."
    notebooks = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
    exported = {notebook: _exported(notebook) for notebook in notebooks}
    place = {f"javis.{name}": i for i, (name, _) in enumerate(exported.values()) if name}
    return [f"{notebook.name} imports {module}, which {notebooks[place[module]].name} makes"
            for i, notebook in enumerate(notebooks) for source in exported[notebook][1]
            for module in sorted(set(_imports(source))) if place.get(module, -1) >= i]


def stale_modules() -> list[str]:
    "Modules in javis/ that no notebook makes any more."
    made = {name for notebook in (ROOT / "nbs").rglob("*.ipynb") if (name := _exported(notebook)[0])}
    files = [path.relative_to(ROOT / "javis") for path in (ROOT / "javis").rglob("*.py")
             if "js" not in path.parts]  # where node_modules are
    kept = [path for path in files if path.name not in ("__init__.py", "_modidx.py")]
    return [f"javis/{path} is made by no notebook" for path in kept
            if ".".join(path.with_suffix("").parts) not in made]


def check():
    "Print every fault found; exit 1 if there is one."
    faults = wrong_way_imports() + stale_modules()
    if (ROOT / "README.md").read_text(encoding="utf-8") != readme_text():
        faults.append("README.md differs from nbs/index.ipynb: run `make readme`")
    print("\n".join(faults) or "notebooks, modules and README agree")
    sys.exit(bool(faults))


if __name__ == "__main__":
    verbs = dict(py=to_text, ipynb=to_notebook, run=run, readme=readme, check=check)
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    arguments = [Path(a) if a.endswith((".ipynb", ".py")) else a for a in sys.argv[2:]]
    verbs[sys.argv[1]](*arguments)
