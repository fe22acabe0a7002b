"""Answers after as many milliseconds as it is asked to: TCP on a free port, and DNS on 127.0.0.1:53 if it may.

Runs as its own process, so that the process under observation has nothing but its blocks.
"""

import socket
import sys
import threading
import time

DNS_DELAY_S = 0.08


def answer(conn):
    with conn:
        while data := conn.recv(64):
            time.sleep(int(data) / 1000)
            conn.sendall(b"x")


def answer_dns():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind(("127.0.0.1", 53))
    except OSError:
        return
    while True:
        query, peer = server.recvfrom(512)
        time.sleep(DNS_DELAY_S)
        # The same question back, with the response bit and NXDOMAIN.
        server.sendto(query[:2] + b"\x81\x83" + query[4:], peer)


threading.Thread(target=answer_dns, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=lambda: sys.exit(sys.stdin.read()), daemon=True)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
