"""The request parser of `eventlet.wsgi` on our hub makes the messages that `http.client` makes."""

from __future__ import annotations

import http.client
import io
import random

import pytest

pytest.importorskip("eventlet")

from uringhub import _wsgi

BLOCKS = [
    b"\r\n",
    b"\n",
    b"",
    b"Host: x\r\n\r\n",
    b"Host: x\n\n",
    b"Host:x\r\nAccept:   */*  \r\nX-Empty:\r\nX-Blank:   \r\n\r\n",
    b"A: 1\r\nA: 2\r\na: 3\r\n\r\n",
    b"X: a\r\n b\r\n\tc\r\n\r\n",
    b" leading: continuation\r\nHost: x\r\n\r\n",
    b"No colon here\r\nHost: x\r\n\r\n",
    b": no name\r\nHost: x\r\n\r\n",
    b"From someone at noon\r\nHost: x\r\n\r\n",
    b"Host: x\r\nFrom someone at noon\r\n\r\n",
    b"Host: a\rb\r\n\r\n",
    b"Host: caf\xe9\xff\r\n\r\n",
    b"Na\xefve: x\r\n\r\n",
    b"Host: x",
    b"Host: x\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n",
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n",
    b"content-type: Multipart/mixed\r\n\r\n",
    b"Content-Type:message/rfc822\r\n\r\n",
    b"Content-Type: message/delivery-status\r\n\r\n",
    b"Value: with\x00nul\x0bvt\x0cff\x1cfs\x85nel\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n",
]


def described(parse, block):
    """All that an observer could tell apart about the message, or about the error."""
    file = io.BytesIO(block + b"BODY")
    try:
        message = parse(file)
    except http.client.HTTPException as error:
        return type(error), str(error)
    payload = message.get_payload()
    return (
        message.items(),
        [part.as_string() for part in payload] if message.is_multipart() else payload,
        message.is_multipart(),
        [str(defect) for defect in message.defects],
        message.get_unixfrom(),
        message.preamble,
        message.epilogue,
        message.policy,
        type(message),
        file.read(),
    )


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_header_block_gives_the_message_of_the_standard_library(block):
    assert described(_wsgi.parse_headers, block) == described(http.client.parse_headers, block)


def test_random_header_blocks_give_the_messages_of_the_standard_library():
    rng = random.Random(20261120)
    pieces = [
        b"Host",
        b"content-type",
        b"multipart/x",
        b":",
        b": ",
        b" ",
        b"\t",
        b"\r\n",
        b"\n",
        b"\r",
        b"From ",
        b"\x80",
    ]
    for _ in range(20_000):
        block = b"".join(rng.choices(pieces, k=rng.randrange(1, 14))) + rng.choice(
            [b"", b"\r\n\r\n", b"\n\n"]
        )
        assert described(_wsgi.parse_headers, block) == described(http.client.parse_headers, block), block


@pytest.mark.parametrize(
    "block",
    [b"X: " + b"y" * 70_000 + b"\r\n\r\n", b"X: y\r\n" * 101 + b"\r\n"],
    ids=["long line", "many lines"],
)
def test_the_limits_of_the_standard_library_hold(block):
    result = described(_wsgi.parse_headers, block)
    assert issubclass(result[0], http.client.HTTPException)
    assert result == described(http.client.parse_headers, block)


def test_only_the_eventlet_protocol_class_uses_the_fast_parser(tmp_path):
    import http.server
    import subprocess
    import sys

    code = (
        "from eventlet.hubs import use_hub, get_hub; use_hub('uringhub.hub'); get_hub()\n"
        "import http.server, http.client; from eventlet import wsgi; from uringhub import _wsgi\n"
        "seen = wsgi.HttpProtocol.parse_request.__globals__['http'].client.parse_headers\n"
        "assert seen is _wsgi.parse_headers\n"
        "assert http.server.BaseHTTPRequestHandler.parse_request.__globals__['http'] is http\n"
        "assert http.client.parse_headers is not seen\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60, cwd=tmp_path)
    assert http.server.BaseHTTPRequestHandler.parse_request.__globals__["http"] is http
