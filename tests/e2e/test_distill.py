"""Static models: the shipped one at work, and one made by `distill`."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

from conftest import PROGRAM, ROOT, Program

TEXTS = ["Where is my parcel?", "I want my money back", "How do I reset my password?", "Cancel my subscription",
         "My card was charged twice", "Speak to a human, please", "Is the shop open on Sunday?"]
FILES = {"config.json", "tokenizer.json", "model.safetensors", "synaptoroute.json"}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A model of 32 dimensions from the shipped transformer, fitted to lines of text; made once."""
    program = Program(tmp_path_factory.mktemp("distill"))
    program.write("texts.txt", "\n".join(TEXTS) + "\n\n   \n")
    program.report = program.run("--json", "distill", "model", "--dimension", "32", "--texts", "texts.txt",
                                 "--threads", "2").json()
    return program


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- the shipped model


@pytest.fixture(scope="session")
def support(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("static"))
    program.run("--model", "static-en", "import", ROOT / "examples" / "customer-support.yaml")
    return program


def test_shipped_static_model_decides(support):
    answers = support.run("--model", "static-en", "--json", "route", "--no-reject", "my parcel has not arrived",
                          "i forgot my password", "please give me a refund").json()
    text = " ".join(answer["route"] for answer in answers)
    assert all(answer["status"] == "matched" for answer in answers), text
    assert len({answer["route"] for answer in answers}) == 3, text


def test_a_text_of_unknown_characters_is_decided_like_any_other(support):
    answer = support.run("--model", "static-en", "--json", "route", "\N{ALCHEMICAL SYMBOL FOR AIR}").json()[0]
    assert answer["status"] == "none"
    assert answer["reason"] == "below_threshold"
    assert answer["score"] < 0.3


def test_vectors_of_the_transformer_are_not_taken_for_static_ones(support):
    result = support.run("route", "hello", expect=1)
    assert "static-en" in result.err


def test_info_verifies_the_static_model(support):
    info = support.run("--model", "static-en", "--json", "info", "--verify").json()[0]
    assert info["model"] == "static-en" and info["dimension"] == 256


def test_a_start_with_the_static_model_is_quicker_and_smaller(support):
    with open(PROGRAM, "rb") as file:
        if b"__asan_init" in file.read():
            pytest.skip("a program with sanitizers is neither")
    times = []
    while len(times) < 30 and min(times, default=1) >= 0.03:  # other work may be on this machine
        began = time.monotonic()
        support.run("--model", "static-en", "route", "How do I get my money back?")
        times.append(time.monotonic() - began)
    assert min(times) < 0.03, times
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", code, PROGRAM, "--model", "static-en", "route", "money"],
                          cwd=support.directory, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 45 * 1024  # KiB, on Linux


# ---- distill


def test_distill_reports_what_it_made(made):
    (report,) = made.report
    assert report["model"] == "model" and report["dimension"] == 32 and report["texts"] == len(TEXTS)
    assert len(report["fingerprint"]) == 64 and report["seconds"] > 0
    assert {path.name for path in (made.directory / "model").iterdir()} == FILES
    assert not list(made.directory.glob("*.tmp"))


def test_the_model_has_model2vecs_layout(made):
    model = made.directory / "model"
    config = json.loads((model / "config.json").read_text())
    assert config["model_type"] == "model2vec" and config["hidden_dim"] == 32 and config["normalize"] is True
    data = (model / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    assert (8 + length) % 64 == 0
    assert header["embeddings"]["dtype"] == "I8" and header["embeddings"]["shape"] == [30522, 32]
    assert header["weights"]["dtype"] == "F32" and header["weights"]["shape"] == [30522]
    described = json.loads((model / "synaptoroute.json").read_text())
    for name, entry in described["files"].items():
        assert entry["sha256"] == digest(model / name) and entry["bytes"] == (model / name).stat().st_size
    assert set(described["files"]) == FILES - {"synaptoroute.json"}


def test_the_model_can_be_used(made):
    made.run("--model", "./model", "add", "parcel", "Where is my parcel?", "My delivery is late")
    made.run("--model", "./model", "add", "refund", "I want my money back", "Refund me")
    answers = made.run("--model", "./model", "--json", "route", "--no-reject", "where is the parcel",
                       "give me the money back").json()
    assert [answer["route"] for answer in answers] == ["parcel", "refund"]
    assert answers[0]["score"] > 0.6


@pytest.mark.slow
def test_file_format_and_threads_do_not_change_a_byte(made, tmp_path):
    path = tmp_path / "texts.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("query", "label"), *((text, "x") for text in TEXTS)])
    program = Program(tmp_path)
    program.run("distill", "model", "--dimension", "32", "--texts", path, "--text-column", "query",
                "--route-column", "label", "--threads", "1")
    for name in FILES:
        assert digest(tmp_path / "model" / name) == digest(made.directory / "model" / name), name


def test_an_existing_directory_is_kept(empty):
    (empty.directory / "mine").mkdir()
    kept = empty.write("mine/note.txt", "mine")
    result = empty.run("distill", "mine", expect=1)
    assert "exists already" in result.err
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("arguments, message, status", [
    ((), "name one directory", 2),
    (("a", "b"), "name one directory", 2),
    (("out", "--dimension", "4"), "--dimension 4", 2),
    (("out", "--dimension", "500"), "dimension 500 is not from 8 to the 384", 1),
    (("out", "--model", "static-en"), "static model already", 1),
    (("out", "--model", "no-such-model"), "no-such-model", 1),
    (("out", "--texts", "no-such-file"), "no-such-file", 1),
    (("out", "--texts", "blank.txt"), "no texts", 1),
    (("no/such/place",), "no/such/place", 1),
])
def test_what_cannot_be_done_is_said_and_nothing_is_left(empty, arguments, message, status):
    empty.write("blank.txt", "\n  \n\n")
    result = empty.run("distill", *arguments, expect=status)
    assert message in result.err, result.err
    assert [path.name for path in empty.directory.iterdir()] == ["blank.txt"]


def test_an_interrupt_stops_it_and_leaves_nothing(empty):
    process = empty.start("distill", "model")
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nothing was written" in err.decode()
    assert list(empty.directory.iterdir()) == []
