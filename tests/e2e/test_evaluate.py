"""eval: figures, report and predictions."""

import base64
import csv
import hashlib
import html.parser
import json
import math
import re

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
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]


def test_figures_agree_with_the_predictions(cases):
    figures = cases.run("eval", "cases.csv", "--json", "--predictions", "p.csv").json()[0]
    with open(cases.directory / "p.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "expected", "predicted", "best", "confidence", "score", "margin", "reason", "path",
                             "right"]
    assert {row["path"] for row in rows} <= {"slow", "fast"}
    assert [row["text"] for row in rows] == [row["text"] for row in csv.DictReader(CASES.splitlines())]
    right = [(row["predicted"] or "oos") == row["expected"] for row in rows]
    assert right == [row["right"] == "1" for row in rows]
    assert figures["accuracy"] == pytest.approx(sum(right) / 9, abs=1e-6)
    rejected = [row["predicted"] == "" for row in rows if row["expected"] == "oos"]
    for row in rows:
        assert (row["reason"] == "matched") == (row["predicted"] != "")
        assert row["predicted"] in ("", row["best"])
    assert figures["oos_recall"] == pytest.approx(sum(rejected) / 2, abs=1e-6)
    decisions = cases.run("route", "-", "--json", stdin="\n".join(r["text"] for r in rows)).json()
    assert [d["route"] or "" for d in decisions] == [row["predicted"] for row in rows]
    assert [d["candidates"][0]["route"] for d in decisions] == [row["best"] for row in rows]
    for name in ("confidence", "score", "margin"):
        for decision, row in zip(decisions, rows, strict=True):
            assert (decision[name] is None) == (row[name] == ""), name
            assert decision[name] is None or decision[name] == pytest.approx(float(row[name]), abs=1e-6)


