"""The example tables, the example program in C, start-up, and the manual page."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from conftest import BUILD, PROGRAM, ROOT

QUESTIONS = {
    "customer-support": {"How do I get my money back?": "refund", "my package is late": "track_order",
                         "why was my credit card rejected": "payment_problem",
                         "I would rather talk to a person": "human_agent",
                         "I can't remember my password": "account_access"},
    "agent-tools": {"what did we sell most of in June": "query_database", "ping Alex that I'll be late": "send_message",
                    "what do I have planned today": "read_calendar", "say good evening in Italian": "translate",
                    "15 % of 80": "calculate"},
    "smart-home": {"it is freezing in here": "heating", "switch the lamp on": "lights_on", "play something by Bach": "music",
                   "let the curtains down": "blinds", "open the garage door": "unlock_doors"},
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_example_table_answers_what_it_is_for(empty, name):
    empty.run("import", ROOT / "examples" / f"{name}.yaml")
    routes = empty.run("list", "--json", "--utterances").json()
    assert 5 <= len(routes) <= 12
    assert all(5 <= len(r["utterances"]) <= 10 and r["description"] for r in routes)
    texts = list(QUESTIONS[name])
    answers = empty.run("route", "--json", *texts).json()
    assert {a["text"]: a["route"] for a in answers} == QUESTIONS[name]


def test_the_program_in_c(tmp_path):
    example = BUILD / "examples" / "example_route"
    if not example.exists():
        pytest.skip("the example program is not built")
    done = subprocess.run([example, "I am freezing", "what is the capital of France?"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "I am freezing"
    assert lines[1].startswith("  -> heating (confidence ")
    assert "  -> none: below_threshold" in lines
    assert os.listdir(tmp_path) == []


def test_a_start_is_quick_and_small(support):
    with open(PROGRAM, "rb") as file:
        if b"__asan_init" in file.read():
            pytest.skip("a program with sanitizers is neither")
    times = []
    while len(times) < 30 and min(times, default=1) >= 0.15:  # other work may be on this machine
        began = time.monotonic()
        support.run("route", "How do I get my money back?")
        times.append(time.monotonic() - began)
    assert min(times) < 0.15, times
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", code, PROGRAM, "route", "money"], cwd=support.directory,
                          capture_output=True, text=True, check=True)
    assert int(done.stdout) < 130 * 1024  # KiB, on Linux


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_the_manual_page_is_well_formed_and_complete():
    page = ROOT / "docs" / "synaptoroute.1"
    done = subprocess.run(["groff", "-ww", "-mandoc", "-Tutf8", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    text = page.read_text(encoding="utf-8").replace("\\-", "-")
    for option in ("--db", "--model", "--threads", "--reencode", "--json", "--quiet", "--top", "--no-reject", "--path",
                   "--threshold", "--confidence", "--description", "--metadata", "--utterances", "--verify", "--format",
                   "--text-column", "--route-column", "--replace", "--oos-label", "--html", "--predictions"):
        assert option[2:] in text, option
