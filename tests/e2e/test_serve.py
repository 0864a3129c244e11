"""`synaptoroute serve`: the API as its callers see it."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings

import pytest

from conftest import Program
from serving import Server, make_key, needs_server

pytestmark = needs_server

RECEIPT = {"revision", "routes_added", "routes_changed", "routes_removed", "utterances_added", "utterances_removed",
           "duplicates", "oos_added", "oos_removed", "durability", "lost"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, support_database):
    """A server that tests only read from."""
    program = Program(tmp_path_factory.mktemp("serve"))
    program.database.write_bytes(support_database.read_bytes())
    with Server(program) as server:
        yield server


@pytest.fixture
def server(support):
    with Server(support, "--refit=false") as made:
        yield made


# ---- Decisions ----------------------------------------------------------------------------------


def test_a_text_is_decided_as_by_the_program(shared, support):
    answer = shared.ask("POST", "/v1/route", {"text": "where is my parcel"})
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == support.run("route", "--json", "where is my parcel").json()[0]


def test_a_list_is_decided_in_its_order(shared):
    texts = ["where is my parcel", "", "I want a refund"]
    decisions = shared.ask("POST", "/v1/route", {"texts": texts, "top_k": 1}).json()["decisions"]
    assert [d["text"] for d in decisions] == texts
    assert [d["reason"] for d in decisions][1] == "empty_text"
    assert all(len(d["candidates"]) <= 1 for d in decisions)
    assert shared.ask("POST", "/v1/route", {"texts": []}).json() == {"decisions": []}


def test_options_of_a_decision(shared):
    body = {"text": "dinosaur bones", "path": "slow", "top_k": 0, "timings": True}
    rejected = shared.ask("POST", "/v1/route", body).json()
    assert rejected["status"] == "none" and rejected["candidates"] == [] and rejected["path"] == "slow"
    assert rejected["timings_ns"]["total"] > 0 and set(rejected["batch"]) == {"texts", "tokens"}
    assert shared.ask("POST", "/v1/route", {**body, "reject": False}).json()["status"] == "matched"


@pytest.mark.parametrize("body, status, detail", [
    ({}, 400, "text"), ({"text": "a", "texts": ["b"]}, 400, "text"), ({"text": 1}, 400, "a string"),
    ({"text": None}, 400, "a string"), ({"texts": "a"}, 400, "list of strings"), ({"texts": ["a", 1]}, 400, "list of strings"),
    ({"text": "a", "topk": 3}, 400, "topk"), ({"text": "a", "top_k": 1001}, 400, "1000"),
    ({"text": "a", "path": "medium"}, 400, "auto, fast or slow"), ({"text": "a", "timeout_ms": 0}, 400, "timeout_ms"),
    ({"text": "a", "reject": "no"}, 400, "true or false"), ([], 400, "object"), ({"text": "a", "path": "fast"}, 422, "fit")])
def test_wrong_requests_are_told_what_is_wrong(shared, body, status, detail):
    answer = shared.ask("POST", "/v1/route", body)
    assert answer.status == status, answer.body
    answer.problem()
    assert detail in answer.json()["detail"]


def test_paths_and_methods(shared):
    assert shared.ask("GET", "/nothing").problem() == "path"
    wrong = shared.ask("DELETE", "/v1/route")
    assert wrong.status == 405 and wrong.headers["allow"] == "POST" and wrong.problem() == "method"
    assert shared.ask("POST", "/v1/route", b'{"text":"a"}', {"Content-Type": "text/plain"}).status == 415
    assert shared.ask("POST", "/v1/route", b'{"text":"a"}').status == 415
    head = shared.ask("HEAD", "/healthz")
    assert head.status == 200 and head.body == b""


def test_what_the_server_is(shared):
    assert shared.ask("GET", "/healthz").json() == {"status": "ok"}
    assert shared.ask("GET", "/readyz").json() == {"status": "ready"}
    info = shared.ask("GET", "/v1/info").json()
    assert info["routes"] == 10 and info["caller"] == {"key": None, "role": "admin"}


def test_names_that_point_here_from_elsewhere_are_refused(shared):
    assert shared.ask("GET", "/v1/info", headers={"Host": "evil.example"}).status == 421
    assert shared.ask("GET", "/v1/info", headers={"Host": "localhost:1234"}).status == 200


# ---- The table ----------------------------------------------------------------------------------


def test_a_route_from_its_making_to_its_end(server):
    path = "/v1/routes/billing%2Fgift%20cards"
    route = {"utterances": ["can I pay by gift card", "my voucher does not work"], "threshold": 0.5,
             "description": "vouchers", "metadata": {"team": ["a", None, 1.10]}}
    made = server.ask("PUT", path, json.dumps(route).replace("1.1", "1.10").encode(), {"Content-Type": "application/json"})
    assert made.status == 201 and set(made.json()) == RECEIPT and made.json()["routes_added"] == 1
    again = server.ask("PUT", path, {"utterances": route["utterances"]})
    assert again.json()["routes_changed"] == 1  # the other settings are gone
    again = server.ask("PUT", path, json.dumps(route).replace("1.1", "1.10").encode(), {"Content-Type": "application/json"})
    made = server.ask("PUT", path, json.dumps(route).replace("1.1", "1.10").encode(), {"Content-Type": "application/json"})
    assert again.status == 200 and again.json()["revision"] == made.json()["revision"]
    read = server.ask("GET", path)
    assert read.json() == {"route": "billing/gift cards", **route, "revision": made.json()["revision"]}
    assert b"1.10" in read.body
    assert read.headers["etag"] == f'"{made.json()["revision"]}"'
    # What was read can be sent back.
    assert server.ask("PUT", path, read.body, {"Content-Type": "application/json"}).json()["routes_changed"] == 0
    added = server.ask("POST", path + "/utterances", {"utterances": ["is my gift card valid", "my voucher does not work"]})
    assert added.json()["utterances_added"] == 1 and added.json()["duplicates"] == 1
    decision = server.ask("POST", "/v1/route", {"text": "is my gift card valid"}).json()
    assert decision["route"] == "billing/gift cards"
    less = server.ask("DELETE", path + "/utterances", {"utterances": ["is my gift card valid", "never was there"]})
    assert less.json()["utterances_removed"] == 1
    gone = server.ask("DELETE", path)
    assert gone.json()["routes_removed"] == 1
    assert server.ask("DELETE", path).json() == {**gone.json(), "routes_removed": 0, "utterances_removed": 0}
    assert server.ask("GET", path).problem() == "not-found"
    assert server.ask("DELETE", path + "/utterances", {"utterances": ["x"]}).json()["utterances_removed"] == 0


@pytest.mark.parametrize("body, status", [
    ({"utterances": ["a", 1]}, 400), ({"utterances": [" "]}, 400), ({"threshold": 2}, 400), ({"colour": "red"}, 400),
    ({"route": "another"}, 400), ({"threshold": 0.1, "confidence": 0.1}, 400), ({"utterances": ["x" * 70000]}, 413)])
def test_routes_that_cannot_be(server, body, status):
    before = server.ask("GET", "/v1/info").json()["revision"]
    answer = server.ask("PUT", "/v1/routes/new", body)
    assert answer.status == status, answer.body
    answer.problem()
    assert server.ask("PUT", "/v1/routes/oos", {"utterances": ["a"]}).status == 400
    assert server.ask("PUT", "/v1/routes/" + "x" * 600, {"utterances": ["a"]}).status in (400, 413)
    assert server.ask("PUT", "/v1/routes/%zz", {"utterances": ["a"]}).status == 400
    assert server.ask("PUT", "/v1/routes/%ff", {"utterances": ["a"]}).status == 400
    assert server.ask("GET", "/v1/info").json()["revision"] == before


def test_pages_of_the_table(shared):
    seen, cursor = [], None
    while True:
        page = shared.ask("GET", "/v1/routes?limit=3" + (f"&cursor={cursor}" if cursor else "")).json()
        assert page["total"] == 10 and len(page["routes"]) <= 3
        seen += [route["route"] for route in page["routes"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 10
    assert [r["route"] for r in shared.ask("GET", "/v1/routes?prefix=re").json()["routes"]] == ["refund", "return_item"]
    found = shared.ask("GET", "/v1/routes?search=MONEY%20back&utterances=true").json()["routes"]
    assert found[0]["route"] == "refund" and len(found[0]["utterances"]) == 8
    for query in ("limit=x", "limit=-1", "limit=100000000000000000000", "cursor=x"):
        assert shared.ask("GET", "/v1/routes?" + query).status == 400


def test_changes_with_a_condition(server):
    tag = server.ask("GET", "/v1/routes/refund").headers["etag"]
    assert server.ask("GET", "/v1/routes/refund", headers={"If-None-Match": tag}).status == 304
    first = server.ask("POST", "/v1/routes/refund/utterances", {"utterances": ["pay me back"]}, {"If-Match": tag})
    assert first.status == 200
    late = server.ask("DELETE", "/v1/routes/refund", headers={"If-Match": tag})
    assert late.status == 412 and late.problem() == "revision" and late.headers["etag"] == first.headers["etag"]
    assert server.ask("GET", "/v1/routes/refund").status == 200
    assert server.ask("PUT", "/v1/routes/refund", {}, {"If-None-Match": "*"}).status == 412
    assert server.ask("PUT", "/v1/routes/none", {}, {"If-Match": "*"}).status == 412
    assert server.ask("PUT", "/v1/routes/none", {}, {"If-None-Match": "*"}).status == 201
    assert server.ask("POST", "/v1/oos", {"utterances": ["what is love"]}, {"If-Match": "*"}).status == 200
    assert server.ask("POST", "/v1/import", b"text,route\ngood day,none\n", {"If-Match": "*", "Content-Type": "text/csv"}).status == 200
    assert server.ask("DELETE", "/v1/routes/none", headers={"If-Match": '"1", ' + server.ask("GET", "/v1/routes").headers["etag"]}).status == 200


def test_of_changes_that_want_the_same_revision_one_is_made(server):
    tag = server.ask("GET", "/v1/routes").headers["etag"]
    statuses = []

    def add(i):
        body = {"utterances": [f"a text of caller {i}"]}
        statuses.append(server.ask("POST", "/v1/routes/refund/utterances", body, {"If-Match": tag}).status)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 11


def test_out_of_scope_examples(server):
    assert server.ask("POST", "/v1/oos", {"utterances": ["what is the weather on mars"]}).json()["oos_added"] == 1
    assert server.ask("GET", "/v1/oos").json()["utterances"] == ["what is the weather on mars"]
    assert server.ask("DELETE", "/v1/oos", {"utterances": ["what is the weather on mars", "x"]}).json()["oos_removed"] == 1
    assert server.ask("GET", "/v1/oos").json()["utterances"] == []


# ---- Files, fits, evaluations ---------------------------------------------------------------------


def test_a_table_comes_back_from_its_export(server):
    for form, type_ in (("yaml", "application/yaml"), ("jsonl", "application/x-ndjson"), ("csv", "text/csv")):
        exported = server.ask("GET", f"/v1/export?format={form}")
        assert exported.status == 200 and exported.headers["content-type"] == type_
        imported = server.ask("POST", "/v1/import", exported.body, {"Content-Type": type_})
        last = imported.lines()[-1]
        assert last["utterances_added"] == 0 and last["fit"] is None
        assert server.ask("GET", f"/v1/export?format={form}").body == exported.body


def test_an_import_with_a_fit(server):
    rows = "text,route\n" + "".join(f"please book table number {i},book\n" for i in range(30))
    last = server.ask("POST", "/v1/import?fit=true", rows.encode(), {"Content-Type": "text/csv"}).lines()[-1]
    assert last["utterances_added"] == 30 and last["fit"]["routes"] == 11
    bad = server.ask("POST", "/v1/import", b"text,route\nx\n", {"Content-Type": "text/csv"})
    assert bad.status == 400 and ":2:" in bad.json()["detail"]
    assert server.ask("POST", "/v1/import", b"a", {"Content-Type": "image/png"}).status == 415
    assert server.ask("POST", "/v1/import", b"a", {"Content-Type": "application/x-www-form-urlencoded"}).status == 415
    one = server.ask("POST", "/v1/import?format=jsonl", b'{"text":"a b","route":"c"}\n',
                     {"Content-Type": "application/x-ndjson", "Accept": "application/json"})
    assert one.headers["content-type"] == "application/json" and one.json()["routes_added"] == 1


def test_a_fit_and_an_evaluation(server):
    report = server.ask("POST", "/v1/fit", {}).lines()[-1]["report"]
    assert report["kind"] == "heads" and report["routes"] == 10
    rows = b"text,route\nwhere is my parcel,track_order\nI want my money back,refund\ngabba gabba hey,oos\nhello,refund\n"
    lines = server.ask("POST", "/v1/eval?path=slow", rows, {"Content-Type": "text/csv"}).lines()
    report = lines[-1]
    assert report["report"]["n"] == 4 and sum(cell[2] for cell in report["confusion"]) == 4
    assert report["failure_count"] == len(report["failures"])
    assert server.ask("POST", "/v1/fit", {"route": "refund"}).status == 400
    assert server.ask("POST", "/v1/fit", {"texts": [{"text": "x", "route": "nowhere"}]}).status == 400
    assert server.ask("POST", "/v1/eval?path=wrong", rows, {"Content-Type": "text/csv"}).status == 400


def test_lint_and_map(shared):
    found = shared.ask("GET", "/v1/lint?limit=2").json()
    assert found["utterances"] == 64 and found["counts"]["lost_utterance"] >= 0
    points = shared.ask("GET", "/v1/map").json()
    assert len(points["points"]) == points["total"] == 64 and len(points["routes"]) == 10
    assert all(-1 <= p["x"] <= 1 and -1 <= p["y"] <= 1 and 0 <= p["route"] < 10 for p in points["points"])
    assert points["explained"][0] >= points["explained"][1] > 0
    assert len(shared.ask("GET", "/v1/map?limit=7").json()["points"]) == 7
    assert shared.ask("GET", "/v1/map?limit=0").status == 400


# ---- Embeddings ---------------------------------------------------------------------------------


def test_embeddings(shared):
    texts = ["where is my parcel", "I want a refund"]
    answer = shared.ask("POST", "/v1/embeddings", {"input": texts, "model": "any"}).json()
    rows = [item["embedding"] for item in answer["data"]]
    assert answer["model"] == "bge-small-en-v1.5" and [len(row) for row in rows] == [384, 384]
    assert all(abs(sum(x * x for x in row) - 1) < 1e-5 for row in rows)
    packed = shared.ask("POST", "/v1/embeddings", {"input": texts[0], "model": "any", "encoding_format": "base64"}).json()
    exact = struct.unpack("<384f", base64.b64decode(packed["data"][0]["embedding"]))
    assert max(abs(a - b) for a, b in zip(exact, rows[0])) < 1e-9
    for body in ({"model": "x"}, {"input": [1, 2]}, {"input": [[1]]}, {"input": []}, {"input": "a", "dimensions": 5},
                 {"input": "a", "encoding_format": "hex"}, {"input": ["a", None]}):
        refused = shared.ask("POST", "/v1/embeddings", body)
        assert refused.status == 400, body
        assert refused.json()["error"]["message"] == refused.json()["detail"], body


OFFICIAL = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
answer = client.embeddings.create(model="text-embedding-3-small", input=["where is my parcel", "b"])
assert [len(item.embedding) for item in answer.data] == [384, 384]
assert answer.usage.prompt_tokens > 0
try:
    client.embeddings.create(model="any", input=[1, 2])
except openai.BadRequestError as error:
    assert "tokens" in str(error)
"""


