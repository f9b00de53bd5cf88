"PEFT adapters that can be converted, those that must be refused, and weights out of a GGUF file."
import json
import threading

import numpy as np
import pytest

from javis import weights
from javis.basics import JavisError, sha256
from javis.models import AdapterError, check_adapter, find_model, read_gguf
from javis.weights import convert_adapter, dequantise

pytest.importorskip("gguf")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
MODEL = "smollm2-135m-instruct"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
CONFIG = dict(peft_type="LORA", r=4, lora_alpha=8, bias="none", target_modules=["q_proj"],
              layers_to_transform=[0], init_lora_weights=True, use_dora=False, modules_to_save=None)
RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(size=(4, 576)).astype("f4"), RANDOM.normal(size=(576, 4)).astype("f4")
MATRICES = {f"{LAYER}A.weight": A, f"{LAYER}B.weight": B}


@pytest.fixture(scope="module")
def model():
    return read_gguf(find_model(MODEL))


def save(folder, matrices=MATRICES, **config):
    "An adapter in the format of PEFT."
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    safetensors_numpy.save_file({k: np.ascontiguousarray(v) for k, v in matrices.items()},
                                folder / "adapter_model.safetensors")
    return folder


def read_back(path):
    "The tensors of a GGUF adapter and the number by which llama.cpp multiplies B·A."
    import gguf
    reader = gguf.GGUFReader(path)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    return {t.name: np.array(t.data) for t in reader.tensors}, alpha


def test_what_is_written(tmp_path, model):
    path = convert_adapter(save(tmp_path / "peft"), MODEL, tmp_path / "new" / "a.gguf")
    tensors, alpha = read_back(path)
    assert alpha == 8 and np.array_equal(tensors["blk.0.attn_q.weight.lora_a"], A)
    b = tensors["blk.0.attn_q.weight.lora_b"]
    for head in range(9):  # llama.cpp has the two halves of a head's rows in turn
        assert np.array_equal(b[head * 64:head * 64 + 64:2], B[head * 64:head * 64 + 32])
        assert np.array_equal(b[head * 64 + 1:head * 64 + 64:2], B[head * 64 + 32:head * 64 + 64])
    said = check_adapter(path, model).metadata
    assert said["javis.weights_sha256"] == sha256(tmp_path / "peft" / "adapter_model.safetensors")
    assert said["javis.config_sha256"] == sha256(tmp_path / "peft" / "adapter_config.json")
    assert said["javis.base_sha256"] == sha256(model.path)
    assert [p.name for p in path.parent.iterdir()] == ["a.gguf"]


def test_the_same_adapter_makes_the_same_file(tmp_path):
    peft = save(tmp_path / "peft")
    files = [convert_adapter(peft, MODEL, tmp_path / name).read_bytes() for name in ("a.gguf", "b.gguf")]
    assert files[0] == files[1]


@pytest.mark.parametrize("layer, heads", [("v_proj", 0), ("k_proj", 3)])
def test_only_queries_and_keys_are_shuffled(tmp_path, layer, heads):
    b = RANDOM.normal(size=(192, 4)).astype("f4")
    name = LAYER.replace("q_proj", layer)
    peft = save(tmp_path / "peft", {f"{name}A.weight": A, f"{name}B.weight": b}, target_modules=[layer])
    tensors, _ = read_back(convert_adapter(peft, MODEL, tmp_path / "a.gguf"))
    written = tensors[f"blk.0.attn_{layer[0]}.weight.lora_b"]
    assert np.array_equal(written, b) == (heads == 0)
    assert np.array_equal(np.sort(written, axis=0), np.sort(b, axis=0))


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_is_read_exactly(tmp_path, kind):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    dtype = torch.float16 if kind == "F16" else torch.bfloat16
    half = {name: torch.from_numpy(array).to(dtype) for name, array in MATRICES.items()}
    peft = save(tmp_path / "peft")
    save_file(half, peft / "adapter_model.safetensors")
    tensors, _ = read_back(convert_adapter(peft, MODEL, tmp_path / "a.gguf"))
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_a"], half[f"{LAYER}A.weight"].float().numpy())


