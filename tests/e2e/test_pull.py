"""pull: against a server on this machine that misbehaves on demand."""

import array
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import random
import resource
import signal
import struct
import subprocess
import threading
import time

import pytest

import conftest

NAME = "maker/tiny"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "day", "##s", "my", "money", "back", "query"]
# The position embeddings make the file large enough to be cut in many places.
HIDDEN, WIDE, POSITIONS = 8, 16, 30000


# ---- A model ------------------------------------------------------------------------------------


def config():
    return json.dumps({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": WIDE, "vocab_size": len(WORDS),
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12}).encode()


def tokenizer():
    special = lambda number: {"id": number, "content": WORDS[number], "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False, "special": True}
    entry = lambda number: {"id": WORDS[number], "ids": [number], "tokens": [WORDS[number]]}
    token = lambda number: {"SpecialToken": {"id": WORDS[number], "type_id": 0}}
    text = lambda kind: {"Sequence": {"id": kind, "type_id": 0}}
    return json.dumps({
        "version": "1.0",
        # As all-MiniLM-L6-v2 has them; they are not heeded.
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(i) for i in range(4)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [token(2), text("A"), token(3)],
                           "pair": [token(2), text("A"), token(3), text("B"), token(3)],
                           "special_tokens": {"[CLS]": entry(2), "[SEP]": entry(3)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(WORDS)}}}).encode()


def weights(seed=1):
    layer = "encoder.layer.0."
    shapes = {
        "embeddings.word_embeddings.weight": [len(WORDS), HIDDEN],
        "embeddings.position_embeddings.weight": [POSITIONS, HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, HIDDEN],
        "embeddings.LayerNorm.weight": [HIDDEN], "embeddings.LayerNorm.bias": [HIDDEN],
        layer + "attention.output.dense.weight": [HIDDEN, HIDDEN], layer + "attention.output.dense.bias": [HIDDEN],
        layer + "attention.output.LayerNorm.weight": [HIDDEN], layer + "attention.output.LayerNorm.bias": [HIDDEN],
        layer + "intermediate.dense.weight": [WIDE, HIDDEN], layer + "intermediate.dense.bias": [WIDE],
        layer + "output.dense.weight": [HIDDEN, WIDE], layer + "output.dense.bias": [HIDDEN],
        layer + "output.LayerNorm.weight": [HIDDEN], layer + "output.LayerNorm.bias": [HIDDEN]}
    for name in ("query", "key", "value"):
        shapes[f"{layer}attention.self.{name}.weight"] = [HIDDEN, HIDDEN]
        shapes[f"{layer}attention.self.{name}.bias"] = [HIDDEN]
    values, header, data = random.Random(seed), {}, array.array("f")
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [4 * len(data), 4 * (len(data) + count)]}
        data.extend(values.uniform(-1, 1) for _ in range(count))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data.tobytes()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


FILES = {"config.json": config(), "tokenizer.json": tokenizer(), "model.safetensors": weights(),
         "1_Pooling/config.json": b'{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'}
WEIGHTS = FILES["model.safetensors"]


# ---- A server -----------------------------------------------------------------------------------


