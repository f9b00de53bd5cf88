"Errors, names, whole files, masked secrets, YAML with lines, .env and the log."
import errno
import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from javis import basics
from javis.basics import (ConfigError, JavisError, MissingExtra, atomic_write, did_you_mean,
                          environment, need, new_id, read_yaml, redact, register_secret, sha256,
                          start_log)
from javis.masking import Masker


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    "No secret, warning or log handler of one test reaches another."
    monkeypatch.setattr(basics, "_masker", Masker())
    monkeypatch.setattr(basics, "_warned", set())
    yield
    logger = logging.getLogger("javis")
    for handler in list(logger.handlers):
        if handler.name == "javis":
            logger.removeHandler(handler)
            handler.close()


def python(code: str, *args: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True,
                          timeout=60, **options)


def test_the_basics_load_nothing_heavy():
    code = ("import sys, javis.basics; "
            "print({'pydantic', 'yaml', 'dotenv', 'torch', 'httpx'} & set(sys.modules))")
    assert python(code).stdout.strip() == "set()"


# need, did_you_mean

def test_need_tells_a_missing_library_from_a_broken_one(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import a_library_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"does not load .*nobody_has.*javis\[train\]"):
        need("broken_library", "train")
    with pytest.raises(MissingExtra, match="nobody_has.thing is not installed.*javis\\[rag\\]"):
        need("nobody_has.thing", "rag")
    assert need("os.path", "train") is os.path


def test_a_guess_only_when_something_is_near():
    assert did_you_mean("temprature", ["temperature"]) == " Did you mean 'temperature'?"
    assert did_you_mean("zebra", ["temperature"]) == ""
    assert did_you_mean(12, ["temperature"]) == ""


# new_id

def test_names_from_many_threads_are_unique_and_rise_in_each():
    made = [[] for _ in range(8)]
    threads = [threading.Thread(target=lambda own=own: own.extend(new_id() for _ in range(2000)))
               for own in made]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(own == sorted(own) for own in made)
    assert len({name for own in made for name in own}) == 16000


def test_names_rise_even_when_the_clock_goes_back(monkeypatch):
    before = new_id()
    monkeypatch.setattr(basics.time, "time_ns", lambda: 0)
    assert before < new_id() < new_id()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_other_names(monkeypatch):
    new_id()
    monkeypatch.setattr(basics.time, "time_ns", lambda: 0)  # both go on from the same last name
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 26).decode() != new_id()
    os.close(reading), os.close(writing)


# sha256, atomic_write

def test_a_hash_is_of_text_bytes_or_file(tmp_path):
    file = tmp_path / "a"
    file.write_text("안녕", encoding="utf-8")
    assert sha256("안녕") == sha256("안녕".encode()) == sha256(file)
    assert sha256(str(file)) != sha256(file)  # only a Path is a file


def test_newlines_and_bytes_are_written_as_they_are(tmp_path):
    file = atomic_write(tmp_path / "deep/er/a.txt", "one\r\ntwo\n")
    assert file.read_bytes() == b"one\r\ntwo\n"
    assert atomic_write(str(file), b"\xff\x00").read_bytes() == b"\xff\x00"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_are_those_of_the_old_file_or_of_a_new_one(tmp_path):
    (tmp_path / "plain").write_text("")
    new = atomic_write(tmp_path / "new", "")
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode
    new.chmod(0o600)
    atomic_write(new, "again")
    assert stat.S_IMODE(new.stat().st_mode) == 0o600


