"""What a running server tells of itself: /metrics, its log, and traces and metrics sent to a collector."""

import collections
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

import conftest

if not (conftest.BUILD / "server" / "synaptoroute-server").exists():
    pytest.skip("the server was not built", allow_module_level=True)

TEXTS = ["where is my parcel", "I want my money back", "qwertz 12 jklm"]


# ---- A server ------------------------------------------------------------------------------------


class Running:
    def __init__(self, process, url):
        self.process, self.url, self.err = process, url, None

    def ask(self, path, body=None, headers=None, method=None):
        """Status and body."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method,
                                         headers={**({"Content-Type": "application/json"} if data else {}),
                                                  **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def route(self, text, headers=None, **more):
        status, body = self.ask("/v1/route", {"text": text, **more}, headers)
        assert status == 200, body
        return json.loads(body)

    def metrics(self, routed=0):
        """/metrics, once at least `routed` requests to decide are counted, which is when they have been answered."""
        for _ in range(200):
            status, body = self.ask("/metrics")
            assert status == 200, body
            counts = re.findall(r'^synaptoroute_http_requests_total\{endpoint="route".*\} (\d+)$', body.decode(), re.M)
            if sum(map(int, counts)) >= routed:
                return body.decode()
            time.sleep(0.02)
        raise AssertionError(f"{routed} requests are never counted: {counts}")

    def stop(self):
        if self.err is None:
            self.process.send_signal(signal.SIGTERM)
            self.err = self.lines + self.process.communicate(timeout=60)[1].decode()
            assert self.process.returncode == 0, self.err
        return self.err


@contextlib.contextmanager
def serving(program, *options):
    process = program.start("serve", "--listen", "127.0.0.1:0", *options)
    lines = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", lines)):
        line = process.stderr.readline().decode()
        assert line, lines
        lines += line
    running = Running(process, found.group())
    running.lines = lines
    try:
        for _ in range(600):
            if running.ask("/readyz")[0] == 200:
                break
            time.sleep(0.05)
        yield running
        running.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


# ---- Metrics -------------------------------------------------------------------------------------

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"')


def parse(text):
    """{name: {labels as a tuple of pairs: value}}, and {name: type}; fails on what is not the format."""
    samples, types = collections.defaultdict(dict), {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name not in types, "a family comes twice"
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match, line
            name, labels = match.group(1), tuple(LABEL.findall(match.group(2) or ""))
            family = re.sub("_(bucket|sum|count)$", "", name) if name not in types else name
            assert family in types, line
            assert labels not in samples[name], line
            samples[name][labels] = float(match.group(3))
    return samples, types


def counters(samples, types):
    return {(name, labels): value for name, values in samples.items() for labels, value in values.items()
            if types.get(name) == "counter" or name.endswith(("_bucket", "_count", "_sum"))}


def test_metrics_count_what_happened(support):
    with serving(support) as server:
        before = parse(server.metrics())[0]
        for text in TEXTS:
            server.route(text, path="slow")
        decided = [server.route(text)["route"] for text in TEXTS[:2]]
        assert server.ask("/v1/route", b"{")[0] == 400
        assert server.ask("/nowhere")[0] == 404
        samples, types = parse(server.metrics(routed=6))
        assert counters(samples, types).keys() >= counters(before, types).keys()
        again = parse(server.metrics())
        assert all(again[0][name][labels] >= value for (name, labels), value in counters(samples, types).items())
    requests = samples["synaptoroute_http_requests_total"]
    assert requests[(("endpoint", "route"), ("code", "200"))] == 5
    assert requests[(("endpoint", "route"), ("code", "400"))] == 1
    assert requests[(("endpoint", "none"), ("code", "404"))] == 1
    assert sum(samples["synaptoroute_decisions_total"].values()) == 5
    assert samples["synaptoroute_decisions_total"][(("path", "slow"), ("reason", "matched"))] >= 2
    matches = samples["synaptoroute_route_matches_total"]
    assert len(matches) == 10  # each route of the table
    for route in decided:
        assert matches[(("route", route),)] >= 2
    assert samples["synaptoroute_routes"][()] == 10 and samples["synaptoroute_utterances"][()] == 64
    assert samples["synaptoroute_ready"][()] == 1 and samples["synaptoroute_table_revision"][()] >= 1
    assert samples["synaptoroute_http_request_duration_seconds_count"][(("endpoint", "route"),)] == 6
    assert samples["synaptoroute_decide_duration_seconds_count"][()] == 5
    assert samples["process_resident_memory_bytes"][()] > 1e6 and samples["process_open_fds"][()] > 3
    (build,) = samples["synaptoroute_build_info"]
    assert dict(build)["model"] == "bge-small-en-v1.5" and dict(build)["version"]


def test_histograms_add_up(support):
    with serving(support) as server:
        for text in TEXTS * 3:
            server.route(text, path="slow")
        samples, types = parse(server.metrics(routed=9))
    seen = 0
    for name in [name for name, kind in types.items() if kind == "histogram"]:
        series = collections.defaultdict(list)
        for labels, value in samples[name + "_bucket"].items():
            bound = dict(labels)["le"]
            series[tuple(pair for pair in labels if pair[0] != "le")].append((float(bound), value))
        for labels, buckets in series.items():
            assert buckets == sorted(buckets), name
            assert [count for _, count in buckets] == sorted(count for _, count in buckets), name
            assert buckets[-1] == (float("inf"), samples[name + "_count"][labels]), name
            seen += buckets[-1][1] > 0
    assert seen >= 3
    phases = {dict(labels)["phase"]: value
              for labels, value in samples["synaptoroute_phase_duration_seconds_count"].items()}
    assert phases.keys() == {"queue", "fast", "encode", "search", "decide"}


def test_the_cache_is_counted(support):
    with serving(support, "--cache-bytes", "1MiB") as server:
        for text in TEXTS * 3:
            server.route(text, path="slow")
        samples = parse(server.metrics(routed=9))[0]
    assert samples["synaptoroute_cache_hits_total"][()] >= 6
    assert samples["synaptoroute_cache_misses_total"][()] >= 3
    assert samples["synaptoroute_cache_texts"][()] >= 3 and samples["synaptoroute_cache_bytes"][()] > 3 * 384


def test_live_charts_get_totals(support):
    with serving(support) as server:
        for text in TEXTS:
            server.route(text)
        server.metrics(routed=3)
        stats = json.loads(server.ask("/v1/stats")[1])
    assert stats["decisions"]["fast"] + stats["decisions"]["slow"] == 3
    assert sum(stats["latency_ns"]["counts"]) == 3
    assert len(stats["latency_ns"]["counts"]) == len(stats["latency_ns"]["bounds"]) + 1
    assert stats["requests"] >= 3 and stats["routes"] == 10 and stats["connections"] >= 1


def promtool():
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return tool


def test_promtool_is_content(support):
    tool = promtool()
    with serving(support) as server:
        for text in TEXTS:
            server.route(text)
        text = server.metrics()
    done = subprocess.run([tool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_prometheus_scrapes(support):
    """A real one: its own view of the target, and a query over what it took."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    with serving(support) as server:
        target = server.url.removeprefix("http://")
        support.write("prometheus.yml", "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: synaptoroute\n"
                                        f"  static_configs: [{{targets: ['{target}']}}]\n")
        port = free_port()
        prometheus = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=support.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def query(expression):
            address = f"http://127.0.0.1:{port}/api/v1/query?query=" + urllib.parse.quote(expression)
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]["result"]

        try:
            for _ in range(4):
                server.route(TEXTS[0])
            found, end = [], time.monotonic() + 60
            while not found and time.monotonic() < end:
                time.sleep(0.5)
                with contextlib.suppress(OSError):
                    found = query('synaptoroute_http_requests_total{endpoint="route",code="200"} == 4')
            assert found, "nothing was scraped within a minute"
            assert query("up")[0]["value"][1] == "1"
            assert float(query("sum(synaptoroute_decisions_total)")[0]["value"][1]) == 4
        finally:
            prometheus.terminate()
            prometheus.wait(20)


