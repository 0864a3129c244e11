"""Help, options, route, add, remove, list and info."""

import pytest

COMMANDS = ["route", "add", "remove", "list", "info", "import", "export", "eval", "pull", "serve", "key"]
MEMBERS = ["text", "status", "route", "confidence", "score", "margin", "reason", "path", "truncated", "revision",
           "fitted", "candidates"]


# ---- Options ------------------------------------------------------------------------------------


def test_help_lists_every_command(empty):
    out = empty.run("--help").out
    for command in COMMANDS:
        assert f"\n  {command} " in out
    assert empty.run("-h").out == out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(empty, command):
    out = empty.run(command, "--help").out
    assert out.startswith(f"Usage: synaptoroute {command} ")
    assert "--db FILE" in out
    assert not empty.database.exists()


def test_version(empty):
    assert empty.run("--version").out == "synaptoroute 0.1.0\n"


@pytest.mark.parametrize("arguments, message", [
    ([], "give a command"),
    (["rout", "x"], "there is no command rout; did you mean route?"),
    (["server"], "there is no command server; did you mean serve?"),
    (["route"], "give a TEXT"),
    (["route", "x", "--topp", "3"], "there is no option --topp; did you mean --top?"),
    (["--dbb", "x", "list"], "there is no option --dbb; did you mean --db?"),
    (["route", "-x", "y"], "there is no option -x"),
    (["route", "x", "--top"], "--top needs a value"),
    (["route", "x", "--top", "many"], "--top many: give a whole number"),
    (["route", "x", "--top", "1001"], "--top 1001: give 0 to 1000"),
    (["route", "x", "--margin", "2.5"], "--margin 2.5: give 0 to 2"),
    (["eval", "x", "--margin", "-1"], "--margin -1: give 0 to 2"),
    (["route", "x", "--margin", "nan"], "--margin nan: give a number"),
    (["route", "x", "--path", "best"], "--path best: give auto, fast or slow"),
    (["route", "x", "--json=1"], "--json takes no value"),
    (["route", "x", "--threads", "0x"], "--threads 0x: give a whole number"),
    (["route", "x", "--threads", "257"], "--threads 257: give 1 to 256"),
    (["add", "r"], "give at least one TEXT"),
    (["add"], "give a ROUTE"),
    (["remove"], "give a ROUTE"),
    (["list", "a", "b"], "give one ROUTE"),
    (["info", "x"], "info takes no arguments"),
    (["import"], "give one FILE"),
    (["import", "-"], "say --format"),
    (["import", "x.csv", "--format", "xml"], "--format xml: give csv, jsonl or yaml"),
    (["export", "x.txt"], "say --format"),
    (["eval", "a.csv", "b.csv"], "give one FILE"),
    (["add", "r", "t", "--threshold", "1.01"], "--threshold 1.01: give a number from -1 to 1"),
    (["add", "r", "t", "--threshold", "nan"], "--threshold nan: give a number from -1 to 1"),
    (["add", "r", "t", "--threshold", "high"], "--threshold high: give a number"),
    (["add", "r", "t", "--confidence", "-0.1"], "--confidence -0.1: give a number from 0 to 1"),
    (["add", "r", "t", "--confidence", "inf"], "--confidence inf: give a number from 0 to 1"),
    (["add", "r", "t", "--confidence", "0.5", "--threshold", "0.5"], "not both"),
])
def test_wrong_usage_is_explained(empty, arguments, message):
    result = empty.run(*arguments, expect=2)
    assert message in result.err
    assert "--help" in result.err.splitlines()[-1]
    assert result.out == ""
    assert not empty.database.exists()


def test_global_options_stand_before_or_after_the_command(support):
    database = support.directory / "other.db"
    support.database.rename(database)
    first = support.run("--db", database, "--json", "route", "refund")
    second = support.run("route", "--json", "refund", f"--db={database}")
    assert first.out == second.out


def test_a_margin_makes_near_ties_ambiguous(support):
    support.run("add", "money", "I want a refund please")
    (answer,) = support.run("route", "I want a refund please", "--json").json()
    assert answer["reason"] == "matched" and 0 < answer["margin"] < 0.2
    (answer,) = support.run("route", "I want a refund please", "--margin", "0.2", "--json").json()
    assert (answer["status"], answer["route"], answer["reason"]) == ("none", None, "ambiguous")
    assert answer["candidates"][0]["route"] == "money"
    assert support.run("route", "I want a refund please", "--margin=0.2").out.startswith("(ambiguous)")
    (answer,) = support.run("route", "I want a refund please", "--margin", "0.2", "--no-reject", "--json").json()
    assert answer["route"] == "money"
    support.write("texts.csv", "text,route\nI want a refund please,money\n")
    assert support.run("eval", "texts.csv", "--json").json()[0]["accuracy"] == 1
    assert support.run("eval", "texts.csv", "--json", "--margin", "0.2").json()[0]["accuracy"] == 0


