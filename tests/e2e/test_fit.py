"""fit, what import and add do to it, and out-of-scope examples. How good a fit is, is measured elsewhere."""

import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest

from conftest import ROOT

REPORT = ["kind", "revision", "routes", "utterances", "oos_examples", "labelled", "accuracy", "fast_share", "oos_auroc",
          "ece", "auto_threshold", "oos_accepted", "precision", "route_threshold", "seconds", "warnings"]
EXAMPLE = ROOT / "examples" / "customer-support.yaml"
OOS = "text,route\nwho wrote hamlet,oos\nhow tall is mount everest,oos\n"


@pytest.fixture(scope="session")
def fitted_database(tmp_path_factory, support_database):
    from conftest import Program
    program = Program(tmp_path_factory.mktemp("fitted"))
    program.run("import", EXAMPLE)
    return program.database


@pytest.fixture
def fitted(empty, fitted_database):
    """The customer-support example, imported and fitted."""
    empty.database.write_bytes(fitted_database.read_bytes())
    return empty


def info(program):
    return program.run("info", "--json").json()[0]


# ---- Fitting ------------------------------------------------------------------------------------

def test_import_fits_and_fit_says_what_it_found(empty):
    report = empty.run("import", EXAMPLE, "--json").json()[0]
    assert report["utterances_added"] == 64
    assert list(report["fit"]) == REPORT
    assert (report["fit"]["kind"], report["fit"]["revision"], report["fit"]["routes"]) == ("heads", 1, 10)
    assert list(report["fit"]["accuracy"]) == ["neighbours", "slow", "fast", "auto"]
    again = empty.run("import", EXAMPLE, "--json").json()[0]
    assert again["fit"] is None  # nothing changed since
    report = empty.run("fit", "--json").json()[0]
    assert list(report) == REPORT
    lines = empty.run("fit").out.splitlines()
    assert lines[0].startswith("fitted 10 routes with 64 utterances")
    assert any("held-out accuracy" in line for line in lines)
    about = info(empty)
    assert (about["fit"], about["fit_revision"], about["fit_pending"]) == ("heads", 1, 0)
    assert "trained heads, of revision 1" in empty.run("info").out
    assert empty.run("info", "--verify").status == 0


def test_import_replaces_a_fit_that_another_version_stored(empty):
    empty.run("import", EXAMPLE)
    with sqlite3.connect(empty.database) as database:  # eight bytes of magic, then the version
        database.execute("UPDATE fits SET bytes = CAST(substr(bytes, 1, 8) || x'01000000' || substr(bytes, 13) AS BLOB)")
    database.close()
    assert "version 1" in empty.run("route", "I want a refund").err
    again = empty.run("import", EXAMPLE, "--json").json()[0]
    assert (again["utterances_added"], again["fit"]["kind"]) == (0, "heads")
    assert empty.run("route", "I want a refund").err == ""
    assert empty.run("import", EXAMPLE, "--json").json()[0]["fit"] is None


def test_no_fit_leaves_the_table_to_neighbours(support):
    about = info(support)
    assert (about["fit"], about["auto_threshold"], about["fast_share"]) == ("none", None, None)
    answer = support.run("route", "I want a refund", "--json").json()[0]
    assert (answer["fitted"], answer["path"]) == (False, "slow")
    result = support.run("route", "x", "--path", "fast", expect=1)
    assert "synaptoroute fit" in result.err


def test_a_small_table_is_no_failure(empty):
    empty.run("add", "greet", "hello")
    report = empty.run("fit", "--json").json()[0]
    assert report["kind"] == "neighbours"
    assert report["accuracy"]["slow"] is None
    assert "nearest neighbour decides" in empty.run("fit").out
    assert empty.run("route", "hello", "--json").json()[0]["route"] == "greet"


def test_heads_decide_and_say_so(fitted):
    answer = fitted.run("route", "I want a refund", "--json", "--path", "slow").json()[0]
    assert (answer["route"], answer["fitted"], answer["path"]) == ("refund", True, "slow")
    assert answer["score"] == pytest.approx(1, abs=1e-5)
    if info(fitted)["fast_path"]:
        answer = fitted.run("route", "I want a refund", "--json", "--path", "fast", "--no-reject").json()[0]
        assert (answer["path"], answer["score"], answer["margin"]) == ("fast", None, None)
        assert all(c["score"] is None and c["utterance"] for c in answer["candidates"])


