"""import and export: round trips, and every kind of file that cannot be read."""

import json
import os
import random
import resource

import pytest

HARD = ["plain", 'say "hi", please', "two\nlines", " spaces ", "tab\there", "- dash: colon # hash", "caf\u00e9 \u4e2d\u6587",
        "\U0001F468\u200D\U0001F469\u200D\U0001F467", "back\\slash", "it's", "null", "{a: 1}", "*alias", "%41",
        "\u2028line\u2029separators\u0085", "\ufeffmark", "x" * 5000]
METADATA = {"a": [1, -2.5, 1e-7, True, None, "x\n", {"deep": [[[]]]}], "\u00e9 key": {}, "empty": "", "no": "no", "3": "3",
            "k" * 1500: 12345678901234567, "tenth": 0.1, "long": 123456789012345678901234567890}


def hard_table(program):
    """A table with everything in it that formats get wrong."""
    lines = [{"route": "hard", "utterances": HARD, "description": 'desc: "x"\n# y', "metadata": METADATA},
             {"route": 'name, with "quotes"', "utterances": ["a"], "threshold": 0.123456789012345},
             {"route": "\u540d\u524d", "utterances": ["b"], "confidence": 0.1},
             {"route": "nothing", "utterances": [], "metadata": "a string"},
             {"route": "negative", "utterances": ["c"], "threshold": -1, "metadata": 0}]
    program.write("hard.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    program.run("import", "hard.jsonl")
    return lines


@pytest.mark.parametrize("ending", ["yaml", "yml", "jsonl", "ndjson"])
def test_complete_formats_give_the_same_table_back(empty, ending):
    lines = hard_table(empty)
    assert [json.loads(line) for line in empty.table().split("\n") if line] == lines
    empty.run("export", f"out.{ending}")
    before = empty.table()
    empty.database.unlink()
    empty.run("import", f"out.{ending}")
    assert empty.table() == before


@pytest.mark.parametrize("ending", ["yaml", "jsonl"])
def test_numbers_in_metadata_keep_their_digits(empty, ending):
    written = '{"a":[0.1,1.10,-0,1E5,12345678901234567890,3.14159265358979323846264338],"b":{"\\u00e9\\/":"\\ud83d\\ude00"}}'
    stored = written.replace("\\u00e9\\/", "\u00e9/").replace("\\ud83d\\ude00", "\U0001F600")
    empty.run("add", "r", "text", "--metadata", written.replace(",", " ,\r\n\t "))
    assert f'"metadata":{stored},' in empty.table()
    assert empty.run("list", "r", "--json").out.count("\n") == 1
    empty.run("export", f"out.{ending}")
    revision = empty.run("info", "--json").json()[0]["revision"]
    assert empty.run("import", f"out.{ending}", "--json").json()[0]["revision"] == revision
    empty.database.unlink()
    empty.run("import", f"out.{ending}")
    assert f'"metadata":{stored},' in empty.table()


@pytest.mark.parametrize("metadata, message", [('{"k": 1, "k": 2}', "duplicate"), ('"a\\u0000b"', "NUL"),
                                               ("{'k': 1}", "not JSON"), ("1e400", "not JSON")])
def test_metadata_that_would_not_survive_is_refused(support, metadata, message):
    result = support.fails("add", "refund", "text", "--metadata", metadata, message="metadata is not JSON")
    assert message in result.err.replace("\\u0000", "NUL")


def test_a_route_larger_than_a_line_is_written_as_several(empty):
    texts = [f"{'x' * 60000}{i}" for i in range(150)]
    empty.write("a.yaml", "routes:\n  - name: large\n    threshold: 0.5\n    utterances: " + json.dumps(texts) + "\n")
    empty.run("import", "a.yaml")
    empty.run("export", "out.jsonl")
    lines = (empty.directory / "out.jsonl").read_text().splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= 4194304
    assert [json.loads(line).get("threshold") for line in lines] == [0.5, None, None]
    before = empty.table()
    for options in ([], ["--replace"]):
        assert empty.run("import", "out.jsonl", "--json", *options).json()[0]["revision"] == 1
    empty.database.unlink()
    empty.run("import", "out.jsonl")
    assert empty.table() == before
    assert empty.run("list", "large", "--json").json() == [{"route": "large", "threshold": 0.5, "utterances": texts}]


def test_csv_gives_texts_and_names_back_and_says_what_it_leaves_out(empty):
    lines = hard_table(empty)
    result = empty.run("export", "out.csv")
    assert "CSV has no place for the threshold, description or metadata of 5 routes" in result.err
    assert "CSV has no place for 1 routes without utterances" in result.err
    assert empty.run("export", "out.csv", "--quiet").err == ""
    empty.database.unlink()
    empty.run("import", "out.csv")
    back = [json.loads(line) for line in empty.table().split("\n") if line]
    assert [(r["route"], r["utterances"]) for r in back] == [(r["route"], r["utterances"]) for r in lines
                                                             if r["utterances"]]


def test_export_to_standard_output(support):
    assert support.run("export", "-").out.startswith('routes:\n  - name: "refund"\n')
    assert support.run("export", "-", "--format", "csv").out.startswith("text,route\nI want a refund,refund\n")
    assert support.run("export", "out.yaml", "--json").json() == [{"routes": 10, "revision": 1, "file": "out.yaml"}]


def test_import_from_standard_input(empty):
    empty.run("import", "-", "--format", "csv", stdin="text,route\nhello,greet\n")
    assert empty.run("list", "--json").json() == [{"route": "greet", "utterance_count": 1}]


def test_named_columns_and_more_columns(empty):
    empty.write("a.csv", "id,category,utterance\r\n1,greet,hello\r\n2,bye,\"see you, soon\"\r\n")
    empty.run("import", "a.csv", "--text-column", "utterance", "--route-column=category")
    assert empty.run("list", "bye", "--json").json()[0]["utterances"] == ["see you, soon"]


def test_a_byte_order_mark_and_crlf_are_fine(empty):
    empty.write("a.csv", b"\xef\xbb\xbftext,route\r\nhello,greet\r\n\r\n\"two\r\nlines\",greet\r\n")
    empty.write("a.jsonl", b'\xef\xbb\xbf{"text":"good day","route":"greet"}\r\n\r\n')
    empty.write("a.yaml", b"\xef\xbb\xbfroutes:\r\n  - name: greet\r\n    utterances: [hi]\r\n")
    for name in ("a.csv", "a.jsonl", "a.yaml"):
        empty.run("import", name)
    assert empty.run("list", "greet", "--json").json()[0]["utterances"] == ["hello", "two\r\nlines", "good day", "hi"]


def test_import_extends_and_replace_replaces(support):
    support.write("a.yaml", "routes:\n  - name: refund\n    utterances: [give me my cash, I want a refund]\n")
    receipt = support.run("import", "a.yaml", "--json").json()[0]
    assert (receipt["utterances_added"], receipt["duplicates"], receipt["routes_changed"]) == (1, 1, 1)
    assert receipt["revision"] == 2
    route = support.run("list", "refund", "--json").json()[0]
    assert len(route["utterances"]) == 9
    assert route["description"] == "The customer wants money back for something bought."
    support.run("import", "a.yaml", "--replace")
    route = support.run("list", "refund", "--json").json()[0]
    assert route == {"route": "refund", "utterances": ["give me my cash", "I want a refund"]}
    assert len(support.run("list", "--json").json()) == 10


def test_importing_the_same_again_changes_nothing(support, support_database):
    before = support.table()
    support.run("export", "same.yaml")
    receipt = support.run("import", "same.yaml", "--json").json()[0]
    assert (receipt["revision"], receipt["utterances_added"], receipt["duplicates"]) == (1, 0, 64)
    assert support.table() == before


def test_out_of_scope_rows_are_no_route(empty):
    empty.write("a.csv", "text,route\nhello,greet\nwhat is the weather,oos\nanything,oos\n")
    receipt = empty.run("import", "a.csv", "--json").json()[0]
    assert (receipt["routes_added"], receipt["utterances_added"], receipt["oos_added"]) == (1, 1, 2)
    assert [r["route"] for r in empty.run("list", "--json").json()] == ["greet"]
    empty.write("b.csv", "text,route\nhello,greet\nsomething,none\n")
    assert empty.run("import", "b.csv", "--oos-label", "none", "--json").json()[0]["oos_added"] == 1
    assert empty.run("list", "--oos").out == "what is the weather\nanything\nsomething\n"


def test_no_route_is_called_oos(support):
    support.write("a.csv", "text,label,route\nwhat is the weather,none,oos\n")
    support.fails("add", "oos", "what is the weather", message="a route cannot be called oos")
    support.fails("import", "a.csv", "--oos-label", "none", message="a route cannot be called oos")


BAD_CSV = [
    (b"", "bad.csv: the file is empty"),
    (b"\xef\xbb\xbf", "bad.csv: the file is empty"),
    (b"text,category\nx,y\n", 'bad.csv:1: the header has no column "route" (it has: text, category)'),
    (b"question,route\nx,y\n", 'bad.csv:1: the header has no column "text"'),
    (b"text,route\nfine,a\nalone\n", "bad.csv:3: the row has 1 field, the header 2"),
    (b"text,route\nhello, you,a\n", "bad.csv:2: the row has 3 fields, the header 2"),
    (b'text,route\nfine,a\n"open,a\nfine,a\n', "bad.csv:3: the quote that opens here is never closed"),
    (b'text,route\n5" pipe,a\n', "bad.csv:2: a quote inside an unquoted field"),
    (b'text,route\n"a" b,a\n', "bad.csv:2: text follows a closing quote"),
    (b"text,route\nfine,a\n\xff\xfe,a\n", "bad.csv:3: the text is not valid UTF-8 at byte 0"),
    (b"text,route\na\x00b,a\n", "bad.csv:2: the text holds a NUL"),
    (b"text,route\nfine,a\n ,a\n", "bad.csv:3: the text is empty"),
    (b"text,route\nfine,\n", "bad.csv:2: the route's name is empty"),
    (b"text,route\nfine," + b"n" * 10240 + b"\n", "bad.csv:2: the route's name has 10240 bytes; at most 512 are allowed"),
    (b"text,route\nfine,a\n" + b"x" * 10000000 + b",a\n", "bad.csv:3: a field is longer than 65536 bytes"),
    (b'text,route\nfine,a\n"' + b"x" * 10000000 + b'",a\n', "bad.csv:3: a field is longer than 65536 bytes"),
    ("text,route\n".encode("utf-16"), "the file is UTF-16"),
]
BAD_JSONL = [
    (b'{"text":"x","route":"a"}\n{"text":"x",\n', "bad.jsonl:2: not JSON"),
    (b'{"text":"x","route":"a"}\n\n"x"\n', "bad.jsonl:3: not a JSON object"),
    (b'{"text":"x"}\n', 'bad.jsonl:1: there is no "route"'),
    (b'{"text":"\xff","route":"a"}\n', "bad.jsonl:1: not JSON"),
    (b'{"route":"a","utterances":["x", 3]}\n', 'bad.jsonl:1: "utterances" must be a list of strings'),
    (b'{"route":"a","utterances":[""]}\n', "bad.jsonl:1: the text is empty"),
    (b'{"route":"a","threshold":1.5}\n', "bad.jsonl:1: threshold 1.5 is not a cosine from -1 to 1"),
    (b'{"route":"a","threshold":NaN}\n', "bad.jsonl:1: not JSON"),
    (b'{"route":"a","confidence":2}\n', "bad.jsonl:1: confidence 2 is not a number from 0 to 1"),
    (b'{"route":"a","treshold":0.5}\n', 'bad.jsonl:1: a route has no "treshold"'),
    (b'{"route":"","utterances":["x"]}\n', "bad.jsonl:1: the route's name is empty"),
    (b'{"text":"' + b"x" * 1000000 + b'","route":"a"}\n', "bad.jsonl:1: the text has 1000000 bytes; at most 65536 are allowed"),
    (b'{"text":"x","route":"a"}\n{"route":"a","utterances":["x"],"metadata":[' + b"[]," * 20000000 + b"0]}\n",
     "bad.jsonl:2: the line is 60000047 bytes long; the maximum is 4194304: give a route's utterances in several"),
    (b'{"route":"a","metadata":{"k":1,"k":2}}\n', "bad.jsonl:1: not JSON"),
    (b'{"route":"a","metadata":"a\\u0000b"}\n', "bad.jsonl:1: not JSON"),
]
BAD_YAML = [
    (b"routes:\n  - name: a\n   broken\n", "bad.yaml:3: not YAML"),
    (b"- a\n- b\n", 'bad.yaml:1: the file must be a mapping with the one key "routes"'),
    (b"routes:\n  - name: a\n    name: b\n", 'bad.yaml:3: the key "name" stands here twice'),
    (b"routes:\n  - name: a\n  - name: a\n", 'bad.yaml:3: the route "a" stands already in line 2'),
    (b"routes:\n  - name: a\n    threshold: .nan\n", "bad.yaml:3: threshold must be a number"),
    (b"routes:\n  - name: a\n    threshold: nan\n", "bad.yaml:3: threshold nan is not a cosine from -1 to 1"),
    (b"routes:\n  - name: &x a\n    metadata: [*x, *x]\n", "bad.yaml:3: aliases"),
    (b"routes:\n  - name: a\n    metadata: " + b"[" * 900 + b"\n", "bad.yaml:3: nested too deeply"),
    (b"routes:\n  - name: a\n    metadata: " + b"{a: " * 100000 + b"\n", "bad.yaml:3:"),
    (b"routes:\n  - name: a\n    metadata: [" + b"[],\n" * 3000000 + b"]\n",
     ": the metadata is longer than 1048576 bytes, the maximum"),
    (b"routes:\n  - name: a\n    metadata: {k: 1, j: {k: 2}, k: 2}\n", 'bad.yaml:3: the key "k" stands here twice'),
    (b"routes:\n  - name: a\n    metadata: [1e400]\n", "bad.yaml:3: a number is too large"),
    (b'routes:\n  - name: a\n    metadata: "a\\0b"\n', "bad.yaml:3: a NUL character"),
    (b"routes:\n  - utterances: [x]\n", "bad.yaml:2: the route has no name"),
]


@pytest.mark.parametrize("ending, content, message",
                         [("csv", *case) for case in BAD_CSV] + [("jsonl", *case) for case in BAD_JSONL] +
                         [("yaml", *case) for case in BAD_YAML],
                         ids=lambda value: str(value)[:40] if isinstance(value, str) else "")
def test_a_bad_file_is_refused_and_the_table_stays(support, ending, content, message):
    support.write(f"bad.{ending}", content)
    result = support.fails("import", f"bad.{ending}", message=message)
    assert result.err.startswith("synaptoroute: import: ")
    assert len(result.err.splitlines()) == 1
    assert len(result.err) < 1200


def test_files_that_cannot_be_opened(support):
    support.fails("import", "nothing.csv", message="nothing.csv: No such file")
    support.fails("import", ".", "--format", "csv", message="directory")
    support.fails("import", "synaptoroute.db", message="say --format")
    support.fails("export", "no/such/directory/out.csv", message="no/such/directory/out.csv")
    support.fails("export", ".", "--format", "csv", message="is a directory")


def test_a_bad_file_makes_no_database(empty):
    empty.write("bad.csv", "text,route\nx\n")
    empty.run("import", "bad.csv", expect=1)
    assert not empty.database.exists()


def test_a_model_that_cannot_be_loaded_makes_no_database(empty):
    empty.write("a.csv", "text,route\nhello,greet\n")
    for arguments in (["import", "a.csv"], ["add", "greet", "hello"]):
        assert "nosuch" in empty.run(*arguments, "--model", "nosuch", expect=1).err
        assert os.listdir(empty.directory) == ["a.csv"]


def test_metadata_too_deep_for_yaml_is_said(empty):
    empty.run("add", "r", "text", "--metadata", "[" * 300 + "]" * 300)
    empty.run("export", "out.jsonl")
    empty.write("old.yaml", "what was there")
    result = empty.run("export", "old.yaml", expect=1)
    assert "nested too deeply for YAML; export as JSON Lines" in result.err
    assert (empty.directory / "old.yaml").read_text() == "what was there"


def test_a_failed_export_keeps_the_old_file(support):
    support.run("export", "out.yaml")
    before = (support.directory / "out.yaml").read_bytes()
    files = sorted(os.listdir(support.directory))
    support.run("add", "more", "something new", "--description", "d" * 60000)
    result = support.run("export", "out.yaml", expect=1,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)))
    assert "cannot write" in result.err and "out.yaml" in result.err
    assert (support.directory / "out.yaml").read_bytes() == before
    assert sorted(os.listdir(support.directory)) == files


