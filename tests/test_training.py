"""Training for real: Unsloth, the embedded model, a process of its own.

The runs here have a handful of rows and steps. They show that a run is whole or absent, not that it teaches much;
how much it teaches is what `make demo` measures.
"""
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from javis.basics import JavisError, MissingExtra, sha256
from javis.config import load_settings
from javis.demo import read_lessons
from javis.training.preflight import PreflightError
from javis.training.recipes import Lora, Recipe
from javis.training import trainer
from javis.training.runs import (
    Run, _child_environment, finished_twin, prepare_run, running_twin, runs, start_run, train)
from javis.training.tracking import TrackingError, track
from javis.training.trainer import TrainingFailed, arrange, shared_prefix

torch = pytest.importorskip("torch")

RECIPE = Recipe(name="tiny", epochs=1, batch_size=6, learning_rate=2e-3, warmup_steps=0, prose_tokens=12,
                lora=Lora(rank=4, alpha=8, targets=["gate_proj", "down_proj"], layers=6))
SYSTEM = "You are JAVIS, a developer's assistant. " * 8  # long enough to be worth sharing


def rows(count, path):
    return [{"id": lesson.id, "lang": lesson.lang, "kind": "call" if lesson.tool else "prose", "messages": [
        {"role": "system", "content": SYSTEM}, {"role": "user", "content": lesson.request},
        {"role": "assistant", "content": lesson.wanted}]} for lesson in read_lessons(path)[:count]]


def dataset(folder, some):
    folder.mkdir(exist_ok=True)
    for name, part in (("train", some[2:]), ("dev", some[:2])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return SimpleNamespace(version="v0.1", sha256=sha256(json.dumps(some)), folder=folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return load_settings(root=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def seed():
    return load_settings().paths.seed / "corrections.jsonl"


@pytest.fixture(scope="module")
def finished(home, seed):
    events = []
    data = dataset(home.root / "data-v0.1", rows(26, seed))
    run = train(home, RECIPE, data, lambda run, event: events.append(event))
    return SimpleNamespace(run=run, data=data, events=events)


def test_a_run_tells_what_it_does_and_what_made_it(finished):
    steps = [event for event in finished.events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, len(steps) + 1)) and len(steps) >= 4
    assert steps[-1]["of"] == len(steps) and steps[-1]["epoch"] == 1 and all(e["loss"] > 0 for e in steps)
    result = finished.run.result
    assert result["status"] == "done" and result["rows"] == 24 and result["dev_loss"] > 0
    assert 0 < result["trained_tokens"] < result["tokens"] and result["peak_memory_gib"] < 6
    manifest = json.loads((finished.run.folder / "manifest.json").read_text())
    assert manifest["adapter_sha"] == result["adapter_sha"] and manifest["libraries"]["unsloth"]
    assert "<mark>" in (finished.run.folder / "preflight.html").read_text(encoding="utf-8")


def test_the_adapter_is_where_the_recipe_says(finished):
    from safetensors.torch import load_file
    weights = load_file(finished.run.adapter / "adapter_model.safetensors")
    blocks = {int(name.split(".layers.")[1].split(".")[0]) for name in weights}
    assert blocks == set(range(24, 30)) and {name.split(".")[-3] for name in weights} == {"gate_proj", "down_proj"}
    assert any(value.abs().sum() > 0 for name, value in weights.items() if "lora_B" in name)


def test_the_engine_takes_it(finished, tmp_path):
    from javis.models import find_model
    from javis.weights import convert_adapter
    assert convert_adapter(finished.run.adapter, find_model(RECIPE.base), tmp_path / "adapter.gguf")
    assert (tmp_path / "adapter.gguf").read_bytes()[:4] == b"GGUF"


def test_the_same_again_is_not_trained_twice(home, finished):
    assert train(home, RECIPE, finished.data).id == finished.run.id
    (finished.run.adapter / "adapter_model.safetensors").rename(finished.run.folder / "kept")
    try:
        with pytest.raises(KeyboardInterrupt):  # it would train again: the adapter is gone
            train(home, RECIPE, finished.data, interrupt)
    finally:
        (finished.run.folder / "kept").rename(finished.run.adapter / "adapter_model.safetensors")


def test_what_is_trained_already_is_joined(home, finished):
    going, events = start_run(prepare_run(home, RECIPE, finished.data, again=True)), []
    run = train(home, RECIPE, finished.data, lambda run, event: events.append(event["event"]))
    assert run == going and run.status == "done" and (run.folder / "manifest.json").is_file()
    assert events[0] == "joined" and events.count("joined") == 1 and {"loading", "step", "done"} <= set(events)


def interrupt(run, event):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_no_process_and_no_half_adapter(home, finished):
    with pytest.raises(KeyboardInterrupt):
        train(home, RECIPE, finished.data, lambda run, event: event["event"] == "step" and interrupt(run, event),
              again=True)
    run = runs(home)[0]
    assert run.status == "stopped" and not run.adapter.exists()
    assert not psutil.pid_exists(json.loads((run.folder / "process.json").read_text())["pid"])


def test_a_run_that_takes_too_long_says_what_to_change(home, finished):
    brief = RECIPE.model_copy(update={"max_minutes": 0.001, "seed": 1})
    with pytest.raises(TrainingFailed, match=r"max_minutes \(0.001\).*Raise it in the recipe"):
        train(home, brief, finished.data)
    assert runs(home)[0].status == "failed" and not runs(home)[0].adapter.exists()


def test_rows_that_teach_nothing_start_nothing(home, seed, tmp_path):
    broken = rows(6, seed)
    broken[4]["messages"][-1]["content"] = " "
    before = len(runs(home))
    with pytest.raises(PreflightError, match=f"Row {broken[4]['id']} has nothing to learn"):
        train(home, RECIPE, dataset(tmp_path / "data", broken))
    with pytest.raises(PreflightError, match="no training rows"):
        train(home, RECIPE, dataset(tmp_path / "data", []))
    assert len(runs(home)) == before


def test_batches_hold_calls_and_words_together(seed):
    lessons = read_lessons(seed)
    sizes = [(len(lesson.request), len(lesson.request) + (90 if lesson.tool else 30)) for lesson in lessons]
    batches = arrange(sizes, 16, 10_000, 1, seed=0)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lessons)))
    both = [len({lessons[row].tool is None for row in batch}) == 2 for batch in batches]
    assert sum(both) > 0.9 * len(both)


