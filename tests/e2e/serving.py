"""A server for a test: starts `synaptoroute serve` on a free port, asks it, and ends it.

Every server must end with status 0 after SIGTERM and must have said nothing of a sanitizer.
"""

import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import BUILD, command

needs_server = pytest.mark.skipif(not (BUILD / "server" / "synaptoroute-server").exists(),
                                  reason="this build has no server (libmicrohttpd)")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.decode().split("\n") if line]

    def problem(self):
        """The slug of the problem, after a look at the whole."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        problem = self.json()
        assert set(problem) == {"type", "title", "status", "detail"} and problem["status"] == self.status
        assert problem["type"].startswith("/problems/") and problem["detail"]
        return problem["type"].removeprefix("/problems/")


class Server:
    def __init__(self, program, *arguments, key=None, wait=True, **more):
        self.key = key
        self.process = subprocess.Popen(command(["serve", "--listen", "127.0.0.1:0", *arguments]), cwd=program.directory,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **more)
        self.said = []
        self.port, self.scheme = None, None
        listening = threading.Event()
        threading.Thread(target=self._listen, args=(listening,), daemon=True).start()
        assert listening.wait(60) and self.port, self.log()
        if wait:
            self.until_ready()

    def _listen(self, listening):
        for line in self.process.stderr:
            self.said.append(line.decode(errors="replace"))
            found = re.search(r"listening on (https?)://.*:(\d+)", self.said[-1])
            if found:
                self.scheme, self.port = found[1], int(found[2])
                listening.set()
        listening.set()

    def log(self):
        return "".join(self.said)

    def until_ready(self):
        for _ in range(600):
            if self.scheme == "https" or self.ask("GET", "/readyz").status == 200:
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        raise AssertionError(self.log())

    def ask(self, method, path, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.key and "Authorization" not in headers:
            headers["Authorization"] = "Bearer " + self.key
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def raw(self, data, half_close=False):
        """What comes back for these bytes, until the server closes the connection or is quiet for a second."""
        with self.socket() as connection:
            connection.settimeout(1)
            parts = []
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    parts.append(part)
            except OSError:
                pass  # it has closed the connection, or has no more to say
            return b"".join(parts)

    def stop(self, number=signal.SIGTERM, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout)
        time.sleep(0.05)
        log = self.log()
        assert "Sanitizer" not in log and "runtime error" not in log, log
        assert status == 0, f"status {status}: {log}"
        return log

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure:
            self.process.kill()
            self.process.wait()
            print(self.log())
        else:
            self.stop()


def make_key(program, name="tester", role="admin", file="test.keys"):
    made = program.run("key", "create", name, "--role", role, "--keys", file, "--json")
    return made.json()[0]["key"]