def test_scope_figures_are_those_of_the_confidences(cases):
    figures = cases.run("eval", "cases.csv", "--json", "--predictions", "p.csv").json()[0]
    with open(cases.directory / "p.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    of = {scope: [float(r["confidence"]) for r in rows if (r["expected"] == "oos") == (scope == "out")]
          for scope in ("in", "out")}
    pairs = [(a > b) + (a == b) / 2 for a in of["in"] for b in of["out"]]
    assert figures["oos_auroc"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    bins = {}
    for row in rows:
        confidence = float(row["confidence"])
        one = bins.setdefault(max(math.ceil(confidence * 15) - 1, 0), [0, 0.0])
        one[0] += row["best"] == row["expected"]
        one[1] += confidence
    assert figures["ece"] == pytest.approx(sum(abs(r - c) for r, c in bins.values()) / len(rows), abs=1e-6)


def test_each_path_can_be_measured(cases):
    """The fast path knows no cosines: what is made of confidences is there all the same."""
    cases.run("fit")
    shares = {}
    for path in ("fast", "slow", "auto"):
        figures = cases.run("eval", "cases.csv", "--json", "--path", path, "--predictions", "p.csv", "--html",
                            "r.html").json()[0]
        shares[path] = figures["fast_share"]
        with open(cases.directory / "p.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(row["path"] == "fast" for row in rows) / 9 == pytest.approx(figures["fast_share"], abs=1e-6)
        for row in rows:
            assert (row["score"] == "") == (row["path"] == "fast")
            assert 0 <= float(row["confidence"]) <= 1
        assert 0.5 < figures["oos_auroc"] <= 1 and 0 <= figures["fpr95"] <= 1 and figures["ece"] is not None
        page = Page((cases.directory / "r.html").read_text(encoding="utf-8"))
        assert f"path {path}" in page.text
        assert float(page.figures["Fast path"]) == pytest.approx(figures["fast_share"], abs=1e-6)
        assert len(page.attributes("polyline")) == 1
    assert (shares["fast"], shares["slow"]) == (1, 0) and 0 <= shares["auto"] <= 1


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


# ---- The report -------------------------------------------------------------------------------------------------

VOID = {"meta", "input", "br", "link", "img"}
OPTIONAL = {"td", "th", "tr", "dt", "dd", "tbody", "thead"}  # end tags that HTML lets be left out


class Page(html.parser.HTMLParser):
    """Tags with their attributes, tables as lists of rows of texts, and figures; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.figures, self.terms = [], [], {}, {}, []
        self.rows, self.cell, self.script, self.text = None, None, "", ""
        self.feed(text)
        self.close()
        assert [t for t in self.open if t not in OPTIONAL] == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(attributes.get("id"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = attributes
        elif tag == "dt":
            self.terms.append("")
        elif tag == "data":
            self.figures[self.terms[-1]] = attributes["value"]

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open[-1] != tag:
            assert self.open.pop() in OPTIONAL, (tag, self.open)
        self.open.pop()
        if tag == "table":
            self.rows = None

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] == ["script"]:
            self.script += data
        elif self.rows is not None and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data
        elif self.open[-1:] == ["dt"]:
            self.terms[-1] += data

    def attributes(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture
def report(cases):
    cases.write("cases.csv", CASES + '"<script>alert(1)</script> & ""it""",refund\nsend me a pizza,track_order\n')
    cases.run("add", "refund", "--confidence", "0.6")
    figures = cases.run("eval", "cases.csv", "--json", "--html", "report.html", "--predictions", "p.csv").json()[0]
    with open(cases.directory / "p.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Page((cases.directory / "report.html").read_text(encoding="utf-8")), figures, rows


def test_the_report_is_one_page_without_network(cases, report):
    page, _, _ = report
    text = (cases.directory / "report.html").read_text(encoding="utf-8")
    for outside in ("http:", "https:", "<link", "@import", "src=", "url(", "javascript:"):
        assert outside not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;it&quot;" in text
    assert len(page.attributes("script")) == 1 and "alert" not in page.script
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    policy = page.attributes("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_the_report_says_what_was_measured(report):
    page, figures, rows = report
    for part in ("synaptoroute.db", "bge-small-en-v1.5", "path auto", "synaptoroute 0.", "UTC", "11, 2 of them out of scope"):
        assert part in page.text, part
    for name, member in (("Accuracy", "accuracy"), ("In-scope accuracy", "in_scope_accuracy"), ("Top 3", "top3"),
                         ("Macro F1", "macro_f1"), ("Out-of-scope recall", "oos_recall"), ("FPR at 95 %", "fpr95"),
                         ("Out-of-scope AUROC", "oos_auroc"), ("Calibration error", "ece"), ("Fast path", "fast_share")):
        assert float(page.figures[name]) == pytest.approx(figures[member], abs=1e-6), name


def test_the_report_lists_every_route_and_failure(report):
    page, _, rows = report
    routes = {row[0]: row for row in page.tables["labels"][1:]}
    for name in {row["expected"] for row in rows}:
        mine = [row for row in rows if row["expected"] == name]
        answered = [row for row in rows if (row["predicted"] or "oos") == name]
        right = sum(row["right"] == "1" for row in mine)
        shown = routes["(none)" if name == "oos" else name]
        assert shown[1:4] == [str(len(mine)), str(len(answered)), str(right)]
        assert shown[5] == f"{100 * right / len(mine):.1f}\u202f%"
    wrong = sorted((row for row in rows if row["right"] == "0"), key=lambda row: -float(row["confidence"]))
    failing = page.tables["failing"][1:]
    assert wrong and [row[1] for row in failing] == [row["text"] for row in wrong]
    for shown, row in zip(failing, wrong, strict=True):
        assert shown[2] == row["expected"].replace("oos", "(none)")
        assert shown[3:5] == [row["predicted"] or "(none)", row["reason"]]
        for text, name in zip(shown[5:8], ("confidence", "score", "margin"), strict=True):
            assert text == "\u2013" if row[name] == "" else float(text) == pytest.approx(float(row[name]), abs=6e-4)
        assert shown[8] == row["path"]
        assert row["best"] in shown[9]
    pairs = {}
    for row in wrong:
        key = (row["expected"].replace("oos", "(none)"), row["predicted"] or "(none)")
        pairs[key] = pairs.get(key, 0) + 1
    assert {(row[0], row[1]): int(row[2]) for row in page.tables["pairs"][1:]} == pairs


def test_the_drawings_show_the_predictions(report):
    page, figures, rows = report
    right = sum(row["best"] == row["expected"] for row in rows)
    numbers = page.tables["bins"][1:]
    assert sum(int(row[1]) for row in numbers) == len(rows)
    assert sum(round(int(row[1]) * float(row[3])) for row in numbers) == right
    line = page.attributes("polyline")[0]["points"].split()
    points = [tuple(map(float, point.split(","))) for point in line]
    assert points[0] == (44, 312) and points[-1] == (344, 12)
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in zip(points, points[1:]))
    area = sum((b[0] - a[0]) * (624 - a[1] - b[1]) / 2 for a, b in zip(points, points[1:])) / 300 ** 2
    assert area == pytest.approx(figures["oos_auroc"], abs=0.01)
    operating = page.attributes("circle", id="operating")[0]
    accepted = [row["predicted"] != "" for row in rows if row["expected"] != "oos"]
    assert float(operating["data-y"]) == pytest.approx(sum(accepted) / len(accepted), abs=1e-6)
    assert float(operating["data-x"]) == pytest.approx(1 - figures["oos_recall"], abs=1e-6)
    cells = re.findall(r"(\S+) \u2192 (\S+): (\d+)", page.text)
    assert sum(int(count) for _, _, count in cells) == len(rows)
    for row in page.tables["thresholds"][1:]:
        kept = [r for r in rows if r["confidence"] and float(r["confidence"]) >= float(row[0])]
        into = sum(r["expected"] != "oos" for r in kept)
        assert row[1] == f"{100 * into / len(accepted):.1f}\u202f%"


def test_every_drawing_has_a_name_and_every_heading_a_scope(report):
    page, _, _ = report
    for drawing in page.attributes("svg"):
        assert drawing["role"] == "img" and drawing["aria-label"]
    assert all(heading.get("scope") in ("col", "row") for heading in page.attributes("th"))
    assert "prefers-color-scheme:dark" in page.text and "@media print" in page.text


def test_a_report_without_out_of_scope_texts_has_no_curve(support):
    support.write("in.csv", "text,route\nI want a refund,refund\n")
    support.run("eval", "in.csv", "--html", "report.html")
    page = Page((support.directory / "report.html").read_text(encoding="utf-8"))
    assert page.attributes("polyline") == []
    assert page.figures["Out-of-scope AUROC"] == ""
    assert "0 of 1 texts were decided wrongly" in page.text


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