@pytest.mark.parametrize("number, remedy", [(errno.ENOSPC, "The disk is full"),
                                            (errno.EROFS, "read-only"), (errno.EIO, "Check the")])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch, number, remedy):
    file = atomic_write(tmp_path / "a.txt", "old")

    def fail(_):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(basics.os, "fsync", fail)
    with pytest.raises(JavisError, match=remedy) as caught:
        atomic_write(file, "new")
    assert str(file) in str(caught.value) and os.strerror(number) in str(caught.value)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    file = atomic_write(tmp_path / "a.txt", "old")

    def interrupt(_):
        raise KeyboardInterrupt
    monkeypatch.setattr(basics.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    file, sizes, seen = tmp_path / "a.txt", (10, 200_000), set()
    atomic_write(file, "x" * sizes[0])
    writing = threading.Thread(target=lambda: [atomic_write(file, "x" * sizes[i % 2])
                                               for i in range(60)])
    writing.start()
    while writing.is_alive():
        seen.add(len(file.read_bytes()))
    assert seen <= set(sizes)


def test_a_file_with_the_longest_possible_name(tmp_path):
    name = "가" * 85  # 255 bytes
    assert atomic_write(tmp_path / name, "ok").read_text() == "ok"


# secrets

@pytest.mark.parametrize("text", [
    "sk-proj-abcDEF123456789012", "hf_AbCdEfGhIjKlMnOpQrSt", "rpa_ABCDEFGHIJKLMNOPQRSTUVWX123",
    "Authorization: Bearer eyJhbGciOi.eyJzdWIi-_x", "'authorization': 'bearer abcdef012345'",
    "WANDB_API_KEY=" + "0a" * 20, '"api_key": "' + "0a" * 20 + '"',
    "postgresql://javis:tops3cret@db/javis", "redis://:tops3cret@db",
])
def test_what_looks_like_a_key_is_masked(text):
    masked = redact(text)
    assert "****" in masked
    for part in ("abcDEF", "AbCd", "ABCD", "eyJ", "abcdef01", "0a0a", "s3cret"):
        assert part not in masked


@pytest.mark.parametrize("text", [
    "commit " + "0a" * 20, "task-2024-10-11-12-13-14", "the bearer of bad news", "hf_hub",
    "http://127.0.0.1:8000/v1?mail=a@b", "ask me: what is a risk-management-strategy?",
])
def test_ordinary_words_are_left_alone(text):
    assert redact(text) == text


def test_registered_secrets_are_masked_longest_first():
    for value in ("hunter2", "hunter2-and-more", SecretStr("a.b*c(d"), None, "", "short", "      "):
        register_secret(value)
    assert redact("hunter2-and-more hunter2 a.b*c(d axbxc short") == "**** **** **** axbxc short"


# YAML

@pytest.mark.parametrize("text, message", [
    ("a: 1\nb: [1, 2\n", "line 3, column 1"),
    ("a:\n\tb: 1\n", "line 2, column 1.*no tabs"),
    ("a: b: c\n", "line 1, column 5"),
    ("a: !thing 1\n", "line 1, column 4"),
    ("a: *nowhere\n", "line 1, column 4"),
    ("a: 1\n---\nb: 2\n", "line 2, column 1"),
    ("a: 1\nb: {c: 1, d: 2, c: 3}\n", "b.c is there twice, on lines 2 and 2"),
    ("a: 1\nb: 2\na: 3\n", "a is there twice, on lines 1 and 3"),
    ("- 1\n- 2\n", "not one list"), ("just words\n", "not one str"),
    ("a: " + "[" * 5000, "could not be read as YAML"), ("a: \0", "could not be read as YAML"),
    ("a: 2024-13-45\n", "could not be read as YAML"), ("a: &a [*a]\n", "could not be read as YAML"),
])
def test_broken_yaml_says_where(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file, "c.yaml")
    assert str(caught.value).startswith("c.yaml")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="could not be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_yaml_with_a_mark_anchors_lists_and_odd_keys(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbfbase: &base\n  x: 1\n  y: 2\nown:\n  <<: *base\n  y: 3\n"
                     b"rules:\n  - name: a\n  - name: b\non: 1\n? [1]\n: 2\nempty:\n")
    content, lines = read_yaml(file)
    assert content["own"] == {"x": 1, "y": 3} and content["rules"] == [{"name": "a"}, {"name": "b"}]
    assert content["True"] == 1 and content["[1]"] == 2 and content["empty"] is None
    assert lines["own.y"] == 6 and lines["rules.1.name"] == 9 and lines["True"] == 10
    file.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: *b\nd: *b\n")
    assert read_yaml(file)[0]["d"] == {"x": 1, "y": 3}
    (tmp_path / "none.yaml").write_text("# only a remark\n")
    assert read_yaml(tmp_path / "none.yaml") == ({}, {})
    (tmp_path / "null.yaml").write_text("~\n")
    assert read_yaml(tmp_path / "null.yaml") == ({}, {})


# .env

def test_env_file(tmp_path):
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbf# a remark\r\nexport A=1\r\nB='two words' # more\r\nC=a${A}b\r\nD=\r\nE\r\n"
        b"HF_TOKEN=abcdefgh12\r\nMODE_KEY=edit\r\n")
    found = environment(tmp_path, {"A": "real", "MY_PASSWORD": "correct horse"})
    assert found == {"A": "real", "B": "two words", "C": "a${A}b", "HF_TOKEN": "abcdefgh12",
                     "MODE_KEY": "edit", "MY_PASSWORD": "correct horse"}
    assert redact("abcdefgh12 correct horse edit") == "**** **** edit"
    assert "A" not in environment(tmp_path / "nowhere", {})


def test_a_broken_env_line_is_named_and_not_shown(tmp_path):
    (tmp_path / ".env").write_text("A=1\nMY KEY=tops3cret\n")
    with pytest.raises(ConfigError, match=r"\.env, line 2") as caught:
        environment(tmp_path, {})
    assert "tops3cret" not in str(caught.value)