def test_a_stream_a_batch_and_arguments_agree(fitted):
    texts = ["I want a refund", "", "where is my parcel", "cancel it all", "zxqv", "talk to a human", "hello"] * 3
    for path in ("auto", "slow"):
        alone = [fitted.run("route", "--json", "--path", path, "--", text).json()[0] for text in texts[:7]] * 3
        batch = fitted.run("route", "--json", "--path", path, "--", *texts).json()
        lines = fitted.run("route", "-", "--json", "--path", path, "--threads", "1",
                           stdin="".join(f"{t}\n" for t in texts)).json()
        assert alone == batch == lines


def test_what_is_added_counts_at_once_and_fit_learns_it(fitted):
    fitted.run("add", "pastry", "bonjour monsieur croissant")
    assert info(fitted)["fit_pending"] == 1
    answer = fitted.run("route", "bonjour monsieur croissant", "--json").json()[0]
    assert (answer["route"], answer["fitted"]) == ("pastry", False)
    assert "1 changed since" in fitted.run("info").out
    fitted.run("fit")
    assert (info(fitted)["fit_pending"], info(fitted)["fit_revision"]) == (0, 2)


def test_a_removed_route_is_never_answered(fitted):
    fitted.run("remove", "refund")
    fast = ["fast"] if info(fitted)["fast_path"] else []
    for path in ["auto", "slow", *fast]:
        for answer in fitted.run("route", "I want a refund", "money back", "--json", "--no-reject", "--top", "20",
                                 "--path", path).json():
            assert "refund" not in [answer["route"], *(c["route"] for c in answer["candidates"])]


