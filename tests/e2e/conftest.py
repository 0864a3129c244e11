"""Runs the built program: $SYNAPTOROUTE, or cli/synaptoroute in $SYNAPTOROUTE_BUILD or in build/.

Needs Python's standard library and pytest. Every run is also checked for what must hold always: no crash, no
internals in messages, and a message for each failure.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SYNAPTOROUTE_BUILD", ROOT / "build"))
PROGRAM = os.environ.get("SYNAPTOROUTE", str(BUILD / "cli" / "synaptoroute"))


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    # A shell that runs the tests in the background ignores interrupts, and the programs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def json(self):
        """The lines of standard output as JSON, members in their order (as dicts keep it)."""
        return [json.loads(line) for line in self.out.split("\n") if line]


def check(status, err):
    assert status >= 0, f"killed by signal {-status}: {err}"
    for internal in ("SR_ERR", "Sanitizer", "runtime error", "sqlite3_"):
        assert internal not in err, err
    if status != 0:
        assert err.startswith("synaptoroute: "), err


def command(arguments):
    return [PROGRAM, *(os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments)]


class Program:
    """The program in a directory of its own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.database = self.directory / "synaptoroute.db"

    def run(self, *arguments, stdin="", expect=0, **more):
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(command(arguments), input=data, capture_output=True, timeout=120,
                              cwd=self.directory, check=False, **more)
        result = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        check(result.status, result.err)
        assert result.status == expect, f"status {result.status}: {result.out}{result.err}"
        return result

    def start(self, *arguments, **more):
        """The same as a process that goes on running, with pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(command(arguments), cwd=self.directory, **pipes)

    def write(self, name, content):
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def table(self):
        """The whole table, as text that is equal when the table is."""
        return self.run("export", "-", "--format", "jsonl").out

    def fails(self, *arguments, message, status=1, **more):
        """Runs what must fail with `message` and change nothing."""
        before = self.table()
        result = self.run(*arguments, expect=status, **more)
        assert message in result.err, result.err
        assert result.out == ""
        assert self.table() == before
        return result


@pytest.fixture(scope="session")
def support_database(tmp_path_factory):
    """The customer-support example as a database, made once."""
    program = Program(tmp_path_factory.mktemp("support"))
    program.run("import", "--no-fit", ROOT / "examples" / "customer-support.yaml")
    return program.database


@pytest.fixture
def empty(tmp_path):
    """The program in an empty directory."""
    return Program(tmp_path)


@pytest.fixture
def support(tmp_path, support_database):
    """The program with the customer-support table."""
    program = Program(tmp_path)
    shutil.copy(support_database, program.database)
    return program