# the log

def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_secrets_stay_out_of_message_arguments_exception_and_stack(tmp_path):
    register_secret("open sesame")
    log = start_log(tmp_path / "logs/javis.log")
    log.info("open sesame %s", {"key": "open sesame"})
    try:
        raise ValueError("open sesame, said Ali")
    except ValueError:
        child = logging.getLogger("javis.client")
        child.exception("failed at %s", "http://u:passw0rd@host", stack_info=True)
    log.info("%d apples", "open sesame")
    text = text_of(tmp_path / "logs/javis.log")
    assert "open sesame" not in text and "passw0rd" not in text
    assert "ValueError: ****, said Ali" in text and "arguments that do not fit" in text


def test_a_later_handler_sees_no_secret_either(tmp_path, caplog):
    register_secret("open sesame")
    log = start_log(tmp_path / "javis.log")
    try:
        raise ValueError("open sesame")
    except ValueError:
        log.exception("open sesame")
    assert "open sesame" not in caplog.text and "ValueError" in caplog.text


def test_starting_again_adds_no_handler_and_moves_the_log(tmp_path):
    start_log(tmp_path / "a.log")
    start_log(tmp_path / "a.log")
    log = start_log(tmp_path / "b.log", level="WARNING")
    log.info("quiet")
    log.warning("loud")
    assert len([one for one in log.handlers if one.name == "javis"]) == 1
    assert text_of(tmp_path / "a.log") == "" and "loud" in text_of(tmp_path / "b.log")
    assert "quiet" not in text_of(tmp_path / "b.log")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_the_log_is_its_owners(tmp_path):
    start_log(tmp_path / "a.log").info("x")
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


def test_the_log_is_turned_over(tmp_path):
    log = start_log(tmp_path / "a.log", max_bytes=1000, backups=2)
    for i in range(60):
        log.info("line %d", i)
    assert sorted(os.listdir(tmp_path)) == ["a.log", "a.log.1", "a.log.2"]
    assert "line 59" in text_of(tmp_path / "a.log")
    assert (tmp_path / "a.log.1").stat().st_size <= 1000


def test_no_folder_for_the_log_is_said_once_and_stops_nothing(tmp_path, capsys):
    (tmp_path / "logs").write_text("a file where the folder should be")
    for _ in range(3):
        start_log(tmp_path / "logs/javis.log").error("nobody hears this")
    said = capsys.readouterr().err
    assert said.count("going on without it") == 1 and "Traceback" not in said


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_a_log_folder_that_goes_away_is_said_once(tmp_path, capsys):
    log = start_log(tmp_path / "logs/javis.log")
    (tmp_path / "logs/javis.log").unlink()
    (tmp_path / "logs").rmdir()
    log.info("one")
    log.info("two")
    said = capsys.readouterr().err
    assert said.count("going on without it") == 1 and "Traceback" not in said
    (tmp_path / "logs").mkdir()
    log.info("three")
    assert "three" in text_of(tmp_path / "logs/javis.log")


def test_a_log_that_cannot_be_turned_over_grows_on(tmp_path, capsys):
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.1/in the way").write_text("")
    log = start_log(tmp_path / "a.log", max_bytes=500, backups=1)
    for i in range(40):
        log.info("line %d", i)
    text = text_of(tmp_path / "a.log")
    assert all(f"line {i}\n" in text for i in range(40)) and capsys.readouterr().err == ""


WRITER = """
import sys
from javis.basics import start_log
log = start_log(sys.argv[1], max_bytes=20_000, backups=50)
for i in range(400):
    log.info("writer %s line %d %s", sys.argv[2], i, "x" * 60)
"""


def test_several_processes_share_a_log(tmp_path):
    file = tmp_path / "a.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(n)],
                                stderr=subprocess.PIPE, text=True) for n in range(3)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == ["", "", ""]
    lines = [line for one in tmp_path.iterdir() for line in text_of(one).splitlines()]
    assert all(line.endswith("x" * 60) and line.count("writer") == 1 for line in lines)  # none torn
    assert len(set(lines)) == len(lines) == 1200 and len(os.listdir(tmp_path)) > 3


def test_a_lock_left_by_a_killed_process_is_removed(tmp_path):
    lock = tmp_path / "a.log.lock"
    lock.write_text("")
    log = start_log(tmp_path / "a.log", max_bytes=500, backups=1)
    for i in range(20):
        log.info("line %d", i)
    assert sorted(os.listdir(tmp_path)) == ["a.log", "a.log.lock"]  # somebody else's turn
    os.utime(lock, (0, 0))
    for i in range(3):
        log.info("line %d", i)
    assert sorted(os.listdir(tmp_path)) == ["a.log", "a.log.1"]
