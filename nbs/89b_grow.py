# %% [markdown]
# # Grow
#
# > Train, measure and promote a version, in a terminal
#
# Three steps take minutes and may fail half-way, so each shows how far it is, can be stopped, and
# ends with the command that comes next. What they do is the business of the training, evaluation
# and registry modules; here it is started, watched and put into words.

# %%
#| default_exp verbs.grow

# %%
#| export
import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from javis.comparison import Comparison, compare
from javis.config import ConfigError, JavisError, Settings, sha256
from javis.datasets import load_dataset
from javis.evaluation import (
    PART_LABELS, BadResults, Evaluation, Result, Suite, conditions, engine_asker, load_evaluation,
    load_suite, run_suite)
from javis.gate import Gate, gate
from javis.registry import Registry, Version
from javis.terminal import clock, line, note, print_json, progress, say, table
from javis.tools.base import Toolbox
from javis.tools.system import default_toolbox
from javis.training.recipes import Recipe, load_recipe
from javis.training.runs import Run, train
from javis.verbs.teach import listed, system_for, training_endpoint

# %%
from tempfile import TemporaryDirectory

from fastcore.test import test_eq, test_fail

from javis.config import load_settings

# %% [markdown]
# ## Training
#
# A recipe is named by its file's name, or by a path to it.

# %%
#| export
def find_recipe(
    settings: Settings,
    name: str,  # such as tools-cpu, or a path to a YAML file
    **changes: Any,  # values that go over those of the file; None changes nothing
) -> Recipe:
    "A recipe of the project; raises `RecipeError`."
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = settings.paths.recipes / f"{name}.yaml"
    return load_recipe(path, **changes)


# %%
with TemporaryDirectory() as folder:
    settings = load_settings(root=folder, env={})
    test_fail(lambda: find_recipe(settings, "tools"), contains="There is no recipe tools.yaml")

# %% [markdown]
# The journal of a run has the loss and the seconds of every step. From these follow the speed and
# the time that is left.

# %%
#| export
class Watch:
    "Turns the events of a run into `tell(done, of, text)`."

    def __init__(
        self,
        tell: Callable[..., None],  # of `progress`
        epochs: float,
        as_json: bool = False,  # print the events instead
    ):
        self.tell, self.epochs, self.as_json = tell, epochs, as_json
        self.run, self.losses = None, []
        self._begun, self._tokens = 0.0, 0

    def __call__(self, run: Run, event: dict[str, Any]) -> None:
        "Take one event."
        self.run = run
        if self.as_json:
            print_json({"run": run.id} | event)
        if event["event"] == "training":
            self._begun, self._tokens = event["seconds"], event["tokens"] * self.epochs
        if event["event"] == "step":
            self.losses.append(event["loss"])
            self.tell(event["step"], event["of"], self._step_text(event))
        elif event["event"] in ("loading", "training"):
            self.tell(0, None, f"{event['event']} …")

    def _step_text(self, event: dict[str, Any]) -> str:
        "Loss, speed and the time that is left."
        spent, part = event["seconds"] - self._begun, event["step"] / event["of"]
        speed = self._tokens * part / spent if spent > 0 else 0
        return f"loss {event['loss']:.3f}, {speed:.0f} tokens/s, {clock(spent / part - spent)} left"


# %%
shown = []
watch = Watch(lambda done, of, text: shown.append((done, of, text)), epochs=2)
for event in [dict(event="training", seconds=10, tokens=1000),
              dict(event="step", step=5, of=20, seconds=15, loss=1.25)]:
    watch(None, event)
shown[-1]

# %% [markdown]
# A finished run becomes a version: its adapter is converted for the embedded engine, and both are
# copied beside the registry. It serves only after it was measured and promoted.

# %%
#| export
def register_run(settings: Settings, run: Run, recipe: Recipe, dataset: Any) -> Version:
    "The version that a finished run makes; the same run makes only one."
    from javis.local import find_model
    from javis.weights import convert_adapter
    gguf = run.folder / "adapter.gguf"
    convert_adapter(run.adapter, find_model(recipe.base), gguf)
    return Registry(settings.paths.registry).register(
        run.adapter, gguf, base_model=recipe.base, run_id=run.id, dataset=dataset.version,
        dataset_sha256=dataset.sha256)


