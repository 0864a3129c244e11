"""load: against a server on this machine that misbehaves on demand."""

import asyncio
import json
import signal
import threading
import time

import pytest

TEXTS = "where is my order\nI want my money back\n\nhow do I change my password\n"
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'


def status(code, body=b"{}", more=b""):
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n%s\r\n%s" % (code, len(body), more, body)


class Server:
    """Answers each request by what `answer(server, number)` gives: bytes, None (the connection is closed) or a
    list of bytes and of pauses in seconds."""

    def __init__(self, answer=lambda server, number: OK):
        self.answer, self.requests, self.connections, self.stalled_until = answer, [], 0, 0.0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=512))
        self.port = self.server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        self.server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                              if line.lower().startswith(b"content-length"))
                self.requests.append((head, await reader.readexactly(length)))
                answer = self.answer(self, len(self.requests))
                if answer is None:
                    break
                for part in answer if isinstance(answer, list) else [answer]:
                    if isinstance(part, bytes):
                        writer.write(part)
                        await writer.drain()
                    else:
                        await asyncio.sleep(part)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
def texts(empty):
    empty.write("texts.txt", TEXTS)
    return empty


def load(program, server, *options, expect=0):
    result = program.run("load", f"http://127.0.0.1:{server.port}", "--texts", "texts.txt", "--warmup", "0",
                         "--json", "--quiet", *options, expect=expect)
    found = result.json()[0]
    assert found["sent"] == found["ok"] + found["shed"] + found["errors"]["all"]
    assert found["errors"]["all"] == sum(found["errors"]["status"].values()) + sum(
        found["errors"][kind] for kind in ("connect", "timeout", "closed", "no_http"))
    for name in ("ok", "shed"):
        assert sum(second[name] for second in found["each_second"]) == found[name]
    found["messages"] = result.err
    return found