def test_metrics_need_a_key_unless_they_are_open(support):
    keys = support.directory / "keys"
    made = support.run("key", "create", "--keys", keys, "--role", "read", "reader", "--json").json()[0]
    reader = {"Authorization": "Bearer " + made["key"]}
    with serving(support, "--keys", keys) as server:
        assert server.ask("/metrics")[0] == 401
        assert server.ask("/metrics", headers=reader)[0] == 403
        assert server.ask("/v1/stats", headers=reader)[0] == 200
    with serving(support, "--keys", keys, "--metrics-open") as server:
        assert server.ask("/metrics")[0] == 200
        assert server.ask("/v1/stats")[0] == 401


# ---- The log -------------------------------------------------------------------------------------


def test_the_log_is_json_and_holds_no_texts(support):
    with serving(support, "--log-format", "json", "--log-requests", "all") as server:
        server.route("a secret nobody may read")
        server.ask("/nowhere?key=hidden")
        lines = [json.loads(line) for line in server.stop().splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    requests = [line for line in lines if line["message"] == "request" and line["path"] != "/readyz"]
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("POST", "/v1/route", 200), ("GET", "/nowhere", 404)]
    assert requests[0]["ms"] > 0 and requests[0]["received"] > 10
    assert "secret" not in server.err and "hidden" not in server.err