# %%
#| export
def track_run(run: Run, recipe: Recipe) -> None:
    "Send a run to W&B as its recipe says; a failure is told, and changes nothing."
    from javis.training.tracking import track
    try:
        if place := track(run, recipe.tracking):
            note(f"W&B ({recipe.tracking}): {place}")
    except JavisError as error:
        note(f"W&B was left out: {error}", "yellow")


# %%
#| export
def train_version(
    settings: Settings,
    recipe_name: str = "tools-cpu",
    *,
    epochs: float | None = None,  # in place of the recipe's
    dataset_version: str | None = None,  # in place of the recipe's
    again: bool = False,  # also when the same recipe was trained on the same rows before
    as_json: bool = False,
) -> None:
    "Train by a recipe and register what comes of it; Ctrl-C ends the training process."
    recipe = find_recipe(settings, recipe_name, epochs=epochs, dataset=dataset_version)
    chosen = None if recipe.dataset == "latest" else recipe.dataset
    dataset = load_dataset(settings.paths.training_data, chosen)
    note(f"{recipe.name} on {dataset.version} ({listed(dataset.splits)})")
    with progress("training") as tell:
        tell(0, None, "getting the weights ready …")
        watch = Watch(tell, recipe.epochs, as_json)
        try:
            run = train(settings, recipe, dataset, watch, again)
        except KeyboardInterrupt:
            name = watch.run.id if watch.run else "the run"
            note(f"\nStopped: the training process has ended; {name} made no adapter.", "yellow")
            raise
    if watch.run:
        track_run(run, recipe)
    version = register_run(settings, run, recipe, dataset)
    _tell_run(run, version, watch, as_json)


# %%
#| export
def _tell_run(run: Run, version: Version, watch: Watch, as_json: bool) -> None:
    "Print what came of a run."
    result, reused = run.result, watch.run is None
    if as_json:
        print_json({"event": "registered", "run": run.id, "version": version.name, "reused": reused,
                    "result": result})
        return
    if reused:
        note(f"The same recipe was trained on the same rows before: {run.id}. --again trains anew.")
    facts = {"run": run.id, "version": version.name, "rows": result["rows"],
             "time": clock(result["train_seconds"]),
             "speed": f"{result['tokens_per_second']:.0f} tokens/s",
             "memory": f"{result['peak_memory_gib']:.1f} GiB at most"}
    if watch.losses:
        facts["loss"] = f"{watch.losses[0]:.3f} → {watch.losses[-1]:.3f}"
    if result.get("dev_loss") is not None:
        facts["dev loss"] = f"{result['dev_loss']:.3f}"
    table(["", ""], list(facts.items()))
    note(f"Next: javis eval {version.name}")


# %% [markdown]
# ## Measuring
#
# Evaluations are kept beside each other, those of `javis demo` too. One counts as done when the
# requests, the words before them, the tools, the model and the adapter are still the same.

# %%
#| export
def find_suite(settings: Settings, name: str) -> Suite:
    "A suite of the project; raises `BadSuite`."
    return load_suite(settings.paths.suites / f"{name}.yaml", settings.root)


# %%
#| export
def find_version(
    settings: Settings,
    name: str | None,  # `base`, a version or an alias; None: the candidate, else what serves
) -> Version | None:  # None is the base model
    "The version that is meant; raises `RegistryError`."
    registry = Registry(settings.paths.registry)
    if name is None:
        aliases = registry.aliases()
        name = aliases["candidate"] or aliases["serving"] or "base"
    return None if name == "base" else registry.load(name)


# %%
with TemporaryDirectory() as folder:
    test_eq(find_version(load_settings(root=folder, env={}), None), None)


# %%
#| export
def known_evaluation(
    settings: Settings,
    suite: Suite,
    version: Version | None,
    toolbox: Toolbox,
) -> Evaluation | None:
    "The evaluation that is kept, if it was made under the conditions of today."
    asked = conditions(suite, system_for(settings, toolbox), toolbox)
    now = {"fingerprint": asked["fingerprint"], "model": model_name(settings), "complete": True,
           "adapter_sha256": sha256(version.gguf) if version else None}
    for path in (settings.paths.cache / "evaluations").glob("*/summary.json"):
        with suppress(OSError, ValueError, BadResults):
            summary = json.loads(path.read_text(encoding="utf-8"))
            if all(summary.get(key) == value for key, value in now.items()):
                return load_evaluation(path.parent)
    return None