def test_requests_are_what_the_api_takes(texts):
    with Server() as server:
        load(texts, server, "--connections", 1, "--duration", 0.2, "--path", "fast", "--deadline", 50, "--key", "k1")
    bodies = [json.loads(body) for _, body in server.requests[:4]]
    assert [body["text"] for body in bodies] == [
        "where is my order", "I want my money back", "how do I change my password", "where is my order"]
    assert bodies[0] == {"text": "where is my order", "path": "fast", "timeout_ms": 50}
    head = server.requests[0][0]
    assert head.startswith(b"POST /v1/route HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in head
    assert b"Authorization: Bearer k1\r\n" in head
    assert server.connections <= 2  # one that looked whether somebody is there


def test_batches_hold_as_many_texts_each(texts):
    with Server() as server:
        found = load(texts, server, "--batch", 2, "--connections", 1, "--duration", 0.2)
    assert json.loads(server.requests[0][1]) == {"texts": ["where is my order", "I want my money back"]}
    assert json.loads(server.requests[1][1]) == {"texts": ["how do I change my password", "where is my order"]}
    assert found["texts_per_second"] == pytest.approx(2 * found["requests_per_second"], rel=1e-3)


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_a_rate_is_kept(texts, arrivals):
    with Server() as server:
        found = load(texts, server, "--rate", 450, "--arrivals", arrivals, "--duration", 2)
    assert found["mode"] == "open" and found["arrivals"] == arrivals
    # A Poisson process of 900 has a standard deviation of 30.
    assert abs(found["sent"] - 900) <= (1 if arrivals == "constant" else 150)
    assert found["ok"] == found["sent"] and found["errors"]["all"] == 0
    assert found["generator"]["waited"] < 100  # none, where the machine does nothing else


def test_the_same_seed_is_the_same_arrivals(texts):
    with Server() as server:
        counts = [load(texts, server, "--rate", 200, "--duration", 1, "--seed", seed)["sent"]
                  for seed in (7, 7, 8, 9, 10)]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1


def stall_once(server, number):
    """Everything stands still for one second, one second after the first request."""
    now = time.monotonic()
    if number == 1:
        server.stall_at = now + 1
    return [max(0.0, 1 - (now - server.stall_at)), OK] if now >= server.stall_at else OK


def test_a_standstill_counts_for_all_who_would_have_asked(texts):
    """A quarter of the requests fall into the second of standstill: coordinated omission would show one."""
    with Server(stall_once) as server:
        found = load(texts, server, "--rate", 100, "--arrivals", "constant", "--connections", 1, "--duration", 4)
    assert found["sent"] == found["ok"] == pytest.approx(400, abs=2)
    assert found["latency_ms"]["p50"] < 300
    assert 400 < found["latency_ms"]["p90"] < 1000
    assert 900 < found["latency_ms"]["max"] < 2000
    # The closed loop, by design, sees one slow request.
    with Server(stall_once) as server:
        closed = load(texts, server, "--connections", 1, "--duration", 3)
    assert closed["mode"] == "closed"
    assert closed["latency_ms"]["max"] > 900 and closed["latency_ms"]["p99"] < 300


def test_what_waits_too_long_for_a_connection_has_failed(texts):
    """Answers take 50 ms, so that one connection has 20 a second, and 100 are wanted."""
    with Server(lambda server, number: [0.05, OK]) as server:
        found = load(texts, server, "--rate", 100, "--connections", 1, "--duration", 2, "--timeout", 0.5)
    assert found["errors"]["timeout"] == found["errors"]["all"] > 50
    assert found["ok"] >= 5  # most that are sent have waited too long already
    assert found["latency_ms"]["max"] <= 560
    assert found["generator"]["waited"] > 150


def test_shed_requests_are_counted_and_timed_beside(texts):
    with Server(lambda server, number: OK if number % 4 == 0 else status(503, b"{}", b"Retry-After: 1\r\n")) as server:
        found = load(texts, server, "--rate", 200, "--duration", 1)
    assert found["shed"] == pytest.approx(3 * found["ok"], abs=3)
    assert found["errors"]["all"] == 0
    assert found["shed_ms"]["p99"] is not None


def test_errors_are_counted_by_kind(texts):
    answers = [OK, status(500), None, [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 9.0], b"what?\r\n",
               status(404, b"no such thing")]

    with Server(lambda server, number: answers[number % 6]) as server:
        found = load(texts, server, "--rate", 60, "--arrivals", "constant", "--connections", 30, "--duration", 2,
                     "--timeout", 0.5)
    errors = found["errors"]
    assert errors["connect"] == 0
    for count in (found["ok"], errors["timeout"], errors["closed"], errors["no_http"], errors["status"]["500"],
                  errors["status"]["404"]):
        assert 18 <= count <= 22, found
    assert "status 404: no such thing" in found["messages"] or "status 500: {}" in found["messages"]


def test_answers_in_pieces_chunks_and_without_length_are_read(texts):
    kinds = [[bytes([b]) for b in OK],
             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
             status(200, b"{}", b"Connection: close\r\n")]
    with Server(lambda server, number: kinds[number % 3]) as server:
        found = load(texts, server, "--connections", 3, "--duration", 0.5)
    assert found["errors"]["all"] == 0 and found["ok"] > 30


def test_a_server_that_dies_is_counted_and_not_hammered(texts):
    with Server() as server:
        process = texts.start("load", f"http://127.0.0.1:{server.port}", "--texts", "texts.txt", "--json", "--warmup",
                              "0", "--duration", "2", "--connections", "4")
        time.sleep(0.7)
    out, err = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 0, err
    assert found["ok"] > 0
    # Four connections, tried again ten times a second.
    assert 4 <= found["errors"]["connect"] <= 4 * 20


def test_an_interrupt_reports_what_there_is(texts):
    with Server() as server:
        process = texts.start("load", f"127.0.0.1:{server.port}", "--texts", "texts.txt", "--json", "--warmup", "0",
                              "--duration", "600", "--rate", "100")
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert 30 < json.loads(out)["ok"] < 300
    assert b"stopped early" in err


def test_nobody_there_is_said(texts):
    result = texts.run("load", "http://127.0.0.1:1", "--texts", "texts.txt", expect=1)
    assert "cannot connect to port 1 of 127.0.0.1: Connection refused" in result.err
    result = texts.run("load", "http://no-such-host.invalid:80", "--texts", "texts.txt", expect=1)
    assert "cannot find the host no-such-host.invalid" in result.err


def test_only_errors_are_a_failure(texts):
    with Server(lambda server, number: status(401, b'{"title":"Unauthorized"}')) as server:
        found = load(texts, server, "--connections", 1, "--duration", 0.2, expect=1)
    assert found["ok"] == 0 and list(found["errors"]["status"]) == ["401"]
    assert 'status 401: {"title":"Unauthorized"}' in found["messages"]
    assert "no request was answered well" in found["messages"]


def test_text_output_has_the_figures(texts):
    with Server() as server:
        result = texts.run("load", f"http://127.0.0.1:{server.port}/v1/other", "--texts", "texts.txt", "--rate", "100",
                           "--duration", "1", "--warmup", "0.2", "--each-second", "--quiet")
    assert server.requests[0][0].startswith(b"POST /v1/other HTTP/1.1\r\n")
    for part in ("100 requests/s (poisson), 64 connections", "answered ", "shed        0", "errors      0", "p99.9 ",
                 "generator ", "second "):
        assert part in result.out, result.out


@pytest.mark.parametrize("arguments, message", [
    (["--texts", "texts.txt", "https://a"], "speaks no TLS"),
    (["--texts", "texts.txt", "http://a:0"], "give http://HOST:PORT"),
    (["--texts", "texts.txt", "http://a:99999"], "give http://HOST:PORT"),
    (["--texts", "texts.txt", "http://a b"], "give http://HOST:PORT"),
    (["--texts", "texts.txt", "http://user@a"], "give http://HOST:PORT"),
    (["--texts", "texts.txt", "http://[::1"], "give http://HOST:PORT"),
    (["--texts", "texts.txt", "a", "b"], "give one URL"),
    ([], "--texts FILE"),
    (["--texts", "texts.txt", "--rate", "0"], "--rate 0"),
    (["--texts", "texts.txt", "--arrivals", "constant"], "--arrivals goes with --rate"),
    (["--texts", "texts.txt", "--rate", "5", "--arrivals", "bursts"], "poisson or constant"),
    (["--texts", "texts.txt", "--connections", "0"], "--connections 0"),
    (["--texts", "texts.txt", "--batch", "0"], "--batch 0"),
    (["--texts", "texts.txt", "--path", "quick"], "fast, slow or auto"),
    (["--texts", "texts.txt", "--key", "a\r\nb"], "API key"),
    (["--texts", "texts.txt", "--timeout", "0"], "--timeout 0"),
    (["--texts", "texts.txt", "--deadline", "0"], "--deadline 0"),
])
def test_wrong_usage(texts, arguments, message):
    result = texts.run("load", *arguments, expect=2)
    assert message in result.err
