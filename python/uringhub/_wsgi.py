"""Parses the headers of a request in ``eventlet.wsgi`` without the email package's general parser.

``http.client.parse_headers`` takes as long as all of the hub for one request, because it feeds the header
block through a parser for nested MIME messages. A block of plain ``Name: value`` lines gives the same message
object from a loop of a few lines; anything else still goes through the general parser. Only the ``eventlet.wsgi``
protocol class sees this: ``http.client`` and ``http.server`` stay as they are.

Source: CPython, ``http/client.py`` and ``email/feedparser.py``; the header rules are those of
``email._policybase.Compat32``.
"""

import http.client
import re
import types

# Whole lines of a name, a colon and a value without line breaks; then the empty line that ends the block.
_PLAIN_BLOCK = re.compile(r"(?:[!-9;-~]+:[^\r\n]*\r?\n)*\r?\n")
# Bodies of these types are parsed into nested messages.
_NESTED = ("multipart", "message")


def parse_headers(fp, _class=http.client.HTTPMessage):
    """Read a header block from a binary file; as ``http.client.parse_headers``.

    :raises http.client.LineTooLong: a line of more than 65,536 bytes.
    :raises http.client.HTTPException: more than 100 headers.
    """
    lines = http.client._read_headers(fp)
    block = b"".join(lines).decode("iso-8859-1")
    return _parse_plain(block, _class) or http.client.email.parser.Parser(_class=_class).parsestr(block)


def _parse_plain(block, _class):
    """The message of a plain block, or None."""
    if _PLAIN_BLOCK.fullmatch(block) is None:
        return None
    headers = []
    for line in block.split("\n")[:-2]:
        name, _, value = line.partition(":")
        value = value.lstrip(" \t").rstrip("\r")
        if len(name) == 12 and name.lower() == "content-type" and value.lower().startswith(_NESTED):
            return None
        headers.append((name, value))
    message = _class()
    message._headers = headers
    message._payload = ""
    return message


class _Http(types.ModuleType):
    """The ``http`` package as the request parser sees it."""

    class client(types.ModuleType):
        """``http.client`` with the fast header parser."""

        parse_headers = staticmethod(parse_headers)
        LineTooLong = http.client.LineTooLong
        HTTPException = http.client.HTTPException


def patch(wsgi):
    """Give ``eventlet.wsgi.HttpProtocol`` a request parser that uses :func:`parse_headers`.

    It is the inherited method, run in globals in which ``http.client`` is the class above.
    """
    inherited = wsgi.HttpProtocol.parse_request
    if inherited.__globals__.get("http") is not http:
        # Somebody has replaced the method: theirs stays.
        return
    parse_request = types.FunctionType(
        inherited.__code__, {**inherited.__globals__, "http": _Http}, "parse_request", inherited.__defaults__
    )
    parse_request.__doc__ = inherited.__doc__
    parse_request.__qualname__ = inherited.__qualname__
    wsgi.HttpProtocol.parse_request = parse_request