# %% [markdown]
# The engine answers through the same door as in a chat, two requests at a time.

# %%
#| export
def evaluate(
    settings: Settings,
    suite: Suite,
    version: Version | None,  # None: the base model
    toolbox: Toolbox,
    tell: Callable[..., None] = lambda *args: None,  # of `progress`
) -> Evaluation:
    "Ask all requests of a suite, and keep what came of it."
    from javis.local import shared_engine
    endpoint, right = training_endpoint(settings), []
    name = version.name if version else None
    engine = shared_engine(endpoint.model, {name: version.gguf} if version else {},
                           context_length=endpoint.context_length)

    def told(done: int, of: int, result: Result) -> None:
        right.append(bool(result.right))
        tell(done, of, f"{sum(right)} right so far")
    found = asyncio.run(run_suite(
        suite, engine_asker(engine, name, suite.sampling), system=system_for(settings, toolbox),
        toolbox=toolbox, progress=told, about={"run_id": version.run_id} if version else None))
    key = json.dumps([found.about["fingerprint"], found.about["model"], name,
                      found.about["adapter_sha256"]])
    found.save(settings.paths.cache / "evaluations" / sha256(key)[:16])
    return found


# %%
#| export
def score_texts(evaluation: Evaluation) -> list[list[str]]:
    "A line for each measure: what it is, and right of how many with its 95 % interval."
    return [[label, str(evaluation.score(part))] for part, label in PART_LABELS.items()]


# %%
answers = [Result("1", "call", "en", "read_file", "show notes.txt", "", right=True, format=True,
                  right_tool=True, right_arguments=True),
           Result("2", "no_call", "en", None, "thanks", "", right=True)]
score_texts(Evaluation({"suite": "tools"}, answers))[:2]


# %%
#| export
def eval_version(
    settings: Settings,
    name: str | None = None,
    *,
    suite_name: str = "tools",
    again: bool = False,  # also when the kept evaluation is still good
    as_json: bool = False,
) -> None:
    "Measure a version or the base model, and compare it with what serves."
    suite, version = find_suite(settings, suite_name), find_version(settings, name)
    toolbox, who = default_toolbox(settings), version.name if version else "base"
    found = None if again else known_evaluation(settings, suite, version, toolbox)
    if found:
        note(f"{who} was measured before and nothing has changed. --again asks anew.")
    else:
        with progress(f"asking {who}") as tell:
            found = evaluate(settings, suite, version, toolbox, tell)
    if as_json:
        print_json(found.summary | {"who": who})
    else:
        _tell_evaluation(settings, suite, who, found, toolbox)


# %%
#| export
def _tell_evaluation(settings: Settings, suite: Suite, who: str, found: Evaluation,
                     toolbox: Toolbox) -> None:
    "Print an evaluation, and beside it what serves where that was measured too."
    serving = Registry(settings.paths.registry).serving()
    rival = serving.name if serving else "base"
    other = known_evaluation(settings, suite, serving, toolbox) if rival != who else None
    if other:
        tell_comparison(compare(other, found, (rival, who)))
    else:
        table([suite.name, who], score_texts(found))
    if found.errors:
        note(f"{len(found.errors)} requests failed and count nowhere, the first because: "
             f"{line(found.errors[0].error, 200)}", "yellow")
    if not other and rival != who:
        note(f"To compare it with what serves: javis eval {rival}, then this again")
    elif other and who != "base":
        note(f"Next: javis models promote {who} --why '...'")


# %%
#| export
def tell_comparison(comparison: Comparison) -> None:
    "Print two models side by side, and whether it could be chance."
    rows = [[row.label.partition(",")[0], str(row.base).partition(" (")[0],
             str(row.candidate).partition(" (")[0], row.texts[3].replace(" points", ""),
             row.texts[4]] for row in comparison.rows]
    table(["", *comparison.names, "points (95 %)", "p"], rows)
    say((f"Right calls are {comparison.verdict}", "bold"))
    for text in comparison.notes:
        note(text, "yellow")