def test_the_log_holds_texts_when_asked(support):
    with serving(support, "--log-requests", "all", "--log-texts") as server:
        server.route("a secret somebody may read")
        log = server.stop()
    assert re.search(r"^\S+Z info request method=POST path=/v1/route status=200 ", log, re.M), log
    assert "a secret somebody may read" in log


def test_only_errors_are_logged_by_default(support):
    with serving(support) as server:
        server.route(TEXTS[0])
        server.ask("/nowhere")
        log = server.stop()
    assert "request" not in log.replace("requests are being worked on", "")


# ---- A collector ---------------------------------------------------------------------------------


class Collector:
    """Keeps what it is sent; answers with the statuses in `statuses`, one after the other, then 200."""

    def __init__(self):
        self.requests, self.statuses = [], []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.statuses.pop(0) if collector.statuses else 200
                collector.requests.append((self.path, dict(self.headers), body, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def bodies(self, path):
        return [body for where, _, body, status in self.requests if where == path and status == 200]

    def spans(self):
        return [span for body in self.bodies("/v1/traces") for span in spans_of(body)]

    def wait(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        assert condition()


def fields(message):
    """[(field number, value)] of a message of protocol buffers: bytes, or an integer."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value = varint()
        else:
            length = {1: 8, 5: 4}.get(kind) or varint()
            assert kind in (1, 2, 5) and at + length <= len(message)
            value = message[at:at + length]
            at += length
            if kind != 2:
                value = int.from_bytes(value, "little")
        found.append((tag >> 3, value))
    assert at == len(message)
    return found


def one(message, number, default=None):
    values = [value for field, value in fields(message) if field == number]
    assert len(values) <= 1
    return values[0] if values else default


def all_of(message, *path):
    found = [message]
    for number in path:
        found = [value for each in found for field, value in fields(each) if field == number]
    return found


def attributes(message, number):
    found = {}
    for pair in all_of(message, number):
        ((kind, value),) = fields(one(pair, 2))
        found[one(pair, 1).decode()] = value.decode() if kind == 1 else value
    return found


def spans_of(body):
    return [{"trace": one(span, 1).hex(), "id": one(span, 2).hex(), "parent": one(span, 4, b"").hex(),
             "state": one(span, 3, b"").decode(), "name": one(span, 5).decode(), "kind": one(span, 6),
             "begin": one(span, 7), "end": one(span, 8), "attributes": attributes(span, 9),
             "status": one(one(span, 15, b""), 3, 0)} for span in all_of(body, 1, 2, 2)]


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_has_a_span_for_each_phase(support):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--service-name", "router-a",
                                           "--otlp-headers", "x-team=search,authorization=Basic abc=") as server:
        before = time.time_ns()
        server.route(TEXTS[1], path="slow", headers={"traceparent": f"00-{TRACE}-{PARENT}-01",
                                                    "tracestate": "vendor=1"})
        collector.wait(collector.spans)
        after = time.time_ns()
    (path, headers, body, _), spans = collector.requests[0], collector.spans()
    assert path == "/v1/traces" and headers["Content-Type"] == "application/x-protobuf"
    assert headers["x-team"] == "search" and headers["authorization"] == "Basic abc="
    resource = attributes(all_of(body, 1, 1)[0], 1)
    assert resource["service.name"] == "router-a" and resource["service.version"]
    server_span = spans[0]
    assert server_span["name"] == "POST /v1/route" and server_span["kind"] == 2
    assert server_span["trace"] == TRACE and server_span["parent"] == PARENT and server_span["state"] == "vendor=1"
    assert server_span["attributes"] == {"http.request.method": "POST", "http.route": "/v1/route",
                                         "http.response.status_code": 200, "synaptoroute.texts": 1}
    assert before <= server_span["begin"] <= server_span["end"] <= after
    for span in spans[1:]:
        assert span["name"] in ("fast", "queue", "encode", "search", "decide")
        assert span["trace"] == TRACE and span["parent"] == server_span["id"]
        assert server_span["begin"] <= span["begin"] <= span["end"] <= server_span["end"]
    assert len({span["id"] for span in spans}) == len(spans)
    assert TEXTS[1] not in str(spans)


@pytest.mark.parametrize("ratio, traceparent, sampled", [
    ("1", None, True),
    ("0", None, False),
    ("0", f"00-{TRACE}-{PARENT}-01", True),     # the parent has decided
    ("1", f"00-{TRACE}-{PARENT}-00", False),
    ("0", f"cc-{TRACE}-{PARENT}-01-what-comes-later", True),
    ("0", f"ff-{TRACE}-{PARENT}-01", False),    # no parent: the ratio decides
    ("0", f"00-{TRACE}-{PARENT}-01-more", False),
    ("0", f"00-{TRACE.upper()}-{PARENT}-01", False),
    ("0", f"00-{'0' * 32}-{PARENT}-01", False),
    ("0", f"00-{TRACE}-{'0' * 16}-01", False),
    ("0", "00-", False),
])
def test_the_decision_to_sample(support, ratio, traceparent, sampled):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--trace-ratio", ratio,
                                           "--otlp-metrics-seconds", "0") as server:
        server.route(TEXTS[0], headers={"traceparent": traceparent} if traceparent else None)
        server.stop()  # what waits is sent
    routed = [span for span in collector.spans() if span["name"] == "POST /v1/route"]
    assert len(routed) == (1 if sampled else 0)
    if sampled and traceparent:
        assert routed[0]["trace"] == TRACE
    if sampled and not traceparent:
        assert routed[0]["parent"] == "" and int(routed[0]["trace"], 16) != 0


def test_a_ratio_is_a_share(support):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--trace-ratio", "0.3",
                                           "--otlp-metrics-seconds", "0") as server:
        for _ in range(300):
            server.ask("/healthz")
        server.stop()
    traces = {span["trace"] for span in collector.spans() if span["name"] == "GET /healthz"}
    assert 50 < len(traces) < 140  # 90, give or take five standard deviations


def metrics_of(body):
    return {one(metric, 1).decode(): metric for metric in all_of(body, 1, 2, 2)}


def test_metrics_are_exported(support):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--trace-ratio", "0",
                                           "--otlp-metrics-seconds", "0.5") as server:
        for text in TEXTS:
            server.route(text)
        collector.wait(lambda: any(
            any(one(point, 4) == struct.unpack("<Q", struct.pack("<d", 3.0))[0] and
                attributes(point, 7) == {"endpoint": "route", "code": "200"}
                for point in all_of(metrics_of(body)["synaptoroute_http_requests"], 7, 1))
            for body in collector.bodies("/v1/metrics")))
        told = set(parse(server.metrics())[1])
    found = metrics_of(collector.bodies("/v1/metrics")[-1])
    assert found.keys() == {name.removesuffix("_total") for name in told}
    total = one(found["synaptoroute_http_requests"], 7)
    assert one(total, 2) == 2 and one(total, 3) == 1  # cumulative, monotonic
    assert one(found["synaptoroute_http_requests"], 3) == b"{request}"
    (histogram,) = all_of(found["synaptoroute_decide_duration_seconds"], 9, 1)
    counts = struct.unpack(f"<{len(one(histogram, 6)) // 8}Q", one(histogram, 6))
    bounds = struct.unpack(f"<{len(one(histogram, 7)) // 8}d", one(histogram, 7))
    assert sum(counts) == one(histogram, 4) == 3 and len(counts) == len(bounds) + 1
    assert list(bounds) == sorted(bounds) and bounds[0] == pytest.approx(1e-5)


def test_what_failed_is_sent_again(support):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--trace-ratio", "1",
                                           "--otlp-metrics-seconds", "0") as server:
        collector.wait(lambda: collector.bodies("/v1/traces"))  # of /readyz
        collector.statuses = [503, 429]
        server.route(TEXTS[0])
        collector.wait(lambda: any(span["name"] == "POST /v1/route" for span in collector.spans()))
        samples = parse(server.metrics())[0]
        assert samples["synaptoroute_export_failures_total"][()] == 2
        assert samples["synaptoroute_traces_dropped_total"][()] == 0
        log = server.stop()
    assert log.count("answers with status 503") == 1 and "the collector answers again" in log


def test_what_is_refused_is_dropped(support):
    with Collector() as collector, serving(support, "--otlp-endpoint", collector.url, "--trace-ratio", "1",
                                           "--otlp-metrics-seconds", "0") as server:
        collector.statuses = [400] * 100
        server.route(TEXTS[0])
        collector.wait(lambda: parse(server.metrics())[0]["synaptoroute_traces_dropped_total"][()] >= 1)


def test_a_dead_collector_delays_nobody(support):
    """Not even one that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with serving(support, "--otlp-endpoint", f"http://127.0.0.1:{deaf.getsockname()[1]}", "--trace-ratio", "1",
                     "--otlp-metrics-seconds", "0.2") as server:
            server.route(TEXTS[0])
            time.sleep(1.2)  # now it is being sent
            slowest = 0.0
            for _ in range(200):
                before = time.monotonic()
                server.route(TEXTS[0])
                slowest = max(slowest, time.monotonic() - before)
            assert slowest < 1
            before = time.monotonic()
            server.stop()
            assert time.monotonic() - before < 20


def test_a_wrong_address_is_said_at_once(support):
    result = support.run("serve", "--listen", "127.0.0.1:0", "--otlp-endpoint", "collector:4318", expect=1)
    assert "otlp_endpoint is collector:4318" in result.err


# ---- Against the published schema, and the real collector --------------------------------------------


def collect_once(program, seconds=0.3):
    with Collector() as collector, serving(program, "--otlp-endpoint", collector.url, "--trace-ratio", "1",
                                           "--otlp-metrics-seconds", seconds) as server:
        for text in TEXTS:
            server.route(text, path="slow")
        collector.wait(lambda: collector.spans() and collector.bodies("/v1/metrics"))
    return collector


def test_messages_keep_to_the_published_schema(support):
    trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2",
                                reason="opentelemetry-proto is not installed (pip)")
    metrics = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    collector = collect_once(support)
    for path, kind in (("/v1/traces", trace.ExportTraceServiceRequest),
                       ("/v1/metrics", metrics.ExportMetricsServiceRequest)):
        for body in collector.bodies(path):
            message = kind.FromString(body)
            # What the schema does not know is kept aside: taking it away must take nothing.
            whole = message.SerializeToString()
            assert len(whole) > 0.9 * len(body)  # zeros are left out
            message.DiscardUnknownFields()
            assert message.SerializeToString() == whole


@pytest.mark.slow
def test_the_real_collector_takes_it(support):
    """otelcol with the debug exporter, named by $OTELCOL or found on the path; tools/build_otelcol makes one."""
    program = os.environ.get("OTELCOL") or shutil.which("otelcol")
    if program is None:
        pytest.skip("otelcol is not there; tools/build_otelcol makes one, to be named by OTELCOL")
    port = free_port()
    config = support.write("otelcol.yaml", f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
""")
    log = pathlib.Path(support.directory / "otelcol.log")
    with open(log, "wb") as out:
        collector = subprocess.Popen([program, "--config", str(config)], stdout=out, stderr=out)
    try:
        with serving(support, "--otlp-endpoint", f"http://127.0.0.1:{port}", "--trace-ratio", "1",
                     "--otlp-metrics-seconds", "1") as server:
            server.route(TEXTS[1], path="slow", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
            end, wanted = time.monotonic() + 60, ("POST /v1/route", TRACE, "synaptoroute_decide_duration_seconds",
                                                  "synaptoroute_build_info", "service.name: Str(synaptoroute)")
            while not all(part in log.read_text() for part in wanted) and time.monotonic() < end:
                time.sleep(0.2)
            assert all(part in log.read_text() for part in wanted), log.read_text()[-3000:]
    finally:
        collector.terminate()
        collector.wait(20)


# ---- Rules and dashboard ---------------------------------------------------------------------------

OBSERVABILITY = conftest.ROOT / "docs" / "observability"
NAME = re.compile(r"\b(?:synaptoroute|process)_[a-z_]+\b")


def expressions():
    """Those of the dashboard, as Grafana sends them."""
    dashboard = json.loads((OBSERVABILITY / "grafana.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(found) > 20
    return [e.replace("$__rate_interval", "1m").replace("$instance", ".*") for e in found]


def test_rules_and_dashboard_ask_for_what_there_is(support):
    with serving(support) as server:
        server.route(TEXTS[0])
        samples, types = parse(server.metrics(routed=1))
    known = set(samples) | set(types)
    asked = {name for e in [*expressions(), (OBSERVABILITY / "alerts.yaml").read_text()] for name in NAME.findall(e)}
    assert asked - {"synaptoroute_"} <= known, asked - known


def test_docs_name_each_metric_and_setting(support):
    text = (conftest.ROOT / "docs" / "observability.md").read_text()
    with serving(support) as server:
        types = parse(server.metrics())[1]
    for name in types:
        # "`synaptoroute_queue_texts`, `..._bytes`" names two.
        short = "..._" + name.removeprefix("synaptoroute_").partition("_")[2]
        assert name in text or short in text or name.startswith("process_"), name


def test_promtool_takes_the_rules(tmp_path):
    tool = promtool()
    rules = [{"record": f"dashboard:{i}", "expr": e} for i, e in enumerate(expressions())]
    (tmp_path / "dashboard.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    for arguments in (["check", "rules", OBSERVABILITY / "alerts.yaml"],
                      ["test", "rules", OBSERVABILITY / "alerts_test.yaml"],
                      ["check", "rules", tmp_path / "dashboard.yaml"]):
        done = subprocess.run([tool, *arguments], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