def test_another_process_takes_up_a_fit(support):
    process = support.start("route", "-", "--json", "--path", "slow")
    try:
        def ask():
            process.stdin.write(b"I want a refund\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        assert ask()["fitted"] is False
        support.run("fit")
        assert ask()["fitted"] is True
        support.run("remove", "refund")
        assert ask()["route"] != "refund"
    finally:
        process.stdin.close()
        assert process.wait(30) == 0


def test_labelled_texts(fitted):
    fitted.write("more.csv", "q,intent\ngive me my money,refund\nwho wrote hamlet,none\n")
    columns = ["--text-column", "q", "--route-column", "intent"]
    report = fitted.run("fit", "more.csv", *columns, "--oos-label", "none", "--json").json()[0]
    assert (report["labelled"], report["oos_examples"]) == (2, 0)
    assert info(fitted)["utterances"] == 64
    fitted.fails("fit", "more.csv", *columns, message='more.csv:3: the table has no route "none"')
    fitted.fails("fit", "-", message="say --format", status=2)
    fitted.fails("fit", "nothing.csv", message="nothing.csv: No such file")


def test_targets(fitted):
    report = fitted.run("fit", "--route", "refund", "--min-precision", "0.5", "--json").json()[0]
    assert 0 <= report["route_threshold"] <= 1
    (refund,) = [r for r in fitted.run("list", "--json").json() if r["route"] == "refund"]
    assert refund["confidence"] == pytest.approx(report["route_threshold"], abs=1e-6)
    assert "confidence" in fitted.run("list").out
    fitted.run("fit", "--max-oos", "0.05", "--min-precision", "none")
    for arguments, message in (
            (["--max-oos", "2"], "--max-oos 2: give a share"),
            (["--min-precision", "x"], "--min-precision x: give a number"),
            (["--route", "refund"], "--route needs --max-oos or --min-precision"),
            (["a.csv", "b.csv"], "give one FILE")):
        fitted.fails("fit", *arguments, message=message, status=2)
    fitted.fails("fit", "--route", "nowhere", "--min-precision", "0.9", message='there is no route "nowhere"')


def test_a_threshold_that_costs_much_is_warned_of(fitted):
    fitted.run("add", "refund", "--threshold", "1")
    report = fitted.run("fit", "--json").json()[0]
    (warning,) = [w for w in report["warnings"] if w["route"] == "refund"]
    assert list(warning) == ["route", "kind", "threshold", "texts", "turned_down"]
    assert (warning["kind"], warning["threshold"]) == ("cosine", 1)
    assert 0 < warning["turned_down"] <= warning["texts"]
    assert "warning: route refund: its cosine threshold of 1 turns down" in fitted.run("fit").out


def test_the_fast_model_can_be_named(fitted):
    report = fitted.run("--fast-model", "none", "fit", "--json").json()[0]
    assert report["fast_share"] is None
    assert info(fitted)["fast_path"] is False
    fitted.run("route", "x", "--path", "fast", expect=1)
    fitted.fails("--fast-model", "bge-small-en-v1.5", "fit", message="is no static model")
    fitted.fails("fit", "--fast-model", "./nothing", message="nothing")
    # A static model of its own needs no faster one.
    (fitted.directory / "synaptoroute.db").unlink()
    for suffix in ("-wal", "-shm"):
        (fitted.directory / f"synaptoroute.db{suffix}").unlink(missing_ok=True)
    fitted.run("--model", "static-en", "import", EXAMPLE)
    assert info(fitted)["fast_path"] is False


def test_a_killed_fit_leaves_the_one_before(fitted):
    fitted.run("add", "pastry", "bonjour monsieur croissant")
    for seconds in (0.05, 0.15, 0.3):
        process = fitted.start("fit", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
        about = info(fitted)
        assert about["fit"] == "heads" and about["fit_revision"] in (1, 2)
    fitted.run("info", "--verify")


def test_damage_of_the_fit_is_noticed_and_survived(fitted):
    with sqlite3.connect(fitted.database) as database:
        (length,) = database.execute("SELECT length(bytes) FROM fits").fetchone()
        database.execute("UPDATE fits SET bytes = CAST(substr(bytes, 1, ?) || x'5a5a' || substr(bytes, ?) AS BLOB)",
                         (length // 2, length // 2 + 3))
    database.close()
    result = fitted.run("route", "I want a refund", "--json")
    assert "is not used" in result.err
    assert (result.json()[0]["route"], result.json()[0]["fitted"]) == ("refund", False)
    assert "the fit in database" in fitted.run("info", "--verify", expect=1).err
    fitted.run("fit")
    fitted.run("info", "--verify")


def test_an_interrupted_import_keeps_what_it_stored(empty):
    empty.write("many.csv", "text,route\n" + "".join(f"a text of number {i} about {i % 7},r{i % 7}\n"
                                                     for i in range(1400)))
    process = empty.start("import", "many.csv")
    deadline = time.monotonic() + 60
    while not empty.database.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 1, -signal.SIGINT), err
    about = info(empty)
    assert about["utterances"] == 1400
    if process.returncode == 1:
        assert b"the table is imported, but not fitted" in err
        assert about["fit"] == "none"


# ---- Out of scope -------------------------------------------------------------------------------

def test_oos_rows_are_kept_shown_and_exported(support):
    support.write("oos.csv", OOS)
    receipt = support.run("import", "oos.csv", "--no-fit", "--json").json()[0]
    assert (receipt["oos_added"], receipt["routes_added"], receipt["utterances_added"]) == (2, 0, 0)
    about = info(support)
    assert (about["oos_examples"], about["routes"], about["utterances"]) == (2, 10, 64)
    assert "2 examples" in support.run("info").out
    assert "oos" not in support.run("list").out
    assert support.run("list", "--oos").out == "who wrote hamlet\nhow tall is mount everest\n"
    for ending in ("csv", "jsonl", "yaml"):
        support.run("export", f"out.{ending}")
        support.run("export", f"named.{ending}", "--oos-label", "nothing at all")
        for name, label in ((f"out.{ending}", "oos"), (f"named.{ending}", "nothing at all")):
            support.run("--db", f"{name}.db", "import", name, "--oos-label", label, "--no-fit")
            about = support.run("--db", f"{name}.db", "info", "--json").json()[0]
            assert (about["oos_examples"], about["routes"], about["utterances"]) == (2, 10, 64)
            if ending != "csv":
                assert support.run("--db", f"{name}.db", "export", "-", "--format", "jsonl").out == support.table()
    support.fails("export", "x.csv", "--oos-label", "refund", message="called \"refund\"")
    assert not (support.directory / "x.csv").exists()


def test_add_and_remove_oos(support):
    receipt = support.run("add", "--oos", "who wrote hamlet", "how are you", "--json").json()[0]
    assert receipt["oos_added"] == 2
    assert "1 out-of-scope example added, 1 already there" in support.run("add", "--oos", "x", "x").out
    support.fails("remove", "--oos", "not there", message="no out-of-scope example \"not there\"")
    assert "1 out-of-scope example removed" in support.run("remove", "--oos", "x").out
    assert support.run("list", "--oos", "--json").json() == [
        {"route": "oos", "utterances": ["who wrote hamlet", "how are you"]}]
    assert support.run("remove", "--oos", "--json").json()[0]["oos_removed"] == 2
    assert support.run("list", "--oos", "--json").out == ""
    support.fails("remove", "--oos", message="no out-of-scope examples")
    support.fails("remove", "oos", message='no route "oos"')
    support.fails("list", "oos", message='no route "oos"')
    support.fails("add", "--oos", message="give at least one TEXT", status=2)
    support.fails("add", "--oos", "x", "--threshold", "0.5", message="no settings", status=2)


def test_a_nearer_example_turns_a_text_down(support):
    text = "I would like a refund for the moon"
    support.run("add", "refund", "--threshold", "-1")
    assert support.run("route", text, "--json").json()[0]["route"] == "refund"
    support.run("add", "--oos", text)
    answer = support.run("route", text, "--json").json()[0]
    assert (answer["status"], answer["reason"]) == ("none", "below_threshold")
    assert [c["route"] for c in answer["candidates"]] and "oos" not in [c["route"] for c in answer["candidates"]]
    assert support.run("route", text, "--json", "--no-reject").json()[0]["route"] == "refund"


# ---- A database that is still to be made --------------------------------------------------------

def test_what_fails_makes_no_database(empty):
    empty.write("bad.csv", "text,route\nhello,greet\n,greet\n")
    empty.write("reserved.csv", "text,route,x\nhello,oos,1\n")
    for arguments in (["import", "bad.csv"], ["import", "reserved.csv", "--oos-label", "y"], ["add", "oos", "x"],
                      ["--model", "nothing", "add", "greet", "hello"], ["--model", "nothing", "add", "--oos", "hello"],
                      ["add", "greet", ""], ["add", "greet", "x", "--metadata", "{"]):
        empty.run(*arguments, expect=1)
        assert not [name for name in os.listdir(empty.directory) if ".db" in name], arguments


# ---- Spelling and strangers -----------------------------------------------------------------------

def test_misspelt_words_are_read_as_the_table_spells_them(fitted):
    text = "where is my parcle"
    [plain], [meant] = (fitted.run("route", "--json", "--path", "slow", *words).json()
                        for words in (["--as-is", text], ["where is my parcel"]))
    [mended] = fitted.run("route", "--json", "--path", "slow", text).json()
    assert mended["text"] == text and mended["read_as"] == "where is my parcel"
    assert "read_as" not in plain and "read_as" not in meant
    assert (mended["route"], mended["confidence"], mended["score"]) == (
        meant["route"], meant["confidence"], meant["score"])
    assert plain["score"] != mended["score"]
    assert "(read as: where is my parcel)" in fitted.run("route", text).out
    fitted.run("add", "parcles", "where is my parcle")  # now it is a word of the table
    [known] = fitted.run("route", "--json", text).json()
    assert known["route"] == "parcles" and "read_as" not in known


def test_unrelated_texts_are_turned_down(fitted):
    texts = ["what is the capital of France", "how do I bake bread", "asdf", "run this python script",
             "who won the world cup in 1998"]
    for decision in fitted.run("route", "--json", *texts).json():
        assert (decision["status"], decision["reason"]) == ("none", "below_threshold"), decision


def test_a_few_oos_examples_count_after_a_fit_too(fitted):
    text = "where is my parcel now please"
    assert fitted.run("route", "--json", text).json()[0]["status"] == "matched"
    fitted.run("add", "--oos", text)
    for _ in range(2):
        assert fitted.run("route", "--json", text).json()[0]["status"] == "none"
        fitted.run("fit")


def test_one_more_oos_example_does_not_make_strangers_welcome(fitted):
    examples = ["who wrote hamlet", "how tall is mount everest", "what is the square root of nine",
                "why is the sky blue", "tell me about the roman empire", "how do volcanoes work",
                "which planet is the largest", "who painted the mona lisa", "what do pandas eat",
                "how far away is the moon", "when did the titanic sink", "is a tomato a fruit"]
    asked = ["who wrote macbeth", "how deep is the ocean", "which planet is the smallest", "what do koalas eat"]
    fitted.run("add", "--oos", *examples)
    fitted.run("fit")
    before = fitted.run("route", "--json", "--path", "slow", *asked).json()
    fitted.run("add", "--oos", "how old is the universe")
    after = fitted.run("route", "--json", "--path", "slow", *asked).json()
    for old, new in zip(before, after):
        assert old["status"] == new["status"] == "none"
        assert new["confidence"] <= old["confidence"] + 0.05
