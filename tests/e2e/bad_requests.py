"""A corpus of bodies and requests that must be refused with the right status, and never harm the server.

BODIES: (name, bytes of the body of POST /v1/route, status). REQUESTS: (name, bytes of the whole request, first line of
the answer must hold one of these statuses, or b"" where the connection is just closed).
"""


def body(text):
    return b'{"text":"' + text + b'"}'


INVALID_UTF8 = {
    "a lone continuation": b"\x80", "two continuations": b"\x80\xbf", "a lead alone": b"\xc3", "a lead before ASCII": b"\xc3a",
    "two of three": b"\xe2\x82", "three of four": b"\xf0\x9f\x98", "overlong slash": b"\xc0\xaf", "overlong in three": b"\xe0\x80\xaf",
    "overlong in four": b"\xf0\x80\x80\xaf", "overlong NUL": b"\xc0\x80", "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf", "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80", "past U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80", "six bytes": b"\xfc\x84\x80\x80\x80\x80", "FE": b"\xfe", "FF": b"\xff",
    "Latin-1": "caf\u00e9".encode("latin-1"), "UTF-16": "\ufeffabc".encode("utf-16-le"),
}
INVALID_JSON = {
    "nothing": b"", "white space": b"  \n", "an open object": b"{", "an open list": b'{"texts":[', "an open string": b'{"text":"a',
    "an open name": b'{"te', "no colon": b'{"text" "a"}', "no value": b'{"text":}', "a comma at the end": b'{"text":"a",}',
    "two commas": b'{"text":"a",,"top_k":1}', "single quotes": b"{'text':'a'}", "no quotes": b'{text:"a"}',
    "a comment": b'{"text":"a"} // no', "two values": b'{"text":"a"}{"text":"b"}', "text behind": b'{"text":"a"} x',
    "a raw newline": body(b"a\nb"), "a raw tab": body(b"a\tb"), "a raw NUL": body(b"a\x00b"), "a raw escape": body(b"a\x1bb"),
    "a wrong escape": body(b"\\q"), "half an escape": body(b"\\u12"), "no hex": body(b"\\uzzzz"),
    "half a surrogate pair": body(b"\\ud83d"), "a low surrogate first": body(b"\\ude00"), "a pair the wrong way": body(b"\\ude00\\ud83d"),
    "a leading zero": b'{"text":"a","top_k":01}', "a plus": b'{"text":"a","top_k":+1}', "hex": b'{"text":"a","top_k":0x1}',
    "a bare point": b'{"text":"a","top_k":.5}', "NaN": b'{"text":"a","top_k":NaN}', "Infinity": b'{"text":"a","top_k":Infinity}',
    "an integer past 64 bits": b'{"text":"a","top_k":99999999999999999999}', "a real past doubles": b'{"text":"a","top_k":1e999}',
    "True": b'{"text":"a","reject":True}', "a name twice": b'{"text":"a","text":"b"}', "a byte order mark": b"\xef\xbb\xbf" + body(b"a"),
    "UTF-16": '{"text":"a"}'.encode("utf-16"), "UTF-32": '{"text":"a"}'.encode("utf-32"), "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "zeros": bytes(1000), "deep lists": b"[" * 100000, "deep lists that end": b"[" * 50000 + b"]" * 50000,
    "deep objects": b'{"a":' * 100000, "deep in a member": b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}",
}
WRONG_KIND = {
    "null": b"null", "a string": b'"text"', "a number": b"1", "a list": b"[]", "true": b"true", "an object in text": b'{"text":{}}',
    "a list in text": b'{"text":["a"]}', "a real in top_k": b'{"text":"a","top_k":1.5}', "below": b'{"text":"a","top_k":-1}',
    "a name with NUL": b'{"te\\u0000xt":"a"}', "an empty name": b'{"":"a"}',
}

BODIES = ([(f"invalid UTF-8: {name}", body(b"x" + data + b"y"), 400) for name, data in INVALID_UTF8.items()] +
          [(f"invalid JSON: {name}", data, 400) for name, data in INVALID_JSON.items()] +
          [(f"the wrong kind: {name}", data, 400) for name, data in WRONG_KIND.items()])


def post(headers, data=b""):
    return b"POST /v1/route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + b"\r\n" + data


GOOD = b'{"text":"a"}'
REQUESTS = [
    ("no request", b"\r\n\r\n\r\n", (b"", b"400")),
    ("rubbish", bytes(range(1, 256)) * 4 + b"\r\n\r\n", (b"", b"400")),
    ("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (b"", b"400")),
    ("no version", b"GET /healthz\r\n\r\n", (b"", b"400", b"505")),
    ("HTTP/3", b"GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n", (b"", b"400", b"505")),
    ("no host", b"GET /healthz HTTP/1.1\r\n\r\n", (b"400",)),
    ("a long path", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"", b"414")),
    ("a long header", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100000 + b"\r\n\r\n", (b"", b"413", b"431")),
    ("many headers", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(5000)) + b"\r\n",
     (b"", b"413", b"431")),
    ("a length that is no number", post(b"Content-Length: ten\r\n"), (b"", b"400")),
    ("a negative length", post(b"Content-Length: -1\r\n"), (b"", b"400")),
    ("an enormous length", post(b"Content-Length: 99999999999999999999999\r\n"), (b"", b"400", b"413")),
    ("a length past the bound", post(b"Content-Length: 99999999999\r\n"), (b"413",)),
    ("a body shorter than its length, and the end", post(b"Content-Length: 100\r\n", GOOD), (b"", b"400")),
    ("a body longer than its length", post(b"Content-Length: 12\r\nConnection: close\r\n", GOOD + b"and more"), (b"200",)),
    ("a chunk that is no number", post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"), (b"", b"400")),
    ("two ends", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"c\r\n" + GOOD + b"\r\n0\r\n\r\n"), (b"400",)),
    ("two lengths", post(b"Content-Length: 12\r\nContent-Length: 13\r\n", GOOD), (b"400",)),
    ("an unknown encoding", post(b"Transfer-Encoding: xchunked\r\n", GOOD), (b"400",)),
    ("an encoding before chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", GOOD), (b"400",)),
    ("two hosts", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", (b"400",)),
    ("half a chunk", post(b"Transfer-Encoding: chunked\r\n", b"ff\r\nabc"), (b"", b"400")),
    ("half a first line", b"POST /v1/ro", (b"", b"400")),
    ("half a header", b"POST /v1/route HTTP/1.1\r\nHost: loc", (b"", b"400")),
    ("a bad name in the path", b"PUT /v1/routes/%g0 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
     (b"400",)),
]
