"""The application of the gunicorn tests."""

import hashlib
import os


def application(environ, start_response):
    """GET names the worker; POST answers a first piece before it reads the upload, then the upload's hash."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["REQUEST_METHOD"] == "GET":
        return [f"{os.getpid()} {environ['QUERY_STRING']}".encode()]
    return held(environ["wsgi.input"])


def held(upload):
    """The client sees that its request is being served before it goes on."""
    yield b"being served\n"
    digest = hashlib.sha256()
    while block := upload.read(8192):
        digest.update(block)
    yield digest.hexdigest().encode()
