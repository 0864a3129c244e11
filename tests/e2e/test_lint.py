"""lint: planted problems in a table of real texts, and none in a clean one."""

import pytest

KINDS = ["empty_route", "few_utterances", "duplicate", "near_duplicate", "unreachable_route", "overlap", "threshold",
         "oos_near", "lost_utterance"]
MEMBERS = ["kind", "route", "other_route", "utterance", "other_utterance", "cosine", "own_cosine", "share", "count",
           "threshold"]
CLEAN = """text,route
play some jazz,music
put on a song by the beatles,music
play my favourite playlist,music
turn up the music,music
skip this song,music
what is the weather today,weather
will it rain tomorrow,weather
is it going to snow this weekend,weather
how hot is it outside today,weather
what is the weather forecast for tomorrow,weather
"""


@pytest.fixture
def clean(empty):
    empty.write("clean.csv", CLEAN)
    empty.run("import", "clean.csv")
    return empty


def findings(program, *arguments, kind=None):
    report = program.run("lint", "--json", *arguments).json()[0]
    assert list(report) == ["revision", "routes", "utterances", "oos_examples", "counts", "findings"]
    assert list(report["counts"]) == KINDS
    for finding in report["findings"]:
        assert list(finding) == MEMBERS
    return [f for f in report["findings"] if kind in (None, f["kind"])]


def test_a_clean_table_has_no_findings(clean):
    assert findings(clean) == []
    assert clean.run("lint", "--strict").out == "2 routes, 10 utterances: nothing found\n"


def test_planted_problems_are_found(clean):
    clean.run("add", "forecast", "What is the WEATHER today?", "will it rain tomorrow morning")
    clean.run("add", "strict", "book a flight to paris", "order a pizza", "my leg hurts", "the file is corrupt",
              "feed the cat", "--threshold", "0.9")
    clean.run("add", "hollow", "--description", "nothing in it")
    one = findings(clean, kind="duplicate")
    assert [(f["route"], f["other_route"], f["utterance"], f["other_utterance"]) for f in one] == [
        ("weather", "forecast", "what is the weather today", "What is the WEATHER today?")]
    near = findings(clean, kind="near_duplicate")
    assert ("will it rain tomorrow", "will it rain tomorrow morning") in [
        (f["utterance"], f["other_utterance"]) for f in near]
    assert all(0.95 <= f["cosine"] <= 1 for f in near)
    assert [f["route"] for f in findings(clean, kind="empty_route")] == ["hollow"]
    assert [(f["route"], f["count"]) for f in findings(clean, kind="few_utterances")] == [("forecast", 2)]
    assert [(f["route"], f["other_route"], f["count"]) for f in findings(clean, kind="unreachable_route")] == [
        ("forecast", "weather", 2)]
    assert [{f["route"], f["other_route"]} for f in findings(clean, kind="overlap")] == [{"weather", "forecast"}]
    strict = findings(clean, kind="threshold")
    assert [(f["route"], f["count"], f["share"], f["threshold"]) for f in strict] == [("strict", 5, 1, 0.9)]
    lost = findings(clean, kind="lost_utterance")
    assert {"What is the WEATHER today?", "will it rain tomorrow morning"} <= {f["utterance"] for f in lost}
    for finding in lost:
        assert finding["cosine"] > finding["own_cosine"]


def test_out_of_scope_examples_are_compared(clean):
    clean.write("oos.csv", "text,route\nwhat will the weather be tomorrow,oos\nwho wrote hamlet,oos\n")
    clean.run("import", "oos.csv")
    near = findings(clean, kind="oos_near")
    assert [(f["route"], f["other_utterance"]) for f in near] == [("weather", "what will the weather be tomorrow")]


def test_findings_are_no_failure_unless_strict(clean):
    clean.run("add", "forecast", "what is the weather today")
    assert clean.run("lint").out.startswith("3 routes, 11 utterances: ")
    result = clean.run("lint", "--strict", expect=1)
    assert result.err.startswith("synaptoroute: lint: ") and "finding" in result.err
    assert "what is the weather today" in result.out


def test_limits_and_thresholds(clean):
    clean.run("add", "other", "play some jazz now", "is it going to snow", "turn the music up", "skip this one")
    every = findings(clean, "--near", "0.5")
    counts = clean.run("lint", "--json", "--near", "0.5", "--limit", "1").json()[0]
    assert len(counts["findings"]) == sum(count > 0 for count in counts["counts"].values())
    assert sum(counts["counts"].values()) == len(every)
    assert "more (--limit 0 shows all)" in clean.run("lint", "--near", "0.5", "--limit", "1").out
    assert "more (" not in clean.run("lint", "--near", "0.5", "--limit", "0").out
    assert findings(clean, "--near", "1", kind="near_duplicate") == []
    assert findings(clean, "--few", "4", kind="few_utterances") == []
    assert findings(clean, "--overlap", "1", kind="overlap") == []


def test_the_answer_does_not_depend_on_threads(clean):
    clean.run("add", "other", "play some jazz now", "is it going to snow", "turn the music up", "skip this one")
    one, two = (clean.run("--threads", n, "lint", "--json", "--near", "0.5").out for n in ("1", "2"))
    assert one == two


def test_nothing_is_changed_and_mistakes_are_explained(clean):
    before = clean.table()
    for arguments, message in [(["--near", "2"], "--near"), (["--few", "0"], "--few 0"), (["music"], "music is too much"),
                               (["--overlap", "0"], "--overlap"), (["--limit", "-1"], "--limit -1")]:
        assert message in clean.run("lint", *arguments, expect=2).err
    clean.run("lint")
    assert clean.table() == before


def test_a_table_that_is_not_there(empty):
    assert "there is no database" in empty.run("lint", expect=1).err