# %% [markdown]
# ## Versions

# %%
#| export
def list_versions(settings: Settings, suite_name: str = "tools", as_json: bool = False) -> None:
    "Print all versions, and which one serves."
    registry = Registry(settings.paths.registry)
    names = {name: alias for alias, name in registry.aliases().items() if name}
    names["base"] = "" if "serving" in names.values() else "serving"
    score = _scorer(settings, suite_name)
    rows = [_version_row(version, names, score) for version in [None, *registry.versions()]]
    if as_json:
        for row in rows:
            print_json(row)
        return
    table(["version", "is", "dataset", "right calls", "no calls", "trained"],
          [[row["version"], row["alias"], row["dataset"], row["call"], row["no_call"],
            (row["created"] or "")[:10] or None] for row in rows])
    if len(rows) == 1:
        note("No version is trained yet. Next: javis train")


# %%
#| export
def _scorer(settings: Settings, suite_name: str) -> Callable[..., dict[str, str | None]]:
    "A function that gives the scores of a version, as far as it was measured."
    nothing = {"call": None, "no_call": None}
    if not (settings.paths.suites / f"{suite_name}.yaml").is_file():
        return lambda version: nothing
    suite, toolbox = find_suite(settings, suite_name), default_toolbox(settings)

    def scores(version: Version | None) -> dict[str, str | None]:
        found = known_evaluation(settings, suite, version, toolbox)
        return {part: str(found.score(part)).partition(":")[0] for part in nothing} if found \
            else nothing
    return scores


# %%
#| export
def _version_row(version: Version | None, names: dict[str, str],
                 scores: Callable[..., dict[str, str | None]]) -> dict[str, Any]:
    "What is known about a version, or about the base model."
    name = version.name if version else "base"
    row = {key: getattr(version, key, None) for key in ("dataset", "run_id", "created")}
    return {"version": name, "alias": names.get(name, "")} | row | scores(version)


# %%
with TemporaryDirectory() as folder:
    list_versions(load_settings(root=folder, env={}))


# %%
#| export
def gate_for(settings: Settings, version: Version, suite_name: str) -> Gate | None:
    "What the evaluations say of a version against what serves; None where one is missing."
    serving, toolbox = Registry(settings.paths.registry).serving(), default_toolbox(settings)
    suite = find_suite(settings, suite_name)
    base, candidate = (known_evaluation(settings, suite, one, toolbox) for one in (serving, version))
    return gate(base.summary, candidate.summary) if base and candidate else None


# %%
#| export
def promote(
    settings: Settings,
    name: str,
    why: str,
    *,
    suite_name: str = "tools",
    override: str | None = None,  # the reason for serving it in spite of the gate
    as_json: bool = False,
) -> None:
    "Let a version serve, if it is measurably better than what serves now."
    registry = Registry(settings.paths.registry)
    version = registry.resolve(name)
    found = gate_for(settings, version, suite_name)
    if found is None and not override:
        serving = registry.serving()
        raise ConfigError(f"{version.name} was not compared with what serves. First: javis eval "
                          f"{serving.name if serving else 'base'}, then: javis eval {version.name}")
    version = registry.promote(name, why, found, override=override)
    if as_json:
        print_json({"serving": version.name, "why": why, "gate": found.reasons if found else None})
        return
    say((version.name, "bold green"), " serves now")
    for reason in found.reasons if found else []:
        note(f"  {reason}")
    note('Next: javis ask "..." is answered by it. javis models rollback goes back.')


# %%
with TemporaryDirectory() as folder:
    settings = load_settings(root=folder, env={})
    test_fail(lambda: promote(settings, "v0.1", "better"), contains="There is no version 'v0.1'")


# %%
#| export
def roll_back(settings: Settings, why: str, as_json: bool = False) -> None:
    "Serve what served before."
    version = Registry(settings.paths.registry).rollback(why)
    name = version.name if version else "the base model"
    if as_json:
        print_json({"serving": version.name if version else None, "why": why})
    else:
        say((name, "bold"), " serves again")
