"""Databases of others, rights, full disks, several processes, and being killed."""

import os
import pathlib
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import pytest

from conftest import PROGRAM, Program

NOBODY = 65534
LARGE = "text,route\n" + "".join(f"a question number {i} about the matter {i * 7919 % 1000} of things,route_{i % 20}\n"
                                 for i in range(3000))


# ---- Databases that are not ours ----------------------------------------------------------------


def other_program(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES ('mine')")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("command", [["route", "x"], ["add", "r", "x"], ["list"], ["info"], ["import", "a.csv"],
                                     ["export", "-"]])
def test_a_database_of_another_program_is_left_alone(empty, command):
    other_program(empty.database)
    empty.write("a.csv", "text,route\nx,y\n")
    before = empty.database.read_bytes()
    result = empty.run(*command, expect=1)
    assert "another program" in result.err
    assert empty.database.read_bytes() == before


@pytest.mark.parametrize("content", [b"just some text, long enough to be looked at " * 30, b"SQLite format 3\x00 but no more",
                                     os.urandom(20000)])
def test_a_file_that_is_no_database_is_left_alone(empty, content):
    empty.database.write_bytes(content)
    for command in (["route", "x"], ["add", "r", "x"], ["list"]):
        result = empty.run(*command, expect=1)
        assert "synaptoroute.db" in result.err
    assert empty.database.read_bytes() == content


def test_a_directory_is_no_database(empty):
    result = empty.run("--db", ".", "add", "r", "x", expect=1)
    assert "directory" in result.err or "regular file" in result.err


@pytest.mark.parametrize("damage", ["cut", "noise", "tail"])
def test_a_damaged_database_gives_messages_not_crashes(support, damage):
    content = bytearray(support.database.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "noise":
        for at in range(5000, len(content), 997):
            content[at] ^= 0x5A
    else:
        content[-4096:] = bytes(4096)
    support.database.write_bytes(content)
    for command in (["info", "--verify"], ["list"], ["route", "refund"], ["export", "-"]):
        process = support.start(*command)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 1), err
        assert process.returncode == 0 or err.startswith(b"synaptoroute: "), err
    assert support.start("info", "--verify", stderr=subprocess.DEVNULL).wait(60) == 1


# ---- Rights and space ---------------------------------------------------------------------------


