"Versions: what is in them, that they never change, and that their split never leaks."
import json
import os
import random
import subprocess
import sys

import duckdb
import pytest

from javis.config import JavisError
from javis.curation import Curation
from javis.datasets import (
    DatasetCorrupt, DatasetMissing, EmptyDataset, build_dataset, content_hash, dataset_versions,
    load_dataset)
from javis.feedback import correct, rate
from javis.similarity import near_pairs
from javis.store import Store

WORDS = ("amber basil cedar delta ember flint grove haven iris jade kelp lotus maple nylon opal pearl "
         "quartz river sable tulip umber velvet willow xenon yarrow zinc").split()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        yield store


@pytest.fixture
def curation(tmp_path):
    return Curation(tmp_path / "curation.duckdb", embed=None)


def teach(store, request, target=None):
    thread = store.new_thread()
    question = store.add_message(thread, "user", request)
    answer = store.add_message(thread, "assistant", "Hm.", parent_id=question)
    if target is None:
        rate(store, answer, up=True)
    else:
        correct(store, answer, text=target)
    return answer


def phrase(i):
    return " ".join(random.Random(i).sample(WORDS, 4))


def grow(store, curation, numbers):
    for i in numbers:
        teach(store, phrase(i), f"answer {i}")
    curation.collect(store)
    curation.accept()


def build(curation, folder, **more):
    return build_dataset(curation, folder, **dict(system="You are JAVIS.", **more))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "it's/training"  # a quote, for SQL


def test_a_version_holds_what_was_accepted(store, curation, folder):
    call = '<tool_call>{"name": "read_file", "arguments": {"path": "문서.md"}}</tool_call>'
    teach(store, "문서.md 보여줘", call)
    grow(store, curation, range(20))
    dataset = build(curation, folder, dev_fraction=0.3)
    assert dataset.version == "v0.1" and dataset.parent is None
    assert sum(dataset.splits.values()) == 21 == len(dataset.rows())
    [row] = [row for row in dataset.rows() if row["kind"] == "call"]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][2]["content"] == call  # the arguments are text, to the letter
    assert (row["tool"], row["lang"]) == ("read_file", "ko") and len(row["source_message_ids"]) == 1
    assert dataset.counts["langs"] == {"en": 20, "ko": 1}


def test_parquet_and_jsonl_agree(store, curation, folder):
    grow(store, curation, range(12))
    dataset = build(curation, folder)
    for split in ("train", "dev"):
        with duckdb.connect() as database:
            path = str(dataset.folder / f"{split}.parquet")
            found = database.execute("FROM read_parquet(?)", [path])
            names = [column[0] for column in found.description]
            assert [dict(zip(names, row)) for row in found.fetchall()] == [
                {name: row[name] for name in names} for row in dataset.rows(split)]


def test_jsonl_is_canonical(store, curation, folder):
    teach(store, "line \u2028 separator cafe\u0301", "ok\nok")
    grow(store, curation, range(5))
    dataset = build(curation, folder)
    for split in dataset.splits:
        raw = (dataset.folder / f"{split}.jsonl").read_bytes()
        assert b"\r" not in raw and raw.endswith(b"\n")
        rows = [json.loads(line) for line in raw.decode().split("\n")[:-1]]
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        assert all(list(row) == sorted(row) for row in rows)
    assert any("café" in row["messages"][1]["content"] for row in dataset.rows())
    assert load_dataset(folder) == dataset


def test_the_same_content_is_the_same_version(store, curation, folder, tmp_path):
    grow(store, curation, range(10))
    first = build(curation, folder)
    grow(store, curation, range(10))  # the same, said again: more sources, nothing else
    assert build(curation, folder).unchanged and dataset_versions(folder) == ["v0.1"]
    assert any(len(row.message_ids) == 2 for row in curation.candidates())
    with Store(tmp_path / "other.db") as other:  # somebody else's store, in another order
        elsewhere = Curation(tmp_path / "other.duckdb", embed=None)
        grow(other, elsewhere, reversed(range(10)))
        assert build(elsewhere, tmp_path / "elsewhere").sha256 == first.sha256


def test_another_prompt_answer_or_split_is_another_version(store, curation, folder):
    grow(store, curation, range(10))
    first = build(curation, folder)
    second = build_dataset(curation, folder, system="You are somebody else.")
    assert (second.version, second.parent, second.unchanged) == ("v0.2", "v0.1", False)
    rows = first.rows()
    splits = [{"train": rows[:9], "dev": rows[9:]}, {"train": rows[1:], "dev": rows[:1]}]
    assert content_hash(splits[0]) != content_hash(splits[1])
    third = build(curation, folder)  # and back: the newest is what will be trained on
    assert (third.version, third.sha256) == ("v0.3", first.sha256)