def test_two_dashes_end_the_options(support):
    assert support.run("route", "--json", "--", "--help").json()[0]["text"] == "--help"


# ---- route --------------------------------------------------------------------------------------


def test_the_promised_answer(support):
    answer = support.run("route", "--json", "How do I get my money back?").json()
    assert len(answer) == 1
    assert answer[0]["route"] == "refund"
    assert support.run("route", "How do I get my money back?").out.startswith("refund ")


def test_a_decision_has_the_members_of_the_contract(support):
    matched, none = support.run("route", "--json", "My parcel has not arrived", "zxqv").json()
    for decision in (matched, none):
        assert list(decision) == MEMBERS
        assert isinstance(decision["truncated"], bool)
        assert decision["revision"] == 1
        assert decision["path"] in ("fast", "slow")
        for candidate in decision["candidates"]:
            assert list(candidate) == ["route", "confidence", "score", "utterance"]
        scores = [candidate["score"] for candidate in decision["candidates"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3
    assert (matched["status"], matched["route"], matched["reason"]) == ("matched", "track_order", "matched")
    assert matched["candidates"][0]["route"] == "track_order"
    assert matched["score"] == matched["candidates"][0]["score"]
    assert matched["margin"] == pytest.approx(matched["score"] - matched["candidates"][1]["score"], abs=1e-6)
    assert (none["status"], none["route"], none["reason"]) == ("none", None, "below_threshold")
    assert 0 <= none["confidence"] <= 1


def test_a_blank_text_is_an_answer(support):
    for decision in support.run("route", "--json", "", " \t").json():
        assert (decision["status"], decision["reason"]) == ("none", "empty_text")
        assert decision["route"] is decision["confidence"] is decision["score"] is decision["margin"] is None
        assert decision["candidates"] == []


def test_an_empty_table_is_an_answer(empty):
    empty.run("add", "r", "some text")
    empty.run("remove", "r")
    decision = empty.run("route", "--json", "hello").json()[0]
    assert (decision["status"], decision["reason"]) == ("none", "empty_table")


def test_top_and_no_reject(support):
    assert support.run("route", "--json", "--top", "0", "refund").json()[0]["candidates"] == []
    assert len(support.run("route", "--json", "--top", "5", "refund").json()[0]["candidates"]) == 5
    assert len(support.run("route", "--json", "--top=1000", "refund").json()[0]["candidates"]) == 10
    decision = support.run("route", "--json", "--no-reject", "zxqv").json()[0]
    assert decision["status"] == "matched"
    assert decision["route"] == decision["candidates"][0]["route"]


def test_paths(support):
    assert support.run("route", "--json", "--path", "slow", "refund").json()[0]["path"] == "slow"
    support.fails("route", "--path", "fast", "refund", message="fast")


def test_a_long_text_is_truncated(support):
    short, long = support.run("route", "--json", "refund", "money back please " * 1000).json()
    assert short["truncated"] is False
    assert long["truncated"] is True
    assert "truncated" in support.run("route", "money back please " * 1000).out


def test_an_utterance_scores_one(support):
    decision = support.run("route", "--json", "I want a refund").json()[0]
    assert decision["score"] == pytest.approx(1, abs=1e-5)
    assert decision["candidates"][0]["utterance"] == "I want a refund"


def test_plain_output_cannot_play_with_the_terminal(support):
    result = support.run("route", "a\x1b[2J\x07b \x9b31m \u009b31m refund")
    assert not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in result.out)


def test_threads_do_not_change_the_answer(support):
    one = support.run("route", "--json", "--threads", "1", "where is it", "money").out
    assert support.run("route", "--json", "--threads", "3", "where is it", "money").out == one


def test_a_missing_database_is_explained(empty):
    for command in (["route", "x"], ["list"], ["info"], ["export", "-"], ["remove", "r"]):
        result = empty.run(*command, expect=1)
        assert "there is no database synaptoroute.db; make one with" in result.err
        assert not empty.database.exists()


def test_an_unknown_model_is_explained(support):
    result = support.run("--model", "no-such-model", "route", "x", expect=1)
    assert "no-such-model" in result.err


# ---- add, remove, list, info --------------------------------------------------------------------


def test_add_extends_a_route(empty):
    empty.run("add", "greet", "hello", "good morning", "--threshold", "0.5", "--description", "says hello",
              "--metadata", '{"a": [1, {"b": null}]}')
    receipt = empty.run("add", "greet", "hello", "hi there", "--json").json()[0]
    assert receipt == {"revision": 2, "routes_added": 0, "routes_changed": 1, "routes_removed": 0,
                       "utterances_added": 1, "utterances_removed": 0, "duplicates": 1,
                       "oos_added": 0, "oos_removed": 0, "durability": "normal", "lost": 0}
    route = empty.run("list", "greet", "--json").json()[0]
    assert route == {"route": "greet", "description": "says hello", "threshold": 0.5,
                     "metadata": {"a": [1, {"b": None}]}, "utterances": ["hello", "good morning", "hi there"]}


def test_settings_change_without_a_text(empty):
    empty.run("add", "r", "text")
    empty.run("add", "r", "--confidence", "0.9")
    assert empty.run("list", "r", "--json").json()[0]["confidence"] == 0.9
    empty.run("add", "r", "--threshold", "auto", "--description", "d")
    route = empty.run("list", "r", "--json").json()[0]
    assert "confidence" not in route and "threshold" not in route
    assert route["description"] == "d"


def test_a_threshold_decides(empty):
    empty.run("add", "r", "I want a refund")
    assert empty.run("route", "--json", "I want money").json()[0]["status"] == "matched"
    empty.run("add", "r", "--threshold", "0.99")
    assert empty.run("route", "--json", "I want money").json()[0]["reason"] == "below_threshold"


def test_an_added_utterance_counts_at_once(support):
    text = "zebra crossing marmalade"
    assert support.run("route", "--json", text).json()[0]["score"] < 0.9
    support.run("add", "zebra", text)
    assert support.run("route", "--json", text).json()[0]["route"] == "zebra"


def test_remove_a_route(support):
    assert support.run("remove", "refund").out.startswith("removed route refund: 8 utterances removed")
    assert support.run("route", "--json", "I want a refund").json()[0]["route"] != "refund"
    support.fails("remove", "refund", message="refund")


def test_remove_utterances(support):
    support.run("remove", "refund", "I want a refund")
    assert "I want a refund" not in support.run("list", "refund", "--json").json()[0]["utterances"]
    support.fails("remove", "refund", "My refund is less than what I paid", "never said this",
                  message="never said this")


def test_list_shows_routes_in_order(support):
    lines = support.run("list").out.splitlines()
    assert lines[0].split() == ["ROUTE", "UTTERANCES", "THRESHOLD", "DESCRIPTION"]
    assert [line.split()[0] for line in lines[1:3]] == ["refund", "return_item"]
    assert len(lines) == 11
    routes = support.run("list", "--json").json()
    assert routes[0]["utterance_count"] == 8
    assert "utterances" not in routes[0]
    assert len(support.run("list", "--json", "--utterances").json()[0]["utterances"]) == 8
    assert "  - I want a refund" in support.run("list", "refund").out.splitlines()
    support.fails("list", "no_such_route", message="no_such_route")


def test_info(support):
    info = support.run("info", "--json").json()[0]
    assert (info["routes"], info["utterances"], info["revision"], info["models"]) == (10, 64, 1, 1)
    assert info["version"] == "0.1.0"
    assert info["stored_model"] == "bge-small-en-v1.5"
    assert info["read_only"] is False
    assert "10, with 64 utterances" in support.run("info").out
    verified = support.run("info", "--verify", "--json").json()[0]
    assert verified["verified"] is True
    assert len(verified["fingerprint"]) == 64


@pytest.mark.parametrize("arguments, message", [
    (["add", "", "text"], "name"),
    (["add", "n" * 10240, "text"], "512"),
    (["add", "refund", ""], "blank"),
    (["add", "refund", " \t "], "blank"),
    (["add", "refund", "good", ""], "blank"),
    (["add", "refund", "x" * 70000], "65536"),
    (["add", "refund", b"\xff\xfe"], "UTF-8"),
    (["add", b"\xff", "text"], "UTF-8"),
    (["add", "refund", "text", "--metadata", "{broken"], "metadata"),
    (["add", "refund", "text", "--metadata", '{"a": NaN}'], "metadata"),
    (["add", "refund", "text", "--description", "d" * 70000], "65536"),
])
def test_what_cannot_be_stored_is_refused(support, arguments, message):
    result = support.fails(*arguments, message=message)
    assert len(result.err.splitlines()) == 1


def test_texts_come_back_as_they_were(support):
    text = 'quote " backslash \\ tab \t newline \n emoji \U0001F600 delete \x7f'
    assert support.run("route", "--json", text).json()[0]["text"] == text
    assert support.run("route", "--json", b"a \xed\xa0\xbd b").json()[0]["text"] == "a \ufffd\ufffd\ufffd b"
