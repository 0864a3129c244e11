"""eval: figures, report and predictions."""

import csv
import json

import pytest

MEMBERS = ["n", "accuracy", "in_scope_accuracy", "top3", "macro_f1", "oos_recall", "oos_auroc", "fpr95", "ece",
           "fast_share", "seconds", "queries_per_second", "latency_ms"]
CASES = """text,route
I would like my money back,refund
please refund me,refund
where is my parcel,track_order
has my package been shipped,track_order
I cannot sign in,account_access
connect me to a human being,human_agent
please send me the invoice,invoice
zxqv wbrt,oos
how tall is mount everest,oos
"""


@pytest.fixture
def cases(support):
    support.write("cases.csv", CASES)
    return support


def test_figures_have_the_members_of_the_contract(cases):
    figures = cases.run("eval", "cases.csv", "--json").json()[0]
    assert list(figures) == MEMBERS
    assert list(figures["latency_ms"]) == ["p50", "p99"]
    assert figures["n"] == 9
    for name in MEMBERS[1:10]:
        assert 0 <= figures[name] <= 1, name
    assert figures["in_scope_accuracy"] >= 6 / 7 - 1e-6
    assert figures["oos_auroc"] > 0.9
    assert figures["fast_share"] == 0
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]


def test_figures_agree_with_the_predictions(cases):
    figures = cases.run("eval", "cases.csv", "--json", "--predictions", "p.csv").json()[0]
    with open(cases.directory / "p.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "expected", "predicted", "status", "reason", "confidence", "score", "margin", "right"]
    assert [row["text"] for row in rows] == [row["text"] for row in csv.DictReader(CASES.splitlines())]
    right = [(row["predicted"] or "oos") == row["expected"] for row in rows]
    assert right == [row["right"] == "1" for row in rows]
    assert figures["accuracy"] == pytest.approx(sum(right) / 9, abs=1e-6)
    rejected = [row["status"] == "none" for row in rows if row["expected"] == "oos"]
    assert figures["oos_recall"] == pytest.approx(sum(rejected) / 2, abs=1e-6)
    decisions = cases.run("route", "-", "--json", stdin="\n".join(r["text"] for r in rows)).json()
    assert [d["route"] or "" for d in decisions] == [row["predicted"] for row in rows]
    assert [d["score"] for d in decisions] == pytest.approx([float(row["score"]) for row in rows], abs=1e-6)


def test_nothing_to_measure_is_null(support):
    support.write("in.csv", "text,route\nI want a refund,refund\n")
    figures = support.run("eval", "in.csv", "--json").json()[0]
    assert figures["accuracy"] == 1
    assert figures["oos_recall"] is figures["oos_auroc"] is figures["fpr95"] is None
    support.write("out.csv", "text,route\nzxqv,oos\n,oos\n")
    figures = support.run("eval", "out.csv", "--json").json()[0]
    assert figures["oos_recall"] == 1
    assert figures["in_scope_accuracy"] is figures["top3"] is None


def test_no_reject_accepts_everything(cases):
    figures = cases.run("eval", "cases.csv", "--json", "--no-reject").json()[0]
    assert figures["oos_recall"] == 0


def test_plain_figures(cases):
    out = cases.run("eval", "cases.csv").out
    assert out.startswith("texts                    9 (2 out of scope)\naccuracy ")


def test_other_formats_and_labels(cases):
    lines = [json.dumps({"q": row["text"], "intent": row["route"].replace("oos", "none of them")})
             for row in csv.DictReader(CASES.splitlines())]
    cases.write("cases.jsonl", "\n".join(lines))
    one = cases.run("eval", "cases.csv", "--json").json()[0]
    two = cases.run("eval", "cases.jsonl", "--json", "--text-column", "q", "--route-column", "intent",
                    "--oos-label", "none of them").json()[0]
    for name in MEMBERS[:10]:
        assert one[name] == two[name]
    cases.run("export", "table.yaml")
    assert cases.run("eval", "table.yaml", "--json").json()[0]["accuracy"] == 1


def test_unknown_labels_are_warned_of(cases):
    cases.write("unknown.csv", "text,route\nhello,greeting\nI want a refund,refund\n")
    result = cases.run("eval", "unknown.csv", "--json")
    assert "warning: 1 labels are not routes of the table, so their texts count as wrong: greeting" in result.err
    assert result.json()[0]["accuracy"] == 0.5
    assert cases.run("eval", "unknown.csv", "--quiet").err == ""


def test_the_report_is_one_page_without_network(cases):
    cases.write("cases.csv", CASES + '"<script>alert(1)</script>",refund\n')
    cases.run("eval", "cases.csv", "--html", "report.html")
    page = (cases.directory / "report.html").read_text(encoding="utf-8")
    for part in ("Figures", "Reliability", "Routes, worst first", "Confusion matrix", "Failures", "<svg"):
        assert part in page
    assert "&lt;script&gt;alert(1)" in page
    for outside in ("http:", "https:", "<script", "<link", "@import", "src="):
        assert outside not in page


def test_bad_input_is_explained_before_the_work(cases):
    cases.write("none.csv", "text,route\n")
    for arguments, message in [(["none.csv"], "none.csv holds no texts"),
                               (["nothing.csv"], "nothing.csv: No such file"),
                               (["cases.csv", "--html", "no/such/x.html"], "no/such/x.html"),
                               (["cases.csv", "--predictions", "."], "is a directory"),
                               (["cases.csv", "--route-column", "intent"], 'no column "intent"')]:
        result = cases.run("eval", *arguments, expect=1)
        assert message in result.err


def test_eval_changes_nothing(cases):
    before = cases.table()
    cases.run("eval", "cases.csv")
    assert cases.table() == before
    assert cases.run("info", "--json").json()[0]["revision"] == 1