def test_the_split_is_stable_as_data_grow(store, curation, folder):
    before = {}
    for start, end in ((0, 8), (8, 20), (20, 60)):
        grow(store, curation, range(start, end))
        dataset = build(curation, folder, dev_fraction=0.2)
        now = {row["id"]: split for split in dataset.splits for row in dataset.rows(split)}
        assert {id: split for id, split in before.items() if split == "dev"}.items() <= now.items()
        moved = [id for id in before if before[id] != now[id]]
        joined = {row["cluster"] for row in dataset.rows("dev")}
        assert all(row["cluster"] in joined for row in dataset.rows() if row["id"] in moved)
        before = now
    assert min(dataset.splits.values()) > 5


def test_no_near_duplicate_crosses_the_split(store, curation, folder):
    for i in range(60):
        teach(store, phrase(i % 20) + " " + WORDS[i // 20], f"answer {i}")
    curation.collect(store)
    curation.accept()
    dataset = build(curation, folder, dev_fraction=0.3)
    sides = [[row["messages"][1]["content"] for row in dataset.rows(split)]
             for split in ("train", "dev")]
    assert all(sides) and near_pairs(*sides) == []


def test_what_was_dev_never_becomes_train_even_corrected_again(store, curation, folder):
    answers = {phrase(i): teach(store, phrase(i), f"answer {i}") for i in range(12)}
    curation.collect(store)
    curation.accept()
    first = build(curation, folder, dev_fraction=0.2)
    requests = {row["messages"][1]["content"] for row in first.rows("dev")}
    for request in requests:
        correct(store, answers[request], text="a better answer")
    curation.collect(store)
    curation.accept()
    second = build(curation, folder, dev_fraction=0.2, seed=99)
    assert requests <= {row["messages"][1]["content"] for row in second.rows("dev")}
    assert not {row["id"] for row in first.rows("dev")} & {row["id"] for row in second.rows()}
    stats = json.loads((second.folder / "stats.json").read_text(encoding="utf-8"))
    assert stats["difference"]["corrected"] == len(requests)


def test_small_and_extreme_splits(store, curation, folder, tmp_path):
    grow(store, curation, range(1))
    assert build(curation, folder).splits == {"train": 1, "dev": 0}
    grow(store, curation, range(2, 6))
    dataset = build(curation, folder)
    assert min(dataset.splits.values()) >= 1
    assert build(curation, tmp_path / "none", dev_fraction=0).splits["dev"] == 0
    most = build(curation, tmp_path / "most", dev_fraction=1)
    assert most.splits["train"] == 1
    train = most.rows("train")[0]["id"]
    curation.reject([train], "for the test")
    with pytest.raises(EmptyDataset, match="nothing to train on"):
        build(curation, tmp_path / "most", dev_fraction=1)


def test_nothing_accepted_says_what_waits(store, curation, folder):
    with pytest.raises(EmptyDataset, match="no rows at all.*Rate or correct"):
        build(curation, folder)
    teach(store, "a request", "an answer")
    curation.collect(store)
    with pytest.raises(EmptyDataset, match="1 candidate"):
        build(curation, folder)
    assert not folder.exists()


def test_rows_collected_after_the_comparison_are_compared_too(store, curation, folder):
    grow(store, curation, range(6))
    curation.exclude_near(["how full is my disk"])
    teach(store, "how full is my drive", "an answer")
    curation.collect(store)
    curation.accept()
    dataset = build(curation, folder)
    assert "how full is my drive" not in {row["messages"][1]["content"] for row in dataset.rows()}
    assert "| near a held-out request | 1 |" in dataset.card
    manifest = json.loads((dataset.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["heldout"]["requests"] == 1 and manifest["parent"] is None
    assert manifest["query"].startswith("SELECT") and manifest["seed"] == 0


def test_the_card_says_what_is_in_it_and_what_is_not(store, curation, folder, tmp_path):
    guide = tmp_path / "GUIDE.md"
    guide.write_text("label well", encoding="utf-8")
    grow(store, curation, range(10))
    teach(store, "leak", "hf_AbcdefghijklmNopqrstuvwx9")
    curation.collect(store)
    curation.reject([curation.candidates("accepted")[0].id], "boring")
    build(curation, folder, guide=guide, purpose="To test.", licence="CC0")
    grow(store, curation, range(10, 14))
    card = build(curation, folder, guide=guide, purpose="To test.", licence="CC0").card
    for text in ("# Training data v0.2", "To test.", "licence CC0", "| boring | 1 |",
                 "| something is, or looks like, a key or a password | 1 |", "Since v0.1: 4 added",
                 "with no held-out requests", "found by letters, not by meaning"):
        assert text in card
    assert "hf_Abc" not in card
    with pytest.raises(JavisError, match="no guideline"):
        build(curation, folder, guide=tmp_path / "missing.md")


@pytest.mark.parametrize("name", ["train.jsonl", "dev.jsonl", "train.parquet", "dev.parquet"])
def test_a_touched_or_missing_file_is_named(store, curation, folder, name):
    grow(store, curation, range(8))
    dataset = build(curation, folder)
    path = dataset.folder / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"answer", b"ANSWER", 1) + b" ")
    with pytest.raises(DatasetCorrupt, match=name):
        load_dataset(folder)
    path.unlink()
    with pytest.raises(DatasetCorrupt, match=name):
        build(curation, folder)
    path.write_bytes(content)
    assert load_dataset(folder) == dataset


@pytest.mark.parametrize("text, message", [
    ("{", "cannot be read"), ("[]", "is not a manifest"), (None, "cannot be read")])
def test_a_broken_manifest_is_named(store, curation, folder, text, message):
    grow(store, curation, range(4))
    path = build(curation, folder).folder / "manifest.json"
    path.write_text(text) if text else path.unlink()
    with pytest.raises(DatasetCorrupt, match=f"manifest.json.*{message}"):
        load_dataset(folder, "v0.1")


def test_a_manifest_of_other_rows_is_noticed(store, curation, folder):
    grow(store, curation, range(4))
    path = build(curation, folder).folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(DatasetCorrupt, match="does not belong"):
        load_dataset(folder)


def test_missing_versions_name_those_that_are_there(store, curation, folder):
    with pytest.raises(DatasetMissing, match="no dataset yet"):
        load_dataset(folder)
    grow(store, curation, range(4))
    build(curation, folder)
    with pytest.raises(DatasetMissing, match="v0.9.*There are: v0.1"):
        load_dataset(folder, "v0.9")


def test_versions_sort_by_number_and_strangers_are_ignored(folder):
    for name in ("v0.10", "v0.9", "v1.0", "vx", "v0.1.bak", ".building-1"):
        (folder / name).mkdir(parents=True)
    assert dataset_versions(folder) == ["v0.9", "v0.10", "v1.0"]
    assert dataset_versions(folder / "nowhere") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["_write_parquet", "dataset_card"])
def test_an_interrupted_build_leaves_nothing(store, curation, folder, monkeypatch, error, where):
    grow(store, curation, range(4))
    first = build(curation, folder)
    grow(store, curation, range(4, 8))

    def fail(*arguments):
        raise error
    with monkeypatch.context() as patch:
        patch.setattr(f"javis.datasets.{where}", fail)
        with pytest.raises((KeyboardInterrupt, JavisError)):
            build(curation, folder)
    assert os.listdir(folder) == ["v0.1"] and load_dataset(folder) == first
    assert build(curation, folder).version == "v0.2"


def test_a_folder_that_cannot_be_made_is_an_error_for_people(store, curation, tmp_path):
    grow(store, curation, range(4))
    (tmp_path / "file").write_text("")
    with pytest.raises(JavisError, match="no dataset could be built"):
        build(curation, tmp_path / "file" / "training")


def test_the_import_is_light():
    code = ("import sys, javis.datasets; heavy = {'duckdb', 'torch', 'numpy', 'pandas', 'IPython'}; "
            "sys.exit(bool(heavy & sys.modules.keys()))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_row_that_is_rejected_again_makes_a_version_and_not_an_old_one(store, curation, tmp_path):
    grow(store, curation, range(6))
    first = build(curation, tmp_path / "d")
    grow(store, curation, [6])
    build(curation, tmp_path / "d")
    curation.reject([row.id for row in curation.candidates() if row.request == phrase(6)], "wrong")
    third = build(curation, tmp_path / "d")
    assert (third.version, third.unchanged, third.sha256) == ("v0.3", False, first.sha256)
    assert load_dataset(tmp_path / "d").version == "v0.3"
    assert build(curation, tmp_path / "d").unchanged
