"Edge cases of javis.database: locks, upgrades, damaged files, full disks. The story is in nbs/00a_database.ipynb."
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Column, Integer, String, event, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from javis.database import Database, StoreError, _explain, _url


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


def add(words):
    return lambda session: session.add(Note(text=words))


def count(database):
    return database.read(lambda session: session.scalar(select(func.count(Note.id))))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "notes.db"


@pytest.fixture
def notes(path):
    with Database(path, Base.metadata, {}) as database:
        yield database


def child(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_foreign_keys_wal_and_durability_are_really_set(notes, path):
    def pragma(name):
        return lambda session: session.scalar(text(f"PRAGMA {name}"))
    assert notes.read(pragma("foreign_keys")) == 1
    assert notes.read(pragma("journal_mode")) == "wal"
    assert notes.write(pragma("synchronous")) == 2
    assert notes.write(pragma("synchronous"), draft=True) == 1
    assert notes.write(pragma("synchronous")) == 2


def test_a_transaction_that_fails_leaves_nothing(notes):
    def half(session):
        session.add(Note(text="half"))
        session.flush()
        raise RuntimeError("in the middle")
    with pytest.raises(RuntimeError):
        notes.write(half)
    assert count(notes) == 0
    notes.write(add("whole"))
    assert count(notes) == 1


def test_a_writer_holds_the_lock_from_its_first_word(notes, path):
    def look_then_write(session):
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
    notes.write(look_then_write)


def test_a_writer_waits_for_a_lock_longer_than_one_busy_timeout(path):
    with Database(path, Base.metadata, {}, patience_s=20) as notes, \
            closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as holder:
        notes._engine.dispose()
        holder.execute("BEGIN IMMEDIATE")
        release = threading.Timer(2.5, lambda: holder.execute("COMMIT"))
        release.start()
        notes.write(add("patient"))
        release.join()
        assert count(notes) == 1


def test_opening_and_reading_do_not_wait_for_a_writer(notes, path):
    notes.write(add("before"))
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with Database(path, Base.metadata, {}, patience_s=0.2) as other:
            assert count(other) == 1
        assert time.monotonic() - began < 2


def test_a_lock_that_is_never_released_is_a_sentence(notes, path):
    with Database(path, Base.metadata, {}, patience_s=0.2) as hurried, \
            closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program keeps it locked: let it finish"):
            hurried.write(add("never"))
        holder.execute("ROLLBACK")
        hurried.write(add("now"))
        assert count(hurried) == 1


def test_threads_share_one_database(notes):
    def write_some(thread):
        for number in range(25):
            notes.write(add(f"{thread}:{number}"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_some, range(8)))
    assert count(notes) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_share_a_connection(notes):
    notes.write(add("parent"))
    opened = []
    event.listen(notes._engine, "connect", lambda connection, record: opened.append(os.getpid()))
    if (pid := os.fork()) == 0:
        try:
            notes.write(add("child"))
            os._exit(0 if count(notes) == 2 and opened == [os.getpid()] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    notes.write(add("parent again"))
    assert count(notes) == 3 and opened == []


def test_a_relative_path_means_the_folder_it_was_opened_from(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Database("here.db", Base.metadata, {}) as notes:
        monkeypatch.chdir("elsewhere")
        notes.write(add("one"))
    assert not (tmp_path / "elsewhere/here.db").exists()
    with Database("../here.db", Base.metadata, {}) as notes:
        assert count(notes) == 1


def test_messages_never_carry_the_words_that_were_saved(notes):
    notes.write(add("my secret"))
    with pytest.raises(StoreError, match="breaks a rule") as caught:
        notes.write(add("my secret"))
    error = caught.value
    while error:
        assert "my secret" not in str(error)
        error = error.__cause__


def test_a_password_in_the_url_is_not_shown():
    url = _url("postgresql+psycopg://javis:hunter2@host/javis")
    assert "hunter2" not in str(_explain(ValueError("refused"), url))


def test_a_driver_that_is_not_there():
    with pytest.raises(StoreError, match="no driver for postgresql.nothing.*pip install"):
        Database("postgresql+nothing://javis@host/javis", Base.metadata, {})


# Upgrades

def add_stars(operations):
    with operations.batch_alter_table("note") as table:
        table.add_column(Column("stars", Integer, nullable=False, server_default="3"))


def rename_text(operations):
    with operations.batch_alter_table("note", recreate="always") as table:
        table.alter_column("text", new_column_name="words", existing_type=String)


def fail(operations):
    operations.execute("DELETE FROM note")
    raise RuntimeError("step 3 is broken")


def versions(path):
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT version FROM schema_version ORDER BY 1")]


def test_several_steps_run_in_order_and_a_copy_is_kept(notes, path):
    notes.write(add("old"))
    notes.close()
    with Database(path, Base.metadata, {2: add_stars, 3: rename_text}) as notes:
        assert notes.read(lambda s: s.execute(text("SELECT words, stars FROM note")).all()) == [("old", 3)]
        assert notes.read(lambda s: s.scalar(text("PRAGMA foreign_keys"))) == 1
    assert versions(path) == [1, 2, 3]
    [copy] = path.parent.glob("*.backup")
    assert copy.name.startswith("notes.db.v1-")
    with Database(copy, Base.metadata, {}) as before:
        assert count(before) == 1


def test_a_fresh_file_gets_the_newest_tables_without_running_steps(path):
    with Database(path, Base.metadata, {2: fail, 3: fail}):
        pass
    assert versions(path) == [1, 2, 3]
    assert not list(path.parent.glob("*.backup"))


def test_a_step_that_fails_changes_nothing(notes, path):
    notes.write(add("kept"))
    notes.close()
    with pytest.raises(RuntimeError, match="step 3 is broken"):
        Database(path, Base.metadata, {2: add_stars, 3: fail})
    assert versions(path) == [1]
    with Database(path, Base.metadata, {}) as notes:
        assert count(notes) == 1
    assert len(list(path.parent.glob("*.backup"))) == 1


def test_a_copy_that_cannot_be_made_stops_the_upgrade(notes, path, monkeypatch):
    notes.close()

    def full(source, target):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("javis.database.os.replace", full)
    with pytest.raises(StoreError, match="No space left"):
        Database(path, Base.metadata, {2: add_stars})
    assert versions(path) == [1]
    assert [file.name for file in path.parent.iterdir() if "backup" in file.name] == []


UPGRADE = """
import sys
sys.path.insert(0, sys.argv[2])
from test_database import Base, Database, add_stars, count, rename_text
with Database(sys.argv[1], Base.metadata, {2: add_stars, 3: rename_text}) as notes:
    pass
"""


def test_processes_that_upgrade_together_do_it_once(notes, path):
    for number in range(50):
        notes.write(add(str(number)))
    notes.close()
    running = [subprocess.Popen([sys.executable, "-c", UPGRADE, path, os.path.dirname(__file__)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert versions(path) == [1, 2, 3]
    assert len(list(path.parent.glob("*.backup"))) == 1


def test_a_newer_file_is_refused_untouched(path):
    Database(path, Base.metadata, {2: add_stars}).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="made by a newer JAVIS .version 2; this one knows 1.*pip install -U javis"):
        Database(path, Base.metadata, {})
    assert path.read_bytes() == before


# Bad files and bad disks

def test_an_empty_file_becomes_a_database(path):
    path.touch()
    with Database(path, Base.metadata, {}) as notes:
        assert count(notes) == 0


def test_a_text_file_is_refused_and_kept(path):
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite database: move the file aside"):
        Database(path, Base.metadata, {})
    assert path.read_text() == "these are my notes\n" * 100


def test_the_database_of_another_program_is_refused_untouched(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE places (name)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="belongs to another program .its tables: places"):
        Database(path, Base.metadata, {})
    assert path.read_bytes() == before


def test_a_damaged_file_says_so_and_is_kept(notes, path):
    for number in range(200):
        notes.write(add(f"{number} " + "x" * 500))
    notes.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    with pytest.raises(StoreError, match="is damaged: move it aside"), Database(path, Base.metadata, {}) as notes:
        notes.read(lambda session: session.scalars(select(Note)).all())
    assert path.stat().st_size == len(whole)


def test_a_folder_where_the_file_should_be(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(tmp_path, Base.metadata, {})


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="data"):
        Database(tmp_path / "data/notes.db", Base.metadata, {})


READ_ONLY = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_database import Base, Database, StoreError, add
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    with Database(sys.argv[1], Base.metadata, {}) as notes:
        notes.write(add("no"))
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("there_already", [True, False])
def test_a_read_only_folder(tmp_path_factory, there_already):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "notes.db")
        if there_already:
            Database(file, Base.metadata, {}).close()
            os.chmod(file, 0o444)
        os.chmod(folder, 0o555)
        said = child(READ_ONLY, file, os.path.dirname(__file__))
        os.chmod(folder, 0o755)
    assert said.stderr == ""
    assert "read-only: allow writing there" in said.stdout or "cannot be opened: check" in said.stdout


def test_a_full_disk_keeps_what_was_saved(path):
    notes = Database(path, Base.metadata, {})
    limit = ["PRAGMA max_page_count=20"]
    event.listen(notes._engine, "connect", lambda connection, record: connection.execute(limit[0]))
    notes.close()
    saved = 0
    with pytest.raises(StoreError, match="disk is full: free some space"):
        for number in range(100):
            notes.write(add(f"{number} " + "x" * 2000))
            saved += 1
    assert 0 < saved == count(notes)
    notes.close()
    limit[0] = "PRAGMA max_page_count=100000"
    notes.write(add("there is room again"))
    assert count(notes) == saved + 1
    notes.close()


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_database import Base, Database, StoreError, add
notes = Database(sys.argv[1], Base.metadata, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
saved = 0
try:
    while True:
        notes.write(add(f"{saved} " + "x" * 3000))
        saved += 1
except StoreError as error:
    print(error)
    print(saved)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_refuses_in_mid_write_keeps_what_was_saved(path):
    said, saved = child(FULL_DISK, path, os.path.dirname(__file__)).stdout.splitlines()
    assert "repeat; what was saved before is whole" in said
    with Database(path, Base.metadata, {}) as notes:
        assert 0 < int(saved) == count(notes)
        assert notes.read(lambda s: s.scalar(text("PRAGMA integrity_check"))) == "ok"
        notes.write(add("there is room again"))
