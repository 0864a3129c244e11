"""The console as a person uses it: a real server, a real browser.

Needs a build with -Dconsole=enabled and Chromium; tests are skipped, and say so, where one of them is missing. Of
every page it is checked that nothing was requested from elsewhere, and that the browser had nothing to complain of.
"""

import csv
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from browser import Browser, find_chromium

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SYNAPTOROUTE_BUILD", ROOT / "build"))
PROGRAM = BUILD / "cli" / "synaptoroute"
AXE = BUILD / "console" / "work" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("try", "routes", "routes/track_order", "map", "live", "evaluate")
LOOKS = {
    "light": {},
    "dark": {"dark": True},
    "narrow": {"width": 390, "height": 844, "touch": True},
}
STRANGE = "Do you have a vacancy for a gardener?"


# ---- Server and browser ------------------------------------------------------------------------


class Server:
    """`synaptoroute serve` on a free port of this machine."""

    def __init__(self, directory, *arguments):
        self.log = open(directory / "server.log", "w+", encoding="utf-8")
        command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, cwd=directory, stderr=self.log)
        until = time.monotonic() + 60
        said = ""
        while not re.search(r"\bready\b", said):
            assert self.process.poll() is None and time.monotonic() < until, f"the server did not start:\n{said}"
            time.sleep(0.02)
            said = (directory / "server.log").read_text(encoding="utf-8")
        self.base = re.search(r"http://127\.0\.0\.1:\d+", said).group()

    def stop(self):
        if self.log.closed:
            return
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.log.close()

    def call(self, method, path, body=None, headers=None):
        """(status, headers, body) of a request without the browser."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def route(self, text):
        return json.loads(self.call("POST", "/v1/route", {"text": text})[2])


@pytest.fixture(scope="module")
def browser():
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium")
    driven = Browser(program)
    yield driven
    driven.close()


def run(directory, *arguments):
    return subprocess.run([PROGRAM, *arguments], cwd=directory, check=True, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="session")
def support(tmp_path_factory):
    """A directory with the customer-support table, fitted."""
    directory = tmp_path_factory.mktemp("support")
    run(directory, "import", ROOT / "examples" / "customer-support.yaml")
    return directory


@pytest.fixture
def start():
    """Starts servers, which are stopped when the pages have been closed."""
    servers = []

    def start_server(directory, *arguments):
        servers.append(Server(directory, *arguments))
        if servers[-1].call("GET", "/", headers={"Accept-Encoding": "gzip"})[0] == 404:
            pytest.skip("this build has no console (-Dconsole=enabled)")
        return servers[-1]

    yield start_server
    for server in servers:
        server.stop()


@pytest.fixture
def directory(tmp_path, support):
    """A directory with a copy of the table."""
    for file in support.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def server(start, directory):
    return start(directory)


@pytest.fixture
def console(browser, start, request):
    """Opens pages of the console; afterwards asks what they did."""
    opened = []

    def open_page(place="try", base=None, **looks):
        base = base or request.getfixturevalue("server").base
        page = browser.page(**looks)
        opened.append((page, base))
        page.open(f"{base}/#/{place}")
        page.wait("document.querySelector('main')?.textContent")
        return page

    open_page.expected = []
    yield open_page
    for page, base in opened:
        strangers = [url for url in page.requests() if not url.startswith(base + "/")]
        complaints = [c for c in page.complaints() if not any(re.search(e, c) for e in open_page.expected)]
        page.close()
        assert strangers == []
        assert complaints == []


def ask(page, text):
    """Routes a text on the page Try and answers with what is shown as its route."""
    page.click("#text")
    page.evaluate("document.querySelector('#text').select()")
    page.write(text)
    page.press("Enter")
    page.wait(f"document.querySelector('.asked q')?.textContent === {json.dumps(text)}")
    page.wait("document.querySelector('.answer').getAttribute('aria-busy') === 'false'")
    return verdict(page)


def verdict(page):
    return page.evaluate("document.querySelector('.verdict').textContent")


def go(page, place):
    page.evaluate(f"location.hash = '#/{place}'")


# ---- The story ---------------------------------------------------------------------------------


def test_from_a_text_to_an_utterance_and_back(console, server):
    page = console("try")
    assert ask(page, "Where is my parcel?") == "track_order"
    assert ask(page, STRANGE) == "No route"

    # Added to a route, the same text is decided for it, and the page says what has changed.
    page.click("button", "Add to a route…")
    page.wait("document.activeElement.matches('dialog input')")
    page.write("human")
    page.click(".picks button", "human_agent")
    page.wait("document.querySelector('.verdict').textContent === 'human_agent'")
    assert "no route" in page.evaluate("document.querySelector('.change').textContent")
    assert server.route(STRANGE)["route"] == "human_agent"

    # Deleted at its route, it is decided as before.
    go(page, "routes/human_agent")
    page.click(".utterances button", f"Delete “{STRANGE}”")
    page.wait("document.querySelector('.toasts').textContent.includes('Deleted')")
    page.wait(f"!document.querySelector('.utterances').textContent.includes({json.dumps(STRANGE)})")
    assert server.route(STRANGE)["route"] is None

    # Undone by the key, it is there again, and decides again.
    page.evaluate("document.activeElement.blur()")
    page.press("u")
    page.wait(f"document.querySelector('.utterances').textContent.includes({json.dumps(STRANGE)})")
    go(page, "try")
    page.wait("document.querySelector('.verdict')?.textContent === 'human_agent'")

    # Undone once more, the first change of all is taken back, too.
    page.evaluate("document.activeElement.blur()")
    page.press("u")
    page.wait("document.querySelector('.verdict').textContent === 'No route'")
    assert server.route(STRANGE)["route"] is None


def test_an_evaluation_and_its_failing_rows(console, tmp_path):
    rows = [("Where is my parcel?", "track_order"), ("I want my money back", "refund"), (STRANGE, "invoice"), ("qwertz uiop", "oos")]
    with open(tmp_path / "labelled.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("sentence", "intent"), *rows])
    page = console("evaluate")
    page.choose_file("input[type=file]", str(tmp_path / "labelled.csv"))
    page.wait("document.querySelector('select')?.value === 'sentence'")
    page.click("button", "Evaluate")
    page.wait("document.querySelector('.report')")
    assert "75.0 %" in page.evaluate("document.querySelector('.tiles').textContent")
    page.click(".matrix button", "1 of invoice taken for no route")
    page.wait("document.querySelectorAll('.failures > ul > li').length === 1")
    page.click(".failures summary")
    shown = page.evaluate("document.querySelector('.failures').innerText")
    assert STRANGE in shown and "below threshold" in shown


def test_a_fit_takes_in_what_has_changed(console, server):
    server.call("POST", "/v1/routes/invoice/utterances", {"utterances": ["One more bill", "Bill me again"]})
    page = console("evaluate")
    page.wait("document.querySelector('.fit').textContent.includes('1 route changed since')")
    page.click(".fit button", "Fit again")
    page.wait("document.querySelector('.fit [role=status]')?.textContent.includes('% right')")
    page.wait("document.querySelector('.fit').textContent.includes('No route has changed since')")


def test_an_evaluation_can_be_stopped(console, tmp_path):
    lines = "".join(f"I have waited {i} days for my parcel,track_order\n" for i in range(60_000))
    (tmp_path / "long.csv").write_text("text,route\n" + lines)
    page = console("evaluate")
    page.choose_file("input[type=file]", str(tmp_path / "long.csv"))
    page.click("button", "Evaluate")
    page.wait("document.querySelector('.progress')?.textContent.includes(' of 60,000')")
    page.click("button", "Stop")
    page.wait("!document.querySelector('.progress')")
    assert not page.evaluate("document.querySelector('.notice, .report')")


def test_an_evaluation_that_cannot_be_run_says_why(console, tmp_path):
    (tmp_path / "broken.csv").write_text('text,route\n"never closed,refund\n')
    page = console("evaluate")
    page.choose_file("input[type=file]", str(tmp_path / "broken.csv"))
    page.click("button", "Evaluate")
    page.wait("document.querySelector('.notice')")
    assert "broken" in page.evaluate("document.querySelector('.notice').textContent") or "quot" in page.evaluate(
        "document.querySelector('.notice').textContent"
    )
    console.expected.append("status of 4")


# ---- Routes ------------------------------------------------------------------------------------


def test_a_route_is_edited_and_the_edits_undone(console, server):
    page = console("routes/refund")
    describe(page, "Money back.")
    page.wait("document.querySelector('.toasts').textContent.includes('Described refund')")
    page.click(".threshold label", "cosine")
    page.wait("document.querySelector('.threshold input[type=number]')?.value === '0.6'")
    route = json.loads(server.call("GET", "/v1/routes/refund")[2])
    assert route["description"] == "Money back." and route["threshold"] == 0.6
    assert route["metadata"] == {"team": "billing", "priority": 2}

    page.evaluate("document.activeElement.blur()")
    page.press("z", control=True)
    page.wait("!document.querySelector('.threshold input[type=number]')")
    page.press("z", control=True)
    page.wait("document.querySelector('label textarea').value.startsWith('The customer wants')")
    route = json.loads(server.call("GET", "/v1/routes/refund")[2])
    assert "threshold" not in route


def describe(page, text):
    page.click("label textarea")
    page.evaluate("document.activeElement.select()")
    page.write(text)
    page.press("Tab")


def test_an_edit_does_not_overwrite_what_somebody_else_wrote(console, server):
    page = console("routes/refund")
    page.wait("document.querySelector('label textarea')")
    route = json.loads(server.call("GET", "/v1/routes/refund")[2])
    theirs = {"description": "Theirs", "utterances": route["utterances"]}
    assert server.call("PUT", "/v1/routes/refund", theirs)[0] == 200
    describe(page, "Mine")
    page.wait("document.querySelector('.toast.error')")
    assert "somebody else" in page.evaluate("document.querySelector('.toast.error').textContent")
    assert json.loads(server.call("GET", "/v1/routes/refund")[2])["description"] == "Theirs"
    page.wait("document.querySelector('label textarea').value === 'Theirs'")
    console.expected.append("status of 412")


def test_an_edit_goes_together_with_what_somebody_else_added(console, server):
    page = console("routes/refund")
    page.wait("document.querySelector('label textarea')")
    server.call("POST", "/v1/routes/refund/utterances", {"utterances": ["Money, now!"]})
    describe(page, "Mine")
    page.wait("document.querySelector('.toasts').textContent.includes('Described refund')")
    route = json.loads(server.call("GET", "/v1/routes/refund")[2])
    assert route["description"] == "Mine" and "Money, now!" in route["utterances"]
    console.expected.append("status of 412")


def test_an_utterance_is_edited_and_duplicates_stay(console, server):
    page = console("routes/refund")
    page.click("button", "Edit “I want a refund”")
    page.wait("document.activeElement.matches('.editing textarea')")
    page.evaluate("document.activeElement.select()")
    page.write("I wish for a refund")
    page.press("Enter")
    page.wait("document.querySelector('.toasts').textContent.includes('Changed')")
    utterances = json.loads(server.call("GET", "/v1/routes/refund")[2])["utterances"]
    assert utterances[0] == "I wish for a refund" and len(utterances) == 8
    # Of two lines one is there already: undoing takes away the other only.
    page.click(".adder textarea")
    page.write("I wish for a refund\nRefund me")
    page.press("Enter")
    page.wait("document.querySelectorAll('.utterances li').length === 9")
    page.click(".toast button", "Undo")
    page.wait("document.querySelectorAll('.utterances li').length === 8")
    page.evaluate("document.activeElement.blur()")
    page.press("u")
    page.wait("document.querySelector('.utterances li').textContent === 'I want a refund'")
    assert json.loads(server.call("GET", "/v1/routes/refund")[2])["utterances"][0] == "I want a refund"


def test_a_route_is_made_and_deleted_and_comes_back(console, server):
    page = console("routes")
    page.click("button", "New route")
    page.wait("document.activeElement.matches('dialog input')")
    page.write("späte/Lieferung")
    page.press("Enter")
    page.wait("document.querySelector('.detail h2')?.textContent === 'späte/Lieferung'")
    page.click(".adder textarea")
    page.write("Es kommt nie an\nWo bleibt es?")
    page.press("Enter")
    page.wait("document.querySelectorAll('.utterances li').length === 2")
    page.click("button", "Delete route")
    page.wait("document.querySelector('.detail .empty')")
    assert server.call("GET", "/v1/routes/sp%C3%A4te%2FLieferung")[0] == 404
    page.click(".toast button", "Undo")
    page.wait("document.querySelector('.toasts').textContent.includes('Undone')")
    route = json.loads(server.call("GET", "/v1/routes/sp%C3%A4te%2FLieferung")[2])
    assert route["utterances"] == ["Es kommt nie an", "Wo bleibt es?"]


def test_fifty_thousand_routes(console, start, tmp_path):
    with open(tmp_path / "many.jsonl", "w", encoding="utf-8") as file:
        for i in range(50_000):
            file.write(json.dumps({"route": f"route_{i:05}", "description": f"Number {i}", "utterances": []}) + "\n")
    run(tmp_path, "import", "--no-fit", "many.jsonl")
    page = console("routes", base=start(tmp_path).base)
    page.wait("document.querySelector('.browse').textContent.includes('50,000 routes')")
    # Down to the end of the list, though no more is drawn than fits.
    page.evaluate("(list => list.scrollTop = list.scrollHeight)(document.querySelector('.scroller'))")
    page.wait("document.querySelector('.scroller').textContent.includes('route_49999')", timeout=60)
    assert page.evaluate("document.querySelectorAll('.scroller li').length") < 80
    page.press("/")
    page.write("route_12345")
    page.wait("document.querySelector('.browse').textContent.includes('1 of 50,000')")
    page.press("Tab")
    page.press("Enter")
    page.wait("document.querySelector('.detail h2')?.textContent === 'route_12345'")


# ---- Map and live ------------------------------------------------------------------------------


# A digest of the map as it is drawn.
PICTURE = """[...document.querySelector('.plot canvas').toDataURL()].reduce((h, c) => h * 31 + c.charCodeAt() | 0, 0)"""


def settled_picture(page):
    """The picture when it has not changed for a while: it is drawn after the words have changed."""
    while True:
        before = page.evaluate(PICTURE)
        page.evaluate("new Promise(done => setTimeout(done, 250))")
        if page.evaluate(PICTURE) == before:
            return before


def test_the_map_is_drawn_and_moved_by_keys(console):
    console.expected.append("Canvas2D")  # of the reading back below
    page = console("map")
    page.wait("document.querySelector('.keys button')")
    colours = """(c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)
        (document.querySelector('.plot canvas'))"""
    page.wait(f"{colours} > 10")
    page.evaluate("document.querySelector('.plot canvas').focus()")
    page.press("n")
    first = page.wait("document.querySelector('.plot [role=status]').textContent")
    page.press("n")
    page.wait(f"document.querySelector('.plot [role=status]').textContent !== {json.dumps(first)}")
    before = settled_picture(page)
    page.wheel(500, 400, -300)
    page.wait(f"{PICTURE} !== {before}")
    page.press("0")
    page.wait(f"{PICTURE} === {before}")
    # Two routes that lint finds to overlap are shown together with what goes astray between them.
    page.click(".overlaps button")
    page.wait("document.querySelector('.astray')")
    assert page.evaluate("document.querySelector('.overlaps button').getAttribute('aria-pressed')") == "true"


def test_live_charts_show_decisions(console, server):
    page = console("live")
    page.wait("document.querySelector('.chart canvas')")
    page.wait("document.querySelectorAll('.tiles dd').length === 8")
    for _ in range(40):
        server.route("Where is my parcel?")
    page.wait("Number(document.querySelector('.tiles dd').textContent.replaceAll(',', '')) > 0")
    page.wait("document.querySelectorAll('.tiles dd')[1].textContent.match(/[µm]?s$/)")


# ---- Frame -------------------------------------------------------------------------------------


def test_keyboard(console):
    page = console("try")
    page.wait("document.querySelector('nav')")
    page.press("?")
    page.wait("document.querySelector('dialog[open]')")
    page.press("Escape")
    page.wait("!document.querySelector('dialog')")
    page.press("2")
    page.wait("location.hash === '#/routes'")
    page.wait("document.title.startsWith('Routes')")
    page.press("/")
    page.wait("document.activeElement.type === 'search'")
    page.write("order")
    page.wait("document.querySelector('.browse').textContent.includes('of 10')")
    page.press("Tab")
    page.press("ArrowDown")
    page.wait("document.activeElement.dataset.index === '1'")


def test_theme_is_chosen_and_kept(console):
    page = console("try")
    page.wait("document.querySelector('nav')")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.click("button", "Dark colours")
    page.wait(f"{background} !== {json.dumps(light)}")
    page.send("Page.reload")
    page.wait("document.querySelector('button[aria-label=\"Light colours\"]')")
    assert page.evaluate(background) != light
    page.click("button", "Light colours")
    page.wait(f"{background} === {json.dumps(light)}")


def test_nothing_moves_when_answers_come(console):
    page = console("try")
    page.evaluate(
        "window.shifted = 0, new PerformanceObserver(list => list.getEntries().forEach(e => "
        "window.shifted += e.hadRecentInput ? 0 : e.value)).observe({type: 'layout-shift', buffered: true})"
    )
    for place in PAGES:
        go(page, place)
        page.evaluate("new Promise(done => setTimeout(done, 400))")
    assert page.evaluate("window.shifted") < 0.1


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_no_serious_fault(console, look, tmp_path):
    if not AXE.exists():
        pytest.skip("there is no axe-core in the build directory")
    page = console("try", **LOOKS[look])
    page.evaluate(AXE.read_text(encoding="utf-8"))
    (tmp_path / "labelled.csv").write_text("text,route\nWhere is my parcel?,refund\nMoney back,refund\n")
    for place in PAGES:
        go(page, place)
        page.evaluate("new Promise(done => setTimeout(done, 300))")
        if place == "try":
            ask(page, "Where is my parcel?")
        if place == "map":
            page.wait("document.querySelector('.overlaps button')")
        if place == "evaluate":
            page.choose_file("input[type=file]", str(tmp_path / "labelled.csv"))
            page.click("button", "Evaluate")
            page.wait("document.querySelector('.matrix')")
        found = page.evaluate(
            "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
            ".map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).slice(0, 3).join(' | ')))"
        )
        assert found == [], f"{place}, {look}"
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{place}, {look}: the page can be scrolled sideways"


# ---- Keys and failures -------------------------------------------------------------------------


def make_key(directory, name, role):
    return run(directory, "key", "create", name, "--role", role, "--keys", "keys.jsonl").stdout.strip()


def test_signing_in(console, start, directory):
    reader, writer = make_key(directory, "looker", "read"), make_key(directory, "editor", "write")
    console.expected.append("status of 401")
    page = console("routes/refund", base=start(directory, "--keys", "keys.jsonl").base)
    page.wait("document.querySelector('.signin')")
    assert page.evaluate("document.querySelector('.signin .wrong').textContent") == ""
    page.write("not a key")
    page.press("Enter")
    page.wait("document.querySelector('.signin .wrong').textContent")

    # Who may only read sees no way to write.
    sign_in(page, reader)
    page.wait("document.querySelector('.utterances li')")
    assert "looker (read)" in page.evaluate("document.querySelector('.about').textContent")
    assert not page.evaluate("document.querySelector('.detail .danger, .adder, .utterances button')")
    assert reader not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")

    page.click("button", "Sign out")
    page.wait("document.querySelector('.signin')")
    sign_in(page, writer)
    page.wait("document.querySelector('.detail .danger')")
    go(page, "evaluate")
    page.wait("document.querySelector('.notice')?.textContent.includes('admin')")


def sign_in(page, secret):
    page.evaluate("document.querySelector('.signin input').select()")
    page.evaluate("document.querySelector('.signin input').focus()")
    page.write(secret)
    page.press("Enter")
    page.wait("!document.querySelector('.signin')")


def test_a_server_that_is_gone_is_said_so(console, server):
    page = console("try")
    page.wait("document.querySelector('#text')")
    server.stop()
    console.expected.append("ERR_CONNECTION_REFUSED")
    page.click("#text")
    page.write("Where is my parcel?")
    page.press("Enter")
    page.wait("document.querySelector('.notice')?.textContent.includes('does not answer')")


# ---- Files -------------------------------------------------------------------------------------


def test_files_are_compressed_cached_and_confined(server):
    compressed = {"Accept-Encoding": "gzip, br"}
    status, headers, body = server.call("GET", "/", headers=compressed)
    assert status == 200 and headers["Content-Encoding"] == "gzip"
    page = gzip.decompress(body).decode()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert path.startswith("/assets/")
        status, headers, _ = server.call("GET", path, headers=compressed)
        assert status == 200, path
        assert server.call("GET", path, headers={**compressed, "If-None-Match": headers["ETag"]})[0] == 304
    assert server.call("GET", "/assets/nothing.js", headers=compressed)[0] == 404
    assert server.call("GET", "/", headers={"Accept-Encoding": "identity"})[0] == 406
    assert server.call("GET", "/", headers={"Accept-Encoding": "gzip;q=0"})[0] == 406
    assert server.call("GET", "/", headers={"Accept-Encoding": "gzip;q=0.5"})[0] == 200