class Hub(http.server.ThreadingHTTPServer):
    """Serves FILES under /maker/tiny/resolve/main/; `tricks` of a file are used up one a request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.tricks = {}
        self.always = {}
        self.requests = []
        self.commits = []
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.host}"

    def handle_error(self, request, client_address):
        pass  # a client that goes away

    def asked(self, name="model.safetensors"):
        return [headers for path, headers in self.requests if path.endswith("/" + name)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        if self.server.commits:
            self.send_header("X-Repo-Commit", self.server.commits.pop(0))
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def part(self, body, etag):
        """The bytes asked for, and the status and headers for them."""
        wanted = self.headers.get("Range")
        if not wanted or self.headers.get("If-Range") != etag:
            return body, 200, {}
        start = int(wanted[len("bytes="):-1])
        if start >= len(body):
            return b"", 416, {"Content_Range": f"bytes */{len(body)}"}
        return body[start:], 206, {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}

    def do_GET(self):
        hub = self.server
        hub.requests.append((self.path, dict(self.headers)))
        prefix = f"/{NAME}/resolve/main/"
        elsewhere = self.path.startswith("/elsewhere/")
        name = self.path[len("/elsewhere/" if elsewhere else prefix):]
        if name not in hub.files or not (elsewhere or self.path.startswith(prefix)):
            return self.reply(404, b"Entry not found")
        body = hub.files[name]
        waiting = hub.tricks.get(name)
        trick, value = waiting.pop(0) if waiting else hub.always.get(name, (None, None))
        etag = f'"{sha256(body)}"' if trick != "no digest" else f'"v-{len(body)}"'
        if trick == "status":
            return self.reply(value, b"<html>")
        if trick == "redirect" and not elsewhere:
            return self.reply(302, b"moved", Location=value + "/elsewhere/" + name, X_Linked_Etag=etag,
                              X_Linked_Size=len(body))
        if trick == "circle":
            return self.reply(302, b"", Location=self.path)
        if trick == "damage":
            body = body[:value] + bytes([body[value] ^ 1]) + body[value + 1:]
        if trick == "whole":
            return self.reply(200, body, ETag=etag)
        body, status, headers = self.part(body, etag)
        if trick == "other range":
            headers["Content_Range"] = "bytes 5-9/10"
        if trick == "cut":
            self.send_response(status)
            for key, text in {"ETag": etag, "Content-Length": len(body),
                              **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(body[:value])
            self.close_connection = True
            return None
        if trick == "slow":
            self.send_response(status)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:value])
            self.wfile.flush()
            time.sleep(6)
            self.close_connection = True
            return None
        return self.reply(status, body, ETag=etag, **headers)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


class Puller(conftest.Program):
    """The program with a cache of its own and without the user's settings."""

    def __init__(self, directory, hub):
        super().__init__(directory)
        self.hub = hub
        self.cache = self.directory / "cache"
        hidden = ("HF_TOKEN", "HF_ENDPOINT", "SYNAPTOROUTE_CACHE", "XDG_CACHE_HOME")
        self.environment = {k: v for k, v in os.environ.items()
                            if k not in hidden and not k.lower().endswith("_proxy")}
        self.environment.update(SYNAPTOROUTE_CACHE=str(self.cache), HF_ENDPOINT=hub.url, NO_PROXY="*")

    @property
    def models(self):
        return self.cache / "models"

    @property
    def place(self):
        return self.models / NAME.replace("/", "--")

    @property
    def part(self):
        return self.models / ".maker--tiny.partial" / "model.safetensors.part"

    def pull(self, *arguments, name=NAME, expect=0, env=None, **more):
        return self.run("pull", name, *arguments, expect=expect, env={**self.environment, **(env or {})}, **more)

    def refused(self, *arguments, message, **more):
        """A pull that fails and installs nothing."""
        before = self.place.exists()
        result = self.pull(*arguments, expect=1, **more)
        assert message in result.err, result.err
        assert self.place.exists() == before
        return result

    def installed(self):
        """The model is complete, and nothing else is left."""
        for name, content in self.hub.files.items():
            assert (self.place / name).read_bytes() == content, name
        assert not list(self.models.glob("**/*.part*"))
        assert not list(self.models.glob("*.partial"))
        return json.loads((self.place / "synaptoroute.json").read_text())


@pytest.fixture(scope="module")
def needs_curl(tmp_path_factory):
    program = conftest.Program(tmp_path_factory.mktemp("probe"))
    # A port that is never listened at.
    probe = program.run("pull", "no/body", "--to", "model", "--endpoint", "http://127.0.0.1:1", expect=1)
    if "libcurl" in probe.err:
        pytest.skip("this build or machine has no libcurl")


@pytest.fixture
def puller(tmp_path, hub, needs_curl):
    return Puller(tmp_path, hub)


# ---- Pulling ------------------------------------------------------------------------------------


def test_a_pulled_model_is_found_by_its_name(puller):
    out = puller.pull().out
    assert out == f"pulled {NAME} to {puller.place}\n"
    about = puller.installed()
    assert about["pooling"] == "cls"
    assert about["repository"] == NAME and about["revision"] == "main" and about["source"] == puller.hub.url
    assert about["files"]["model.safetensors"] == {"bytes": len(WEIGHTS), "sha256": sha256(WEIGHTS)}
    puller.run("--model", NAME, "add", "cheer", "good days", env=puller.environment)
    answer = puller.run("--model", NAME, "--json", "route", "good days", env=puller.environment).json()[0]
    assert answer["route"] == "cheer" and answer["score"] == pytest.approx(1)
    # Six tokens: the tokenizer file's own truncation to 4 is not heeded.
    assert not answer["truncated"]
    info = puller.run("info", "--model", NAME, "--verify", "--json", env=puller.environment).json()[0]
    assert info["model"] == "maker--tiny" and info["verified"]