def test_a_shared_prefix_changes_neither_loss_nor_gradient(tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                                        num_attention_heads=4, num_key_value_heads=2, attn_implementation="eager"))
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"],
                                            init_lora_weights=False)).train()
    ids = torch.cat([torch.randint(5, 99, (1, 40)).expand(3, -1), torch.randint(5, 99, (3, 12))], 1)
    labels = torch.where(torch.arange(52) < 45, -100, ids)
    mask = torch.ones_like(ids)
    mask[1, 48:], labels[1, 48:] = 0, -100
    found = []
    for kind in (Trainer, shared_prefix(Trainer), shared_prefix(Trainer, gradient=False)):
        trainer = kind(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
        model.zero_grad()
        loss = trainer.compute_loss(model, dict(input_ids=ids, labels=labels, attention_mask=mask))
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]))
    (loss, grads), (shared_loss, shared_grads), (frozen_loss, frozen_grads) = found
    torch.testing.assert_close([shared_loss, frozen_loss], [loss, loss])
    torch.testing.assert_close(shared_grads, grads, rtol=1e-4, atol=1e-6)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(*(torch.cat([g.flatten() for g in of]) for of in (frozen_grads, grads)), dim=0) > 0.5
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(frozen_grads, grads))


def made(settings, name="r1", **files):
    "A run by hand: each of its files as an object, or as the text itself."
    folder = settings.paths.runs / name
    folder.mkdir(parents=True)
    for stem, content in {"job": {"recipe": {"recipe_sha": "r", "dataset_sha": "d"}}, **files}.items():
        (folder / f"{stem}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return Run(folder)


def test_a_run_that_ends_between_two_looks_is_not_lost(tmp_path, monkeypatch):
    run = made(load_settings(root=tmp_path, env={}), process={"pid": 999_999_999, "created": 0})
    assert run.status == "lost"

    def ended(process):
        (run.folder / "result.json").write_text('{"status": "done"}')
        return False
    monkeypatch.setattr("javis.training.runs._alive", ended)
    assert run.status == "done"


def test_a_damaged_run_is_passed_over_and_named_where_it_is_asked_for(tmp_path):
    settings, same = load_settings(root=tmp_path, env={}), {"recipe_sha": "r", "dataset_sha": "d"}
    broken = [made(settings, "r1", job=""), made(settings, "r2", result=""), made(settings, "r3", job="[1]")]
    assert finished_twin(settings, same) is None and running_twin(settings, same) is None
    for run in broken:
        with pytest.raises(JavisError, match=rf"{run.id}.*\.json is damaged .*Remove the folder"):
            run.job and run.status
    whole = made(settings, "r4", result={"status": "done", "adapter_sha": sha256("weights")})
    whole.adapter.mkdir()
    (whole.adapter / "adapter_model.safetensors").write_text("weights")
    assert finished_twin(settings, same) == whole


def test_a_run_that_goes_on_is_found(tmp_path):
    settings, same = load_settings(root=tmp_path, env={}), {"recipe_sha": "r", "dataset_sha": "d"}
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}
    run = made(settings, process=process)
    assert running_twin(settings, same) == run and running_twin(settings, same | {"recipe_sha": "x"}) is None
    child.kill()
    child.communicate()
    assert running_twin(settings, same) is None


def test_the_training_process_gets_no_secrets_and_what_windows_needs(monkeypatch):
    needed = "USERPROFILE USERNAME LOCALAPPDATA APPDATA COMSPEC PATHEXT SYSTEMDRIVE".split()
    for name in [*needed, "OPENAI_API_KEY"]:
        monkeypatch.setitem(os.environ, name, "x")
    found = _child_environment()
    assert set(needed) <= found.keys() and "OPENAI_API_KEY" not in found


def test_without_unsloth_the_message_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", None)
    with pytest.raises(MissingExtra, match=r"--no-deps unsloth==\S+ unsloth_zoo==\S+"):
        trainer._load_model({})


def test_a_full_disk_is_no_fault_of_the_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    run = made(load_settings(root=tmp_path, env={}), job={"recipe": {}, "dataset": "v0.1"})

    def full(**_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(wandb, "init", full)
    with pytest.raises(TrackingError, match="No space left on device.*Free some space"):
        track(run)
