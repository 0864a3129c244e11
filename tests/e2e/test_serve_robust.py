"""`synaptoroute serve` among callers that mean harm, are broken, slow, many, or go away."""

import json
import os
import pathlib
import resource
import select
import socket
import threading
import time

import pytest

from bad_requests import BODIES, GOOD, REQUESTS, post
from conftest import Program
from serving import Server, needs_server

pytestmark = needs_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory, support_database):
    program = Program(tmp_path_factory.mktemp("robust"))
    program.database.write_bytes(support_database.read_bytes())
    with Server(program, "--refit=false", "--max-connections", "20000", "--max-connections-per-address", "0",
                "--header-seconds", "60", "--body-seconds", "60") as server:
        yield server


def is_well(server):
    answer = server.ask("POST", "/v1/route", {"text": "where is my parcel"})
    assert answer.status == 200, answer.body
    return True


def files_of(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def memory_of(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


# ---- What is broken -----------------------------------------------------------------------------


@pytest.mark.parametrize("name, body, status", BODIES, ids=[b[0] for b in BODIES])
def test_bodies_that_are_wrong(shared, name, body, status):
    answer = shared.ask("POST", "/v1/route", body, {"Content-Type": "application/json"})
    assert answer.status == status, (name, answer.body)
    answer.problem()


@pytest.mark.parametrize("name, request_, statuses", REQUESTS, ids=[r[0] for r in REQUESTS])
def test_requests_that_are_wrong(shared, name, request_, statuses):
    before = files_of(shared)
    # Half-closed, a good request would count as one whose caller has left.
    answer = shared.raw(request_, half_close=b"200" not in statuses)
    status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/1.") else answer
    assert status in statuses, (name, answer[:200])
    assert is_well(shared)
    for _ in range(50):
        if files_of(shared) <= before:
            return
        time.sleep(0.05)
    raise AssertionError("a connection stays open")


def test_every_byte_of_a_request_may_come_alone_or_be_the_last(shared):
    request = post(b"Content-Length: 12\r\nConnection: close\r\n", GOOD)
    with shared.socket() as connection:
        for i in range(len(request)):
            connection.sendall(request[i:i + 1])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    for end in range(0, len(request), 7):
        with shared.socket() as connection:
            connection.sendall(request[:end])
    assert is_well(shared)


def test_too_much_of_everything(shared):
    many = json.dumps({"texts": ["a"] * 100000}).encode()
    answer = shared.ask("POST", "/v1/route", many, {"Content-Type": "application/json"})
    assert answer.status == 413 and answer.problem() == "too-many"
    large = b'{"text":"' + b"a" * (9 << 20) + b'"}'
    assert shared.raw(post(b"Content-Length: %d\r\nConnection: close\r\n" % len(large), large[:1000])).split()[1] == b"413"
    chunks = b"".join(b"100000\r\n" + b"a" * 0x100000 + b"\r\n" for _ in range(9)) + b"0\r\n\r\n"
    assert b" 413 " in shared.raw(post(b"Transfer-Encoding: chunked\r\nConnection: close\r\n", chunks)).split(b"\r\n")[0]
    long_text = shared.ask("POST", "/v1/route", {"text": "parcel " * 100000})
    assert long_text.status == 200 and long_text.json()["truncated"]
    assert is_well(shared)


def test_a_connection_serves_many_requests_wrong_ones_among_them(shared):
    with shared.socket() as connection:
        reader = connection.makefile("rb")
        for body, status in [(GOOD, b"200"), (b"{", b"400"), (GOOD, b"200"), (b"[]", b"400"), (GOOD, b"200")] * 5:
            connection.sendall(post(b"Content-Length: %d\r\n" % len(body), body))
            assert reader.readline().split()[1] == status
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            reader.read(length)


def test_requests_may_be_sent_before_answers_are_read(shared):
    one = post(b"Content-Length: 12\r\n", GOOD)
    last = post(b"Content-Length: 12\r\nConnection: close\r\n", GOOD)
    assert shared.raw(one * 50 + last).count(b"HTTP/1.1 200 OK") == 51


# ---- Who goes away ------------------------------------------------------------------------------


def test_work_whose_caller_has_gone_is_not_done(support):
    with Server(support, "--refit=false", "--threads", "1") as server:
        texts = json.dumps({"texts": [f"number {i} asks where the parcel with the red shoes may be" for i in range(8000)],
                            "path": "slow"}).encode()
        request = post(b"Content-Length: %d\r\n" % len(texts), texts)
        for _ in range(4):
            connection = server.socket()
            connection.sendall(request)
            time.sleep(0.3)
            connection.close()
        time.sleep(0.3)
        # Were they decided, this would wait for some twenty thousand texts.
        began = time.monotonic()
        assert is_well(server)
        assert server.ask("POST", "/v1/route", {"text": "is it still there", "path": "slow"}).status == 200
        assert time.monotonic() - began < 10


def test_callers_that_go_away_at_any_moment(shared):
    body = json.dumps({"texts": ["where is my parcel"] * 20, "path": "slow"}).encode()
    request = post(b"Content-Length: %d\r\n" % len(body), body)
    before = files_of(shared)

    def leave(delay):
        for i in range(10):
            connection = shared.socket()
            connection.sendall(request)
            time.sleep(delay * i)
            connection.close()

    threads = [threading.Thread(target=leave, args=(0.0007 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_well(shared)
    for _ in range(100):
        if files_of(shared) <= before + 1:
            return
        time.sleep(0.05)
    raise AssertionError("connections stay open")


def test_a_stream_whose_reader_goes_away_ends(support):
    rows = "text,route\n" + "".join(f"where is parcel number {i} that I ordered a week ago,track_order\n" for i in range(6000))
    with Server(support, "--refit=false", "--threads", "1") as server:
        connection = server.socket()
        data = rows.encode()
        connection.sendall(b"POST /v1/eval?path=slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(data) + data)
        assert b"200 OK" in connection.recv(20)
        connection.recv(200)
        connection.close()
        began = time.monotonic()
        lines = server.ask("POST", "/v1/eval?path=slow", b"text,route\nx,refund\n", {"Content-Type": "text/csv"}).lines()
        assert lines[-1]["report"]["n"] == 1 and time.monotonic() - began < 10


# ---- Who is slow --------------------------------------------------------------------------------


def test_slow_senders_are_cut_off(support):
    with Server(support, "--header-seconds", "1", "--body-seconds", "1.5", "--idle-seconds", "2") as server:
        connections = {"nothing": server.socket(), "headers": server.socket(), "body": server.socket()}
        connections["headers"].sendall(b"POST /v1/route HTTP/1.1\r\nHost: loc")
        connections["body"].sendall(post(b"Content-Length: 100\r\n", b"{"))
        began, ended = time.monotonic(), {}
        while len(ended) < 3 and time.monotonic() - began < 8:
            for name, connection in connections.items():
                if name in ended:
                    continue
                try:  # a byte now and then, as those do that mean harm
                    if name == "headers":
                        connection.sendall(b"a")
                    elif name == "body":
                        connection.sendall(b" ")
                except OSError:
                    pass
                if select.select([connection], [], [], 0)[0]:
                    try:
                        got = connection.recv(100)
                    except OSError:
                        got = b""
                    ended[name] = (time.monotonic() - began, got)
            time.sleep(0.1)
        assert set(ended) == {"nothing", "headers", "body"}, ended
        assert all(0.8 < at < 4 for at, _ in ended.values()), ended
        assert b"408" in ended["body"][1] or ended["body"][1] == b""
        assert is_well(server)


def test_a_deadline_is_kept(support):
    with Server(support, "--refit=false", "--threads", "1") as server:
        texts = [f"number {i} asks where the parcel with the red shoes may be" for i in range(9000)]
        thread = threading.Thread(target=lambda: server.ask("POST", "/v1/route", {"texts": texts, "path": "slow", "timeout_ms": 4000}))
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        late = server.ask("POST", "/v1/route", {"texts": texts[:4000], "path": "slow", "timeout_ms": 300})
        assert late.status in (503, 504) and late.problem() in ("timeout", "busy")
        assert time.monotonic() - began < 2
        thread.join()


def test_a_callers_time_runs_while_the_request_comes_in(shared):
    body = b'{"text": "where is my parcel", "timeout_ms": 300}'
    with shared.socket() as connection:
        connection.sendall(b"POST /v1/route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.5)
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 504 ")
        connection.sendall(b"POST /v1/route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_more_than_the_queue_holds_is_shed_at_once(support):
    with Server(support, "--refit=false", "--threads", "1", "--queue-texts", "50") as server:
        answers = []

        def ask(i):
            began = time.monotonic()
            answer = server.ask("POST", "/v1/route", {"texts": [f"{i} where is the parcel {j}" for j in range(20)], "path": "slow"})
            answers.append((answer, time.monotonic() - began))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shed = [a for a, _ in answers if a.status == 503]
        assert {a.status for a, _ in answers} == {200, 503}
        assert all(a.problem() == "busy" and int(a.headers["retry-after"]) >= 1 for a in shed)
        assert is_well(server)


# ---- Who is many --------------------------------------------------------------------------------


def test_connections_past_the_bound_are_told_so(support):
    with Server(support, "--max-connections", "10") as server:
        idle = [server.socket() for _ in range(10)]
        time.sleep(0.3)
        answer = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 503 " in answer.split(b"\r\n")[0] and b"retry-after" in answer.lower()
        for connection in idle:
            connection.close()
        time.sleep(0.3)
        assert is_well(server)


def test_connections_of_one_address_are_bounded(support):
    with Server(support, "--max-connections-per-address", "5") as server:
        held = [server.socket() for _ in range(5)]
        time.sleep(0.3)
        sixth = server.socket()
        sixth.settimeout(2)
        try:
            sixth.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sixth.recv(10) == b""
        except ConnectionResetError:
            pass
        for connection in held:
            connection.close()


@pytest.mark.slow
def test_five_thousand_idle_connections_and_two_hundred_slow_writers_delay_nobody(shared):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12000:
        pytest.skip(f"the system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12000) if hard != resource.RLIM_INFINITY else 12000, hard))

    def latencies():
        times = []
        for _ in range(300):
            began = time.monotonic()
            assert shared.ask("GET", "/healthz").status == 200
            times.append(time.monotonic() - began)
        return sorted(times)

    alone = latencies()
    idle = [shared.socket() for _ in range(5000)]
    slow = [shared.socket() for _ in range(200)]
    for connection in slow:
        connection.sendall(post(b"Content-Length: 10000\r\n", b"{"))
    stop = threading.Event()

    def drip():
        while not stop.is_set():
            for connection in slow:
                connection.sendall(b" ")
            stop.wait(0.2)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        crowded = latencies()
    finally:
        stop.set()
        thread.join()
    for connection in idle + slow:
        connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert crowded[150] < max(5 * alone[150], 0.01) and crowded[285] < max(10 * alone[285], 0.05), (crowded[150], alone[150])


@pytest.mark.slow
def test_memory_does_not_grow(shared):
    def round_():
        for _, body, _ in BODIES:
            shared.ask("POST", "/v1/route", body, {"Content-Type": "application/json"})
        for _ in range(20):
            shared.ask("POST", "/v1/route", {"texts": ["where is my parcel"] * 50})
        shared.ask("GET", "/v1/export")

    round_()
    round_()
    before = memory_of(shared)
    for _ in range(5):
        round_()
    assert memory_of(shared) < before + 8192, (before, memory_of(shared))