def test_a_second_pull_needs_no_network(puller):
    puller.pull()
    count = len(puller.hub.requests)
    result = puller.pull("--json").json()[0]
    assert result == {"model": NAME, "directory": str(puller.place), "present": True, "received": 0}
    assert len(puller.hub.requests) == count
    puller.pull("--offline", "--endpoint", "http://127.0.0.1:1")
    puller.pull("--offline", "--sha256", f"model.safetensors={sha256(WEIGHTS)}")
    puller.refused("--offline", "--revision", "v2", message="maker/tiny at revision v2 is not in")
    puller.refused("--offline", "--sha256", f"config.json={'0' * 64}", message="but you expect 000")


def test_offline_without_a_cache_says_what_to_do(puller):
    puller.refused("--offline", message="pull it without --offline")
    assert not puller.cache.exists()
    assert "synaptoroute pull maker/tiny" in puller.run("--model", NAME, "add", "a", "b", expect=1,
                                                        env=puller.environment).err


def test_offline_finds_damage(puller):
    puller.pull()
    path = puller.place / "model.safetensors"
    path.write_bytes(b"x" + WEIGHTS[1:])
    result = puller.pull("--offline", expect=1)
    assert "is not as it was pulled" in result.err
    puller.pull("--force")
    puller.installed()


def test_force_replaces_a_model_in_place(puller):
    puller.pull()
    puller.hub.files["model.safetensors"] = weights(seed=2)
    puller.pull("--force")
    puller.installed()


def test_another_directory(puller):
    puller.pull("--to", "here/model")
    assert (puller.directory / "here" / "model" / "model.safetensors").read_bytes() == WEIGHTS
    assert not puller.cache.exists()
    puller.write("full.txt", "precious")
    result = puller.pull("--to", ".", expect=1)
    assert "cannot be a model's directory" in result.err or "no pull of maker/tiny has made it" in result.err
    (puller.directory / "mine").mkdir()
    puller.write("mine/full.txt", "precious")
    assert "no pull of maker/tiny has made it" in puller.pull("--to", "mine", expect=1).err
    assert (puller.directory / "mine" / "full.txt").read_text() == "precious"


def test_pull_takes_no_named_prefix(puller):
    result = puller.pull("--prefix", "@query", expect=2)
    assert "@query" in result.err and "the text itself" in result.err


def test_a_prefix_becomes_the_models_own(puller):
    puller.pull("--prefix", "query: ")
    assert puller.installed()["prefix"] == "query: "
    score = lambda *options: puller.run(*options, "--db", ":memory:", "--model", NAME, "info", "--json",
                                        env=puller.environment)
    assert score().status == 0
    puller.run("--model", NAME, "add", "a", "good", env=puller.environment)
    # Without the prefix the vectors are others, which a table that has the old ones must not mix.
    result = puller.run("--model", NAME, "--prefix", "", "route", "good", expect=1, env=puller.environment)
    assert "--reencode" in result.err


def test_optional_files_may_be_missing(puller):
    del puller.hub.files["1_Pooling/config.json"]
    puller.pull()
    assert puller.installed()["pooling"] == "mean"
    assert not (puller.place / "1_Pooling").exists()


def test_a_repository_that_changes_meanwhile_is_not_mixed(puller):
    old, new = "a" * 40, "b" * 40
    puller.hub.commits = [old, old, old, new, new]
    puller.refused(message="changed while it was pulled (from commit aaaaaaaaaaaa to bbbbbbbbbbbb)")
    puller.hub.commits = [new] * 5
    assert puller.pull("--json").json()[0]["received"] == 0
    assert puller.installed()["commit"] == new


@pytest.mark.parametrize("variable, below", [("XDG_CACHE_HOME", "synaptoroute"), ("HOME", ".cache/synaptoroute")])
def test_the_cache_is_where_users_keep_caches(puller, variable, below):
    environment = {**puller.environment, variable: str(puller.directory / "users")}
    del environment["SYNAPTOROUTE_CACHE"]
    puller.run("pull", NAME, env=environment)
    puller.cache = puller.directory / "users" / below
    puller.installed()
    puller.run("--model", NAME, "add", "cheer", "good days", env=environment)


# ---- Resuming -----------------------------------------------------------------------------------