def test_the_official_client_gets_embeddings(shared):
    pytest.importorskip("openai", reason="the package openai is not installed")
    subprocess.run([sys.executable, "-c", OFFICIAL, f"http://127.0.0.1:{shared.port}/v1"], check=True, timeout=120)


# ---- Description --------------------------------------------------------------------------------


def test_the_description_says_what_the_server_does(shared):
    described = shared.ask("GET", "/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    operations = {(m.upper(), p) for p, methods in described["paths"].items() for m in methods}
    assert ("POST", "/v1/route") in operations and ("DELETE", "/v1/routes/{name}/utterances") in operations
    text = json.dumps(described)
    for reference in set(re.findall(r'#/components/schemas/(\w+)', text)):
        assert reference in described["components"]["schemas"], reference
    assert "201" in described["paths"]["/v1/routes/{name}"]["put"]["responses"]
    files = described["paths"]["/v1/import"]["post"]["requestBody"]["content"]
    assert set(files) == {"application/yaml", "text/csv", "application/x-ndjson"}
    for method, path in operations:  # each is there
        answer = shared.ask(method, path.replace("{name}", "none-such"), headers={"Content-Type": "image/png"})
        assert answer.status != 405 and (answer.status != 404 or answer.problem() != "path"), (method, path, answer.body)


def test_answers_are_as_described(shared):
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    described = shared.ask("GET", "/openapi.json").json()

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    check("RouteAnswer", shared.ask("POST", "/v1/route", {"text": "where is my parcel", "timings": True}).json())
    check("RouteAnswer", shared.ask("POST", "/v1/route", {"texts": ["a", ""]}).json())
    check("Info", shared.ask("GET", "/v1/info").json())
    check("RoutePage", shared.ask("GET", "/v1/routes").json())
    check("Route", shared.ask("GET", "/v1/routes/refund").json())
    check("Embeddings", shared.ask("POST", "/v1/embeddings", {"input": "a"}).json())
    check("Lint", shared.ask("GET", "/v1/lint").json())
    check("Map", shared.ask("GET", "/v1/map").json())
    check("Problem", shared.ask("GET", "/nothing").json())


# ---- Keys, TLS, pages of others -------------------------------------------------------------------


def test_keys_and_their_roles(support):
    reader, writer = make_key(support, "reader", "read"), make_key(support, "writer", "write")
    with Server(support, "--keys", "test.keys", wait=False) as server:
        server.until_ready()
        assert server.ask("GET", "/healthz").status == 200
        nobody = server.ask("POST", "/v1/route", {"text": "a"})
        assert nobody.status == 401 and nobody.problem() == "no-key" and "bearer" in nobody.headers["www-authenticate"].lower()
        for wrong in ("sr_" + "0" * 12 + "_" + "x" * 43, reader[:-1] + ("a" if reader[-1] != "a" else "b"), "", "x" * 5000):
            assert server.ask("GET", "/v1/info", headers={"Authorization": "Bearer " + wrong}).status == 401
        server.key = reader
        assert server.ask("POST", "/v1/route", {"text": "a"}).status == 200
        assert server.ask("GET", "/v1/info").json()["caller"] == {"key": "reader", "role": "read"}
        refused = server.ask("DELETE", "/v1/routes/refund")
        assert refused.status == 403 and refused.problem() == "role"
        server.key = writer
        assert server.ask("DELETE", "/v1/routes/refund").status == 200
        assert server.ask("POST", "/v1/fit", {}).status == 403
        # A key that is made, and one that is revoked, count after SIGHUP.
        admin = make_key(support, "admin", "admin")
        support.run("key", "revoke", "writer", "--keys", "test.keys")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(100):
            if server.ask("GET", "/v1/info").status == 401:
                break
            time.sleep(0.05)
        server.key = admin
        assert server.ask("GET", "/v1/info").json()["caller"]["role"] == "admin"
        assert reader not in (support.directory / "test.keys").read_text()
        assert (support.directory / "test.keys").stat().st_mode & 0o077 == 0


def test_a_file_of_keys_stays_its_readers(support):
    file = support.directory / "test.keys"
    make_key(support, "one")
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(file, 12345, 12346)
    make_key(support, "two")
    support.run("key", "revoke", "one", "--keys", "test.keys")
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.getuid() != 0 or (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


def test_others_are_not_let_in_by_mistake(support):
    result = support.run("serve", "--listen", "0.0.0.0:0", expect=1)
    assert "API keys" in result.err and "--insecure" in result.err
    result = support.run("serve", "--listen", "0.0.0.0:0", "--keys", "missing.keys", expect=1)
    assert "missing.keys" in result.err


def make_certificate(directory, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", directory / "tls.key", "-out", directory / "tls.pem", "-subj", f"/CN={name}"],
                   check=True, capture_output=True)


def common_name(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    der = connection.sock.getpeercert(True) if connection.sock else None
    connection.close()
    return der


def takes_version(port, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, context.wrap_socket(plain):
            return True
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls_and_a_new_certificate(support):
    if subprocess.run(["which", "openssl"], capture_output=True, check=False).returncode:
        pytest.skip("openssl is not installed")
    make_certificate(support.directory, "first")
    with Server(support, "--tls-certificate", "tls.pem", "--tls-key", "tls.key") as server:
        assert server.scheme == "https"
        time.sleep(1)
        before = common_name(server.port)
        make_certificate(support.directory, "second")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(100):
            after = common_name(server.port)
            if after != before:
                break
            time.sleep(0.05)
        assert before and after and before != after
        for version, accepted in (("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)):
            assert takes_version(server.port, ssl.TLSVersion[version]) == accepted, version
        (support.directory / "tls.pem").write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert common_name(server.port) == after
        assert "not reloaded" in server.log()


def test_pages_of_others(support):
    with Server(support, "--cors-origins", "https://a.example, https://b.example") as server:
        allowed = server.ask("OPTIONS", "/v1/route", headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"})
        assert allowed.status == 204 and allowed.headers["access-control-allow-origin"] == "https://b.example"
        answer = server.ask("GET", "/v1/info", headers={"Origin": "https://b.example"})
        assert answer.headers["access-control-allow-origin"] == "https://b.example" and "Origin" in answer.headers["vary"]
        other = server.ask("GET", "/v1/info", headers={"Origin": "https://c.example"})
        assert "access-control-allow-origin" not in other.headers and "Origin" in other.headers["vary"]


# ---- Settings -----------------------------------------------------------------------------------


def test_settings_have_one_precedence(support):
    support.write("s.yaml", "max_texts: 7\nidle_seconds: 20\nlisten: 127.0.0.1:1\n# a remark\nkeys: 'a b.keys'\n")
    environment = {**os.environ, "SYNAPTOROUTE_IDLE_SECONDS": "30", "SYNAPTOROUTE_REFIT": "no"}
    out = support.run("serve", "--config", "s.yaml", "--print-config", "--listen", "127.0.0.1:2", env=environment).out
    lines = dict(line.split(": ", 1) for line in out.splitlines() if not line.startswith("#"))
    assert lines["max_texts"] == "7" and lines["idle_seconds"] == "30" and lines["listen"] == '"127.0.0.1:2"'
    assert lines["refit"] == "false" and lines["keys"] == '"a b.keys"' and lines["max_body_bytes"] == str(8 << 20)
    support.write("again.yaml", out)
    assert support.run("serve", "--config", "again.yaml", "--print-config").out == out


def test_all_settings_are_listed(support):
    listed = support.run("serve", "--options").out
    printed = support.run("serve", "--print-config").out
    flags = {name.replace("-", "_") for name in re.findall(r"^  --([a-z-]+)", listed, re.M)}
    assert flags == set(re.findall(r"^(?:# )?(\w+):", printed, re.M))


def test_a_large_file_that_waits_to_be_asked_for(server):
    """curl announces large bodies, and sends them when it is told to go on."""
    rows = "text,route\n" + "".join(f"where is parcel {i} of mine,track_order\n" for i in range(60000))
    with server.socket() as connection:
        connection.sendall(b"POST /v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                           b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(rows))
        assert connection.recv(100).split()[1] in (b"415", b"100")
    assert server.ask("HEAD", "/v1/export").status == 200
    assert server.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("config, message", [
    ("max_txts: 7\n", "max_txts"), ("max_texts: many\n", ":1: max_texts is many; give a whole number"),
    ("\nmax_texts: [1, 2]\n", ":2"), ("max_texts: 0\n", "1 to"), ("a: {b: c}\n", ":1"), ("listen: here\n", "HOST:PORT"),
    ("tls_key: a\n", "tls_certificate"), ("log_level: loud\n", "loud"), (": [", "YAML"), ("max_body_bytes: 1XB\n", "size")])
def test_settings_that_are_wrong(support, config, message):
    support.write("s.yaml", config)
    result = support.run("serve", "--config", "s.yaml", "--print-config", expect=1)
    assert message in result.err
    assert support.run("serve", "--no-such-thing", expect=2).err.startswith("synaptoroute: serve: ")


# ---- Its life -----------------------------------------------------------------------------------


def test_what_is_accepted_is_finished(support):
    server = Server(support)
    texts = [f"question number {i} about my order and its parcel" for i in range(1500)]
    answers = []

    def ask():
        answers.append(server.ask("POST", "/v1/route", {"texts": texts, "path": "slow"}))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    thread.join()
    assert answers[0].status == 200 and len(answers[0].json()["decisions"]) == 1500
    server.stop()


def test_a_server_that_is_being_started_can_be_stopped(empty):
    texts = "".join(f"text {i} about a parcel that has come to the wrong address in the north,route {i % 7}\n" for i in range(8000))
    empty.write("table.csv", "text,route\n" + texts)
    empty.run("--model", "static-en", "import", "--no-fit", "table.csv")
    server = Server(empty, "--reencode", wait=False)  # with vectors of another model, which take their time
    assert server.ask("GET", "/readyz").status == 503
    began = time.monotonic()
    log = server.stop()
    assert time.monotonic() - began < 2 and "before the models were loaded" in log
    assert empty.run("--model", "static-en", "info", "--verify", "--json").status == 0


def test_the_database_of_a_server_is_everybodys(server, support):
    support.run("add", "parrot", "my parrot is dead", "this bird is no more")
    assert server.ask("GET", "/v1/routes/parrot").status == 200
    assert server.ask("POST", "/v1/route", {"text": "this bird is no more"}).json()["route"] == "parrot"


def test_a_model_that_is_not_there_ends_the_start(support):
    result = support.run("--model", "no-such-model", "serve", "--listen", "127.0.0.1:0", expect=1)
    assert "no-such-model" in result.err


def test_a_port_that_is_taken(support, shared):
    result = support.run("serve", "--listen", f"127.0.0.1:{shared.port}", expect=1)
    assert "cannot listen" in result.err
