"""A headless Chromium driven over its debugging pipe: the Chrome DevTools Protocol as JSON messages that end in a
zero byte, on descriptors 3 and 4. It needs no driver, no package and no port.

One message is sent at a time; events that come meanwhile are kept, so that a test can ask afterwards what was
requested and what the page's console said.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, ""),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
}
CONTROL = 2


def find_chromium():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        if path:
            return path
    return None


class Browser:
    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="synaptoroute-chromium-")
        # Above 10, so that moving them to 3 and 4 overwrites neither.
        to_read, self.output = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())
        self.input, to_write = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())

        def place_pipes():
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.profile}"]
        # Nothing of the browser's own may ask for anything: every request counted is the page's.
        command += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += ["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio", "about:blank"]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        self.log = open(os.path.join(self.profile, "log"), "wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=place_pipes, pass_fds=(3, 4)
        )
        os.close(to_read)
        os.close(to_write)
        self.pending = b""
        self.number = 0
        self.events = []

    def close(self):
        try:
            self.send("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.input)
        os.close(self.output)
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, timeout):
        """The next message, or None when none has come in time."""
        until = time.monotonic() + timeout
        while b"\0" not in self.pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.input], [], [], left)[0]:
                return None
            part = os.read(self.input, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self.pending += part
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, params=None, session=None, timeout=30):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.output, data) :]
        until = time.monotonic() + timeout
        while True:
            answer = self.receive(until - time.monotonic())
            if answer is None:
                raise RuntimeError(f"the browser does not answer to {method}")
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def page(self, **looks):
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Page(self, target, session, **looks)


class Page:
    def __init__(self, browser, target, session, width=1280, height=800, dark=False, touch=False, scale=1):
        self.browser, self.target, self.session = browser, target, session
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch},
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.send("Emulation.setEmulatedMedia", {"features": features})

    def send(self, method, params=None):
        return self.browser.send(method, params, self.session)

    def close(self):
        self.browser.send("Target.closeTarget", {"targetId": self.target})

    def open(self, address):
        self.send("Page.navigate", {"url": address})
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression):
        result = self.send(
            "Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, timeout=20):
        """Waits until the expression is true, and answers with its value."""
        until = time.monotonic() + timeout
        while True:
            try:
                found = self.evaluate(f"(found => found instanceof Node || found)({expression})")
            except RuntimeError:
                found = None  # between two documents
            if found:
                return found
            if time.monotonic() > until:
                text = self.evaluate("document.body.innerText")
                raise AssertionError(f"after {timeout} s still not: {expression}\nThe page says:\n{text[:3000]}")
            time.sleep(0.03)

    def find(self, selector, text=None):
        """An expression for the first visible element of the selector, with this text or accessible name."""
        return (
            f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.checkVisibility() && "
            f"({json.dumps(text)} === null || e.textContent.trim() === {json.dumps(text)} || "
            f"e.getAttribute('aria-label') === {json.dumps(text)}))"
        )

    def click(self, selector, text=None):
        element = self.find(selector, text)
        self.wait(element)
        where = f"(e => (e.scrollIntoView({{block: 'nearest'}}), (b => [b.x + b.width / 2, b.y + b.height / 2])(e.getBoundingClientRect())))({element})"
        x, y = self.evaluate(where)
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            event = {"type": kind, "x": x, "y": y, "buttons": buttons}
            if kind != "mouseMoved":
                event.update(button="left", clickCount=1)
            self.send("Input.dispatchMouseEvent", event)

    def hover(self, x, y):
        self.send("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def wheel(self, x, y, by):
        self.send("Input.dispatchMouseEvent", {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by})

    def write(self, text):
        """Types into what has the focus."""
        self.send("Input.insertText", {"text": text})

    def press(self, key, control=False):
        code, text = KEYS.get(key, (ord(key[0].upper()), key))
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": CONTROL if control else 0}
        if text and not control:
            event["text"] = text
        self.send("Input.dispatchKeyEvent", {"type": "keyDown", **event})
        event.pop("text", None)
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def choose_file(self, selector, path):
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.send("DOM.setFileInputFiles", {"nodeId": node, "files": [path]})

    def screenshot(self, path):
        picture = self.send("Page.captureScreenshot", {"format": "png"})["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture))

    def events(self, *methods):
        self.evaluate("0")  # what has happened until now has been told before this is answered
        return [e["params"] for e in self.browser.events if e.get("sessionId") == self.session and e["method"] in methods]

    def requests(self):
        """Addresses that the page has asked for."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def complaints(self):
        """Errors and warnings on the page's console, and exceptions that nobody caught."""
        said = [
            " ".join(str(a.get("value", a.get("description"))) for a in event["args"])
            for event in self.events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        said += [f"{e['entry']['text']} {e['entry'].get('url', '')}" for e in self.events("Log.entryAdded") if e["entry"]["level"] in ("error", "warning")]
        said += [e["exceptionDetails"]["exception"].get("description", "exception") for e in self.events("Runtime.exceptionThrown")]
        return said