def test_a_cut_connection_is_continued_where_it_was_cut(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 300000), ("cut", 200000)]
    result = puller.pull("--json").json()[0]
    asked = puller.hub.asked()
    assert [headers.get("Range") for headers in asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert asked[1]["If-Range"] == f'"{sha256(WEIGHTS)}"'
    assert result["received"] == sum(map(len, FILES.values()))
    puller.installed()


def test_a_later_pull_continues_an_earlier_one(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 400000)]
    puller.refused("--retries", "0", message="run this again later: it goes on after the 400000 bytes")
    assert puller.part.stat().st_size == 400000
    result = puller.pull("--json").json()[0]
    assert puller.hub.asked()[-1]["Range"] == "bytes=400000-"
    # Nothing is fetched twice, the small files neither.
    assert result["received"] == len(WEIGHTS) - 400000
    puller.installed()


def test_a_complete_part_is_not_fetched_again(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", len(WEIGHTS) - 1)]
    puller.refused("--retries", "0", message="the connection was cut")
    puller.part.write_bytes(WEIGHTS)
    assert puller.pull("--json").json()[0]["received"] == 0
    puller.installed()


def test_a_server_that_ignores_ranges_gives_the_whole_file_again(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 300000), ("whole", None)]
    puller.pull()
    assert puller.hub.asked()[1]["Range"] == "bytes=300000-"
    puller.installed()


def test_a_wrong_range_is_not_appended(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 300000), ("other range", None)]
    puller.pull()
    assert puller.hub.asked()[2].get("Range") is None
    puller.installed()


def test_a_changed_version_begins_anew(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 300000)]
    puller.refused("--retries", "0", message="the connection was cut")
    puller.hub.files["model.safetensors"] = weights(seed=3)
    puller.pull()
    puller.installed()


def test_another_endpoints_part_is_not_continued(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 300000)]
    puller.refused("--retries", "0", message="the connection was cut")
    puller.pull("--endpoint", puller.hub.url.replace("127.0.0.1", "localhost"))
    assert puller.hub.asked()[-1].get("Range") is None
    puller.installed()


def test_interrupting_keeps_the_part(puller):
    puller.hub.tricks["model.safetensors"] = [("slow", 300000)]
    process = puller.start("pull", NAME, env=puller.environment)
    until = time.monotonic() + 20
    while time.monotonic() < until and not (puller.part.exists() and puller.part.stat().st_size == 300000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"run this again to go on where it stopped" in err
    assert puller.part.stat().st_size == 300000
    puller.pull()
    assert puller.hub.asked()[-1]["Range"] == "bytes=300000-"
    puller.installed()


# ---- Servers that fail --------------------------------------------------------------------------


def test_a_server_error_that_passes_is_waited_for(puller):
    puller.hub.tricks["config.json"] = [("status", 500), ("status", 503)]
    puller.pull()
    assert len(puller.hub.asked("tokenizer.json")) == 1
    puller.installed()


def test_a_server_error_that_stays_is_reported(puller):
    puller.hub.always["config.json"] = ("status", 500)
    puller.refused("--retries", "1", message="the server answers 500, after 2 attempts")
    assert not list(puller.models.glob("*.partial"))


@pytest.mark.parametrize("name, status, message", [
    ("config.json", 401, "set HF_TOKEN"),
    ("config.json", 403, "accept its terms"),
    ("config.json", 404, "maker/tiny has no config.json at revision main"),
    ("tokenizer.json", 404, "only models with that file"),
    ("model.safetensors", 404, "only models with their weights in that one file"),
    ("config.json", 418, "the server answers 418"),
])
def test_a_refusal_says_what_to_do(puller, name, status, message):
    puller.hub.always[name] = ("status", status)
    puller.refused(message=message)
    assert len(puller.hub.asked(name)) == 1


def test_no_server_at_all(puller):
    puller.refused("--endpoint", "http://127.0.0.1:1", message="is there a network?")


def test_a_silent_server_is_given_up(puller):
    puller.hub.always["config.json"] = ("slow", 10)
    began = time.monotonic()
    puller.refused("--stall", "1", "--retries", "0", message="no data came for 1 seconds")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_not_installed(puller, name):
    puller.hub.always[name] = ("damage", 30)
    puller.refused(message="but the server states")
    assert not puller.part.exists()
    puller.hub.always.clear()
    puller.pull()
    puller.installed()


def test_a_demanded_digest_is_compared(puller):
    puller.refused("--sha256", f"config.json={sha256(FILES['config.json'])}",
                   f"--sha256=model.safetensors={'ab' * 32}", message=f"but you expect {'ab' * 32}")
    puller.pull("--sha256", f"model.safetensors={sha256(WEIGHTS).upper()}")
    puller.installed()


def test_a_digest_is_not_needed(puller):
    puller.hub.always["model.safetensors"] = ("no digest", None)
    puller.pull()
    puller.installed()


def test_redirects_are_followed_and_the_token_stays_behind(puller):
    other = puller.hub.url.replace("127.0.0.1", "localhost")
    puller.hub.always["model.safetensors"] = ("redirect", other)
    puller.hub.tricks["config.json"] = [("redirect", puller.hub.url)]
    puller.pull(env={"HF_TOKEN": "secret"})
    for path, headers in puller.hub.requests:
        at_endpoint = headers["Host"] == puller.hub.host
        assert headers.get("Authorization") == ("Bearer secret" if at_endpoint else None), path
    assert any(headers["Host"] != puller.hub.host for _, headers in puller.hub.requests)
    puller.installed()


def test_a_redirect_states_digest_and_size(puller):
    puller.hub.always["model.safetensors"] = ("redirect", puller.hub.url)
    puller.hub.tricks["model.safetensors"] = [("redirect", puller.hub.url), ("damage", 5000)]
    puller.refused(message="but the server states")
    puller.pull()
    puller.installed()


def test_redirects_in_circles_or_elsewhere_end(puller):
    puller.hub.always["config.json"] = ("redirect", "file:///etc")
    puller.refused(message="no web address")
    puller.hub.always["config.json"] = ("circle", None)
    puller.refused(message="in circles")


# ---- Models that cannot be run, disks that are full ----------------------------------------------


def test_what_is_no_model_is_removed(puller):
    puller.hub.files["config.json"] = config().replace(b'"bert"', b'"t5"')
    puller.refused(message="is no model that can be run")
    assert not list(puller.models.glob("*.partial"))
    puller.refused("--keep", message="its files are in")
    assert (puller.part.parent / "model.safetensors").read_bytes() == WEIGHTS
    puller.hub.files["config.json"] = config()
    puller.pull()
    puller.installed()


def test_truncated_weights_are_no_model(puller):
    puller.hub.files["model.safetensors"] = WEIGHTS[:-100]
    puller.refused(message="is no model that can be run")


def test_a_full_disk_keeps_what_has_come(puller):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))
    puller.refused(message="make room and run this again", preexec_fn=limit)
    assert puller.part.stat().st_size == 500000
    puller.pull()
    assert puller.hub.asked()[-1]["Range"] == "bytes=500000-"
    puller.installed()