def test_damaged_files_never_crash_the_import(support):
    random.seed(7)
    for ending in ("csv", "jsonl", "yaml"):
        support.run("export", f"good.{ending}", "--quiet")
        content = (support.directory / f"good.{ending}").read_bytes()
        for _ in range(8):
            damaged = bytearray(content[: random.randrange(len(content))])
            for _ in range(3):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            support.write(f"bad.{ending}", bytes(damaged))
            process = support.start("--db", ":memory:", "import", f"bad.{ending}")
            _, err = process.communicate(timeout=60)
            assert process.returncode in (0, 1), err


def test_the_database_and_the_input_are_never_overwritten(support):
    """Neither by their names nor by others of the same files."""
    (support.directory / "link.csv").symlink_to(support.database)
    (support.directory / "hard.csv").hardlink_to(support.database)
    support.write("texts.csv", "text,route\nI want a refund,refund\n")
    for name in ("synaptoroute.db", "./synaptoroute.db", "link.csv", "hard.csv", "synaptoroute.db-wal",
                 "synaptoroute.db-shm"):
        support.fails("export", name, "--format", "csv", message=f"{name} is the database itself")
        for option in ("--html", "--predictions"):
            support.fails("eval", "texts.csv", option, name, message=f"{name} is the database itself")
    for option in ("--html", "--predictions"):
        support.fails("eval", "texts.csv", option, "./texts.csv", message="./texts.csv is the file that is read")
    assert (support.directory / "texts.csv").read_text().startswith("text,route")
    support.run("info", "--verify")
