"""The demo's program: a WSGI application and a TCP service, as a monkey-patched project writes them.

The application knows nothing of Eventlet: it takes a socket from a pool, asks the TCP service to confirm
the caller's session, and answers with JSON. The service sends each message back.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import json  # noqa: E402
import queue  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import urllib.parse  # noqa: E402

import eventlet.wsgi  # noqa: E402

#: Length of the answer, so that the load client can check it.
PAGE_BYTES = 1024
MESSAGE_BYTES = 64


def serve_sessions(listener: socket.socket) -> None:
    """The TCP service: a thread per connection."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    """Send back what arrives until the peer closes."""
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            pass  # the client ends its run by closing, with requests in flight


class Sessions:
    """Client of the TCP service with a pool of connections."""

    def __init__(self, address):
        self.address = address
        self.idle = queue.LifoQueue()

    def confirm(self, token: str) -> str:
        """Ask the service for `token`."""
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = socket.create_connection(self.address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(token.ljust(MESSAGE_BYTES).encode())
        answer = b""
        while len(answer) < MESSAGE_BYTES:
            part = connection.recv(MESSAGE_BYTES - len(answer))
            if not part:
                raise ConnectionError("the session service closed the connection")
            answer += part
        self.idle.put(connection)
        return answer.decode().rstrip()


def application(sessions: Sessions):
    """The WSGI application: `/orders?session=…` answers with a page of JSON."""

    def orders(environ, start_response):
        query = urllib.parse.parse_qs(environ["QUERY_STRING"])
        if environ["PATH_INFO"] != "/orders" or "session" not in query:
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        session = sessions.confirm(query["session"][0])
        lines = [{"order": number, "total": number * 7} for number in range(20)]
        body = json.dumps({"session": session, "orders": lines}).ljust(PAGE_BYTES).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]

    return orders


def serve(announce) -> None:
    """Start both on free ports and tell `announce` the WSGI port and the TCP port."""
    services = eventlet.listen(("127.0.0.1", 0), backlog=1024)
    threading.Thread(target=serve_sessions, args=(services,), daemon=True).start()
    pages = eventlet.listen(("127.0.0.1", 0), backlog=1024)
    announce((pages.getsockname()[1], services.getsockname()[1]))
    eventlet.wsgi.server(pages, application(Sessions(services.getsockname())), log_output=False)