def test_two_pulls_at_once_fetch_once(puller):
    puller.hub.tricks["model.safetensors"] = [("cut", 100000), ("cut", 100000)]
    processes = [puller.start("pull", NAME, "--json", env=puller.environment) for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert sum(json.loads(out)["received"] for out, _ in results) == sum(map(len, FILES.values()))
    puller.installed()


@pytest.mark.parametrize("arguments, message", [
    ([], "give one NAME"),
    (["a/b", "c/d"], "give one NAME"),
    (["a/b", "--sha256", "config.json=12"], "64 hexadecimal digits"),
    (["a/b", "--sha256", "weights.bin=" + "0" * 64], "is no file that is pulled"),
    (["a/b", "--sha256"], "--sha256 needs a value"),
    (["a/b", "--retries", "-1"], "give 0 to 100"),
    (["a/b", "--stall", "0"], "give 1 to 3600"),
    (["a/b", "--to", ""], "--to needs a directory"),
    (["a/b", "--offline", "--force"], "not both"),
])
def test_wrong_usage(puller, arguments, message):
    assert message in puller.run("pull", *arguments, expect=2, env=puller.environment).err


@pytest.mark.parametrize("name", ["tiny", "../tiny", "maker/../tiny", "a/b/c", "/etc", "a--b/c", ".a/b", "a/b c", "-/-"])
def test_names_that_are_no_repository(puller, name):
    result = puller.run("pull", "--", name, expect=1, env=puller.environment)
    assert "is no name of a repository" in result.err
    assert not puller.cache.exists() and not puller.hub.requests


def test_bad_endpoints_and_revisions(puller):
    puller.refused("--endpoint", "ftp://127.0.0.1", message="begins with https:// or http://")
    puller.refused("--revision", "../up", message="is no revision")
    puller.refused("--revision", "refs/pr/1", message="404")
    assert puller.hub.requests[-1][0] == f"/{NAME}/resolve/refs%2Fpr%2F1/config.json"
