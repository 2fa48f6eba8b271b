"""A fast HTTP client on keep-alive connections. It supports only what the benchmark needs."""

import re
import selectors
import socket
from contextlib import ExitStack

from processes import Broken

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
TIMEOUT_SECONDS = 10

# For requests with many keys: the number of connections, and of pipelined requests on each connection.
# These requests fit into the 16 KiB that the service reads ahead.
CONNECTIONS = 64
PIPELINE = 50

# All status lines have this length, so a shorter text contains no status line.
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
STATUS_LINE_LENGTH = 13


class Connection:
    """One connection, which sends one request after another."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def ask(self, request):
        """Reads one response. Returns its status and its body."""
        try:
            self._socket.sendall(request)
            return self._read_answer()
        except OSError as error:
            raise Broken(f"no response: {error}") from error

    def _read_answer(self):
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head + b"\r\n")
        if not length:
            raise Broken("a response has no Content-Length")
        while len(body) < int(length[1]):
            body += self._receive()
        return int(STATUS_LINE.match(head)[1]), body

    def _receive(self):
        received = self._socket.recv(65536)
        if not received:
            raise Broken("the server closed a connection")
        return received


def gated_request(path, key):
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n".encode()


def ask_each(port, path, keys):
    """Sends one request with each key. Raises Broken if the server refuses a key."""
    keys = iter(keys)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            conversation = Conversation(port, path, keys)
            stack.callback(conversation.socket.close)
            if conversation.send_next():
                selector.register(conversation.socket, selectors.EVENT_READ, conversation)
        while selector.get_map():
            ready = selector.select(TIMEOUT_SECONDS)
            if not ready:
                raise Broken(f"no response within {TIMEOUT_SECONDS} s")
            for registered, _ in ready:
                conversation = registered.data
                if conversation.receive() and not conversation.send_next():
                    selector.unregister(conversation.socket)


class Conversation:
    """One of many connections. It pipelines requests and counts the responses."""

    def __init__(self, port, path, keys):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self._path = path
        self._keys = keys
        self._awaited = 0
        self._unread = b""

    def send_next(self):
        """Sends a batch of requests with the next keys. Returns False if no key was left."""
        batch = [gated_request(self._path, key) for _, key in zip(range(PIPELINE), self._keys)]
        self._awaited = len(batch)
        self.socket.sendall(b"".join(batch))
        return bool(batch)

    def receive(self):
        """Reads what the server has sent. Returns True if every request of the batch has its response."""
        received = self.socket.recv(65536)
        if not received:
            raise Broken("the server closed a connection")
        text = self._unread + received
        statuses = STATUS_LINE.findall(text)
        for status in statuses:
            if status != b"200":
                raise Broken(f"a valid key got status {status.decode()}")
        self._awaited -= len(statuses)
        # The received text may end with the first part of a status line.
        self._unread = text[-(STATUS_LINE_LENGTH - 1) :]
        return self._awaited == 0