@pytest.fixture
def open_directory(support_database):
    """A directory that another user can reach, with the table."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="synaptoroute-e2e-"))
    path.chmod(0o755)
    program = Program(path)
    shutil.copy(support_database, program.database)
    yield program
    path.chmod(0o755)
    shutil.rmtree(path)


def powerless():
    """Options of a process that may not do everything: as root, another user."""
    if os.geteuid() != 0:
        return {}
    more = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([PROGRAM, "--version"], capture_output=True, check=True, **more)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("another user cannot run the program from here")
    return more


def test_a_read_only_database_is_read_but_not_written(open_directory, support):
    more = powerless()
    open_directory.database.chmod(0o444)
    open_directory.write("a.csv", "text,route\nx,y\n")
    open_directory.directory.chmod(0o555)
    assert open_directory.run("route", "I want a refund", **more).out.startswith("refund ")
    assert len(open_directory.run("list", "--json", **more).json()) == 10
    assert open_directory.run("info", "--json", **more).json()[0]["read_only"] is True
    for command in (["add", "r", "x"], ["remove", "refund"], ["import", "a.csv"]):
        result = open_directory.run(*command, expect=1, **more)
        assert "reading only" in result.err
        assert "synaptoroute.db" in result.err
    open_directory.directory.chmod(0o755)
    open_directory.database.chmod(0o644)
    assert open_directory.table() == support.table()


@pytest.mark.parametrize("arguments", [["route", "-", "--json"], ["export", "-", "--format", "csv", "--quiet"]])
def test_standard_output_may_be_non_blocking(support, arguments):
    """As it is where another program that shares it wants it so."""
    support.write("more.csv", "text,route\n" + "".join(f"{'x' * 6000}{i},refund\n" for i in range(30)))
    support.run("import", "more.csv")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = support.start(*arguments, stdout=writer)
    os.close(writer)
    process.stdin.write(b"I want a refund\n" * 300)
    process.stdin.close()
    time.sleep(0.5)
    out = b""
    while chunk := os.read(reader, 5000):
        out += chunk
    os.close(reader)
    assert process.stderr.read() == b""
    assert process.wait(20) == 0
    process.stderr.close()
    assert len(out) > 130000
    assert out.count(b"\n") == (300 if arguments[0] == "route" else 95)


def test_a_writable_database_in_a_directory_that_is_not_is_read_only(open_directory):
    more = powerless()
    open_directory.database.chmod(0o666)
    (open_directory.directory / "link.db").symlink_to("synaptoroute.db")
    for mode, read_only in ((0o777, False), (0o555, True)):
        open_directory.directory.chmod(mode)
        for name in ("synaptoroute.db", "link.db"):
            assert open_directory.run("info", "--db", name, "--json", **more).json()[0]["read_only"] is read_only


def test_a_directory_that_cannot_be_written_is_explained(open_directory):
    more = powerless()
    open_directory.directory.chmod(0o555)
    result = open_directory.run("--db", "new.db", "add", "r", "x", expect=1, **more)
    assert "new.db" in result.err
    result = open_directory.run("export", "out.yaml", expect=1, **more)
    assert "out.yaml" in result.err


def test_a_file_that_cannot_be_read_is_explained(open_directory):
    path = open_directory.write("secret.csv", "text,route\nx,y\n")
    path.chmod(0)
    result = open_directory.run("import", "secret.csv", expect=1, **powerless())
    assert "secret.csv: Permission denied" in result.err


def test_an_import_that_the_disk_cannot_hold_changes_nothing(support):
    support.write("large.csv", LARGE)
    size = support.database.stat().st_size
    support.fails("import", "large.csv", message="synaptoroute.db",
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200000, size + 200000)))
    support.run("info", "--verify")


def test_a_full_disk_changes_nothing(support):
    disk = support.directory / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
                                           capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        small = Program(disk)
        shutil.copy(support.database, small.database)
        large = support.write("large.csv", LARGE)
        small.fails("import", large, message="full")
        small.run("info", "--verify")
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        result = small.run("export", disk / "out.yaml", expect=1)
        assert "No space left" in result.err
        assert sorted(name for name in os.listdir(disk) if name.startswith("out")) == []
        small.run("add", "new", "some text that needs room", expect=1)
        filler.unlink()
        assert len(small.run("list", "--json").json()) == 10
        small.run("add", "new", "some text that needs room")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


# ---- Interruption -------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6])
def test_a_killed_import_changes_nothing(support, delay):
    before = support.table()
    support.write("large.csv", LARGE)
    process = support.start("import", "large.csv")
    time.sleep(delay)
    process.kill()
    process.communicate(timeout=20)
    if process.returncode != -signal.SIGKILL:
        pytest.skip("the import was over before it was killed")
    assert support.table() == before
    support.run("info", "--verify")
    assert support.run("add", "after", "the kill").status == 0


def test_an_interrupted_import_stops_and_changes_nothing(support):
    before = support.table()
    support.write("large.csv", LARGE)
    process = support.start("import", "large.csv")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == b"synaptoroute: import: stopped; the table is as it was\n"
    assert support.table() == before


# ---- Several processes --------------------------------------------------------------------------


def test_two_processes_write_at_once_and_nothing_is_lost(support):
    def adder(name, i):
        return support.start("add", f"{name}_{i}", f"text of {name} number {i}")

    for i in range(8):
        both = [adder("left", i), adder("right", i)]
        for process in both:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    routes = {r["route"] for r in support.run("list", "--json").json()}
    assert {f"{name}_{i}" for name in ("left", "right") for i in range(8)} <= routes
    assert support.run("info", "--verify", "--json").json()[0]["routes"] == 26


def test_a_new_database_made_by_two_processes(empty):
    both = [empty.start("add", f"r{i}", f"text {i}") for i in range(4)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(empty.run("list", "--json").json()) == 4


def test_reading_during_an_import(support):
    support.write("large.csv", LARGE)
    process = support.start("import", "large.csv")
    seen = set()
    while process.poll() is None:
        seen.add(len(support.run("list", "--json").json()))
    assert process.returncode == 0
    process.communicate()
    assert seen <= {10, 30}
    assert len(support.run("list", "--json").json()) == 30


# ---- Other models -------------------------------------------------------------------------------


def test_a_table_of_another_model_is_not_mixed(support):
    import conftest
    source = next((p for p in (conftest.ROOT / "models").glob("bge-small*") if p.is_dir()), None)
    if source is None:
        pytest.skip("no shipped model in the source tree")
    other = support.directory / "other-model"
    shutil.copytree(source, other)
    config = (other / "tokenizer.json").read_text(encoding="utf-8")
    (other / "tokenizer.json").write_text(config + "\n", encoding="utf-8")
    before = support.table()
    result = support.run("--model", other, "route", "I want a refund", expect=1)
    if "--reencode" not in result.err:
        assert "digest" in result.err or "sha256" in result.err or "model" in result.err
        return
    assert support.table() == before
    assert support.run("--model", other, "--reencode", "route", "I want a refund").out.startswith("refund ")
    assert support.run("route", "I want a refund").out.startswith("refund ")
    assert support.run("info", "--json").json()[0]["models"] == 2
