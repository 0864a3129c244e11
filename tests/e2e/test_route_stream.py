"""`route -`: lines of standard input, answered in order and at once."""

import json
import select
import time

import pytest


def read_line(process, seconds=20):
    assert select.select([process.stdout], [], [], seconds)[0], "no answer in time"
    return process.stdout.readline()


def test_answers_come_in_the_order_of_the_lines(support):
    texts = ["I want a refund", "where is my order?", "I forgot my password"] * 50
    answers = support.run("route", "-", "--json", stdin="\n".join(texts) + "\n").json()
    assert [a["text"] for a in answers] == texts
    assert [a["route"] for a in answers] == ["refund", "track_order", "account_access"] * 50


def test_lines_of_every_kind(support):
    data = b"I want a refund\r\n\n  \r\nbad \xff utf-8\nnul \x00 inside\nlone \r return\nno newline at the end"
    answers = support.run("route", "-", "--json", stdin=data).json()
    assert [a["text"] for a in answers] == ["I want a refund", "", "  ", "bad \ufffd utf-8", "nul \x00 inside",
                                            "lone \r return", "no newline at the end"]
    assert [a["reason"] == "empty_text" for a in answers] == [False, True, True, False, False, False, False]


def test_no_input_gives_no_answer(support):
    assert support.run("route", "-", stdin="").out == ""


def test_plain_answers_are_one_line_each(support):
    lines = support.run("route", "-", stdin="I want a refund\n\nzxqv\n").out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[0] == "refund"
    assert lines[1].startswith("(empty_text)")
    assert lines[2].startswith("(below_threshold)")


def test_a_slow_producer_gets_each_answer_at_once(support):
    process = support.start("route", "-", "--json")
    for text in ("I want a refund", "", "where is my order?"):
        process.stdin.write(text.encode() + b"\n")
        process.stdin.flush()
        assert json.loads(read_line(process))["text"] == text
    process.stdin.write(b"half a li")
    process.stdin.flush()
    assert not select.select([process.stdout], [], [], 0.3)[0]
    process.stdin.write(b"ne\n")
    process.stdin.flush()
    assert json.loads(read_line(process))["text"] == "half a line"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close(), process.stderr.close()


def test_what_another_process_changes_counts_from_the_next_line_on(support):
    process = support.start("route", "-", "--json")

    def ask():
        process.stdin.write(b"I want a refund\n")
        process.stdin.flush()
        return json.loads(read_line(process))

    assert ask()["route"] == "refund"
    support.run("remove", "refund")
    answer = ask()
    assert "refund" not in [answer["route"]] + [c["route"] for c in answer["candidates"]]
    assert answer["revision"] == 2
    support.run("add", "money back", "I want a refund")
    assert ask()["route"] == "money back"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close(), process.stderr.close()


def test_a_hundred_thousand_lines(support):
    texts = ["" if i % 500 else f"question {i} about a refund" for i in range(100000)]
    began = time.monotonic()
    lines = support.run("route", "-", "--json", "--top", "0", stdin="\n".join(texts) + "\n").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    assert time.monotonic() - began < 30


def test_a_huge_line(support):
    huge = "refund please " * 400000
    answers = support.run("route", "-", "--json", "--top", "0", stdin=f"first\n{huge}\nlast\n").json()
    assert [len(a["text"]) for a in answers] == [5, len(huge), 4]
    assert [a["truncated"] for a in answers] == [False, True, False]


@pytest.mark.slow
def test_a_line_beyond_the_maximum_is_named(support):
    result = support.run("route", "-", "--json", "--top", "0", stdin=b"first\n" + b"x" * 67108900 + b"\nlast\n",
                         expect=1)
    assert "standard input:2: the line is longer than 67108864 bytes" in result.err
    assert [a["text"] for a in result.json()] == ["first"]


def test_a_reader_that_leaves_ends_it_quietly(support):
    process = support.start("route", "-", "--json")
    process.stdin.write(b"I want a refund\n")
    process.stdin.flush()
    read_line(process)
    process.stdout.close()
    try:
        for _ in range(100):
            process.stdin.write(b"where is my order?\n" * 100)
            process.stdin.flush()
    except BrokenPipeError:
        pass
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(30) in (0, 1)
    assert process.stderr.read() == b""
    process.stderr.close()


def test_an_output_that_cannot_be_written_is_a_failure(support):
    with open("/dev/full", "wb") as full:
        process = support.start("route", "-", stdout=full)
        _, err = process.communicate(b"I want a refund\n", timeout=30)
    assert process.returncode == 1
    assert b"cannot write standard output: No space left" in err


def test_reading_goes_on_while_the_table_changes(support):
    process = support.start("route", "-", "--json")
    for i in range(5):
        process.stdin.write(b"I want a refund\n")
        process.stdin.flush()
        assert json.loads(read_line(process))["route"] == "refund"
        support.run("add", f"new_{i}", f"some text number {i}")
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close(), process.stderr.close()
    assert len(support.run("list", "--json").json()) == 15