@pytest.mark.parametrize("config, strength", [
    ({}, 8 / 4), ({"use_rslora": True}, 8 / 2), ({"alpha_pattern": {"q_proj": 20}}, 20 / 4),
    ({"alpha_pattern": {r"model.layers.\d+.self_attn.q_proj": 2}}, 2 / 4),
    ({"alpha_pattern": {"k_proj": 20}}, 8 / 4),
    ({"alpha_pattern": {"q_proj": 20}, "use_rslora": True}, 20 / 2),
    ({"r": 16, "rank_pattern": {"q_proj": 4}}, 8 / 4),
    ({"r": 16, "rank_pattern": {"q_proj": 4}, "use_rslora": True}, 8 / 2),
])
def test_its_strength_is_that_of_peft(tmp_path, config, strength):
    path = convert_adapter(save(tmp_path / "peft", **config), MODEL, tmp_path / "a.gguf")
    tensors, alpha = read_back(path)
    b = tensors["blk.0.attn_q.weight.lora_b"]
    assert np.allclose(np.sort(b * alpha / 4, axis=0), np.sort(B * strength, axis=0), rtol=1e-6)


@pytest.mark.parametrize("config, says", [
    (dict(use_dora=True), "use_dora"), (dict(modules_to_save=["lm_head"]), "modules_to_save"),
    (dict(trainable_token_indices=[1]), "trainable_token_indices"), (dict(lora_bias=True), "lora_bias"),
    (dict(bias="all"), "trained biases"), (dict(peft_type="LOHA"), "LOHA, not LORA"),
    (dict(fan_in_fan_out=True), "fan_in_fan_out"), (dict(layer_replication=[[0, 2]]), "layer_replication"),
    (dict(init_lora_weights="pissa"), "pissa"), (dict(init_lora_weights="olora"), "olora"),
    (dict(r=None), "no r"), (dict(lora_alpha=0), "no lora_alpha"), (dict(r=8), "rank 8"),
    (dict(target_modules=["q_proj", "v_proj"]), "v_proj.lora_A.weight is missing"),
    (dict(layers_to_transform=None), r"layers.1.self_attn.q_proj.lora_A.weight is missing"),
    (dict(target_modules=["v_proj"]), "q_proj.lora_A.weight is no LoRA matrix"),
    (dict(exclude_modules=["q_proj"]), "is no LoRA matrix"),
    (dict(layers_to_transform=[31]), "is no LoRA matrix"),
])
def test_configs_that_are_refused(tmp_path, config, says):
    with pytest.raises(AdapterError, match=says):
        convert_adapter(save(tmp_path / "peft", **config), MODEL, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize("targets", ["q_proj", r".*\.layers\.0\.self_attn\.q_proj", ["self_attn.q_proj"],
                                     ["model.layers.0.self_attn.q_proj"], ["q_proj"]])
def test_targets_are_read_as_peft_does(tmp_path, targets):
    peft = save(tmp_path / "peft", target_modules=targets)
    if targets == "q_proj":  # a text is a pattern for the whole name
        with pytest.raises(AdapterError):
            convert_adapter(peft, MODEL, tmp_path / "a.gguf")
    else:
        convert_adapter(peft, MODEL, tmp_path / "a.gguf")


def changed(**matrices):
    return {k: v for k, v in (MATRICES | {f"{LAYER}{s}.weight": m for s, m in matrices.items()}).items()
            if v is not None}


@pytest.mark.parametrize("matrices, says", [
    (changed(A=None), "lora_A.weight is missing"), (changed(B=None), "lora_B.weight is missing"),
    (changed(A=A[:, :500]), r"has A \(4, 500\)"), (changed(B=B[:192]), r"B \(192, 4\)"),
    (changed(A=A[:3]), r"has A \(3, 576\)"), (changed(A=A.ravel()), r"has A \(2304,\)"),
    (changed(A=A * np.nan), "not finite"), (changed(B=B * np.inf), "not finite"),
    (changed(B=B * 0), "every B is zero"),
    (changed(magnitude=A[0]), "is no LoRA matrix"),
    (changed(A=A.astype("i4")), "damaged or no LoRA"),
    (MATRICES | {"base_model.model.lm_head.weight": A}, "lm_head.weight is no LoRA matrix"),
    (MATRICES | {"base_model.model.lm_head.lora_A.weight": A}, "lm_head"),
    ({}, "is missing"),
])
def test_matrices_that_are_refused(tmp_path, matrices, says):
    with pytest.raises(AdapterError, match=says):
        convert_adapter(save(tmp_path / "peft", matrices), MODEL, tmp_path / "a.gguf")


@pytest.mark.parametrize("name, content, says", [
    ("adapter_config.json", b"{", "damaged"), ("adapter_config.json", b"[]", "no mapping"),
    ("adapter_config.json", b"\xff\xfe", "damaged"), ("adapter_config.json", None, "no adapter_config"),
    ("adapter_model.safetensors", None, "no adapter_model.safetensors"),
    ("adapter_model.safetensors", b"", "damaged"), ("adapter_model.safetensors", b"\xff" * 99, "damaged"),
    ("adapter_model.safetensors", "half", "damaged"),
])
def test_damaged_folders_are_refused_and_the_earlier_file_stays(tmp_path, name, content, says):
    peft = save(tmp_path / "peft")
    before = convert_adapter(peft, MODEL, tmp_path / "a.gguf").read_bytes()
    if content == "half":
        content = (peft / name).read_bytes()[:9000]
    (peft / name).unlink() if content is None else (peft / name).write_bytes(content)
    with pytest.raises(AdapterError, match=says):
        convert_adapter(peft, MODEL, tmp_path / "a.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == before


def test_a_kind_of_model_that_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_SHUFFLED", {"qwen2": False})
    with pytest.raises(AdapterError, match="llama models are not known here.*qwen2"):
        convert_adapter(save(tmp_path / "peft"), MODEL, tmp_path / "a.gguf")


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    peft, out = save(tmp_path / "peft"), tmp_path / "out" / "a.gguf"
    before = convert_adapter(peft, MODEL, out).read_bytes()

    def full(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "_write_gguf", full)
    with pytest.raises(JavisError, match="No space left on device.*Free some space"):
        convert_adapter(peft, MODEL, out)
    assert out.read_bytes() == before and [p.name for p in out.parent.iterdir()] == ["a.gguf"]


def test_a_stop_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    def stopped(path, *_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_write_gguf", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert_adapter(save(tmp_path / "peft"), MODEL, tmp_path / "out" / "a.gguf")
    assert list((tmp_path / "out").iterdir()) == []


# The folder for training, without the seconds that the real weights take


@pytest.fixture
def fake_save(monkeypatch):
    "Stands in for `_save_plain`; counts its calls."
    calls = []

    def save_plain(source, folder, marker):
        calls.append(source)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / weights._MARKER).write_text(json.dumps(marker))

    monkeypatch.setattr(weights, "_save_plain", save_plain)
    return calls


def test_weights_are_made_once(tmp_path, fake_save):
    for _ in range(2):
        assert dequantise(MODEL, tmp_path / "sub" / "w") == tmp_path / "sub" / "w"
    assert len(fake_save) == 1
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["w"]


def test_weights_of_another_model_are_replaced(tmp_path, fake_save):
    dequantise(MODEL, tmp_path / "w")
    (tmp_path / "w" / weights._MARKER).write_text(json.dumps({"gguf_sha256": "other", "recipe": 1}))
    (tmp_path / "w" / "old").write_text("x")
    dequantise(MODEL, tmp_path / "w")
    assert len(fake_save) == 2 and not (tmp_path / "w" / "old").exists()


def test_a_folder_that_was_not_made_here_is_left_alone(tmp_path, fake_save):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("x")
    with pytest.raises(JavisError, match="was not made here"):
        dequantise(MODEL, tmp_path / "w")
    assert fake_save == [] and (tmp_path / "w" / "thesis.txt").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_weights_that_could_not_be_written_leave_nothing(tmp_path, monkeypatch, error):
    def fails(source, folder, marker):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(weights, "_save_plain", fails)
    with pytest.raises((JavisError, KeyboardInterrupt)):
        dequantise(MODEL, tmp_path / "sub" / "w")
    assert list((tmp_path / "sub").iterdir()) == []


def test_two_that_want_the_same_weights(tmp_path, fake_save, monkeypatch):
    meet, save_plain = threading.Barrier(2), weights._save_plain

    def together(source, folder, marker):
        save_plain(source, folder, marker)
        meet.wait(10)  # both have written before either puts it in its place

    monkeypatch.setattr(weights, "_save_plain", together)
    results = []
    threads = [threading.Thread(target=lambda: results.append(dequantise(MODEL, tmp_path / "w")))
               for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "w"] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("config", [
    dict(lora_alpha="x"), dict(lora_alpha=[8]), dict(target_modules="("), dict(target_modules=5),
    dict(layers_to_transform="a"), dict(alpha_pattern=[1]), dict(alpha_pattern={"(": 1}),
    dict(alpha_pattern={"q_proj": "x"}), dict(exclude_modules=7)], ids=str)
def test_a_damaged_config_is_named(tmp_path, config):
    with pytest.raises(AdapterError, match="its adapter_config.json is damaged"):
        convert_adapter(save(tmp_path / "peft", **config), MODEL, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()
