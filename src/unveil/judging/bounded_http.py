"""An HTTP client whose requests end: after so many seconds in all, and after so many bytes.

The time-out of an HTTP library holds for one read, so a reply that trickles would never end, and nothing limits a reply
that floods or unpacks to more than it sends. Here the connection is shut when the time is over, whatever the reader
waits for, and the body is counted as it comes and as it is unpacked.
"""

import importlib
import os
import socket
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

LARGEST_REPLY = 16 << 20  # bytes
_PLAIN = ("", "identity")


class TooMuchError(Exception):
    """A reply larger than LARGEST_REPLY, or packed in a way that was not asked for."""


def bounded_client(base_url: str, timeout: float, auth: tuple[str, str] | None = None) -> tuple[Any, "Deadlines"]:
    """The client for `openai.OpenAI(http_client=...)`, and what sets the deadline of the calling thread's request.

    timeout: of one read, in seconds. auth: user and password that stood in the address.
    """
    import openai

    # The library underneath is httpx or its successor, by the age of the client: it is the one to build upon.
    http: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    deadlines = Deadlines()
    transport = _transport(http, deadlines, _proxy_of(base_url))
    client = openai.DefaultHttpxClient(
        transport=transport, timeout=timeout, auth=auth, headers={"Accept-Encoding": "identity"}
    )
    return client, deadlines


class Deadlines(threading.local):
    """When the request of this thread must have ended, on the monotonic clock; None: no limit."""

    end: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Everything this thread asks for inside must end within so many seconds."""
        self.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self.end = None


def _proxy_of(base_url: str) -> str | None:
    """The proxy that the environment names for this address (a client given a transport reads none itself)."""
    scheme, _, rest = base_url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    named = urllib.request.getproxies()
    proxy = named.get(scheme) or named.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class _Connection:
    """A transport of one connection, with a handle on its socket that another thread may shut."""

    def __init__(self, http: Any, context: Any, proxy: str | None) -> None:
        limits = http.Limits(max_connections=1, max_keepalive_connections=1)
        self.transport = http.HTTPTransport(verify=context, limits=limits, proxy=proxy)
        self._socket: socket.socket | None = None

    def note(self, event: str, info: dict[str, Any]) -> None:
        """Called by the library as the request goes on."""
        if event == "connection.connect_tcp.complete":
            self._drop()
            made = info["return_value"].get_extra_info("socket")
            self._socket = socket.socket(fileno=os.dup(made.fileno()))  # TLS will take the first handle for itself

    def shut(self) -> None:
        """End whatever waits for this connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it for good."""
        self._drop()
        self.transport.close()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Watch:
    """Shuts a connection at a deadline unless stopped before. `over`: it did."""

    def __init__(self, connection: _Connection, end: float | None) -> None:
        self.over = False
        self._connection = connection
        self._timer = None
        if end is not None:
            self._timer = threading.Timer(max(0.0, end - time.monotonic()), self._end)
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        self.over = True
        self._connection.shut()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _transport(http: Any, deadlines: Deadlines, proxy: str | None) -> Any:
    context = http.create_ssl_context()

    class Transport(http.BaseTransport):
        """One request per connection at a time; idle connections are used again."""

        def __init__(self) -> None:
            self._idle: list[_Connection] = []
            self._lock = threading.Lock()

        def handle_request(self, request: Any) -> Any:
            with self._lock:
                connection = self._idle.pop() if self._idle else _Connection(http, context, proxy)
            request.extensions = {**request.extensions, "trace": connection.note}
            watch = _Watch(connection, deadlines.end)
            try:
                response = connection.transport.handle_request(request)
            except BaseException as error:
                watch.stop()
                connection.close()
                if watch.over:
                    raise http.ReadTimeout("no whole reply in time", request=request) from error
                raise
            packing = response.headers.pop("content-encoding", "").strip().lower()
            response.stream = Body(response.stream, packing, watch, lambda whole: self._put_back(connection, whole))
            return response

        def _put_back(self, connection: _Connection, whole: bool) -> None:
            if not whole:
                return connection.close()
            with self._lock:
                self._idle.append(connection)
            return None

        def close(self) -> None:
            with self._lock:
                left, self._idle = self._idle, []
            for connection in left:
                connection.close()

    class Body(http.SyncByteStream):
        """Counts, unpacks, and ends in time."""

        def __init__(self, stream: Any, packing: str, watch: _Watch, done: Any) -> None:
            self._stream, self._packing, self._watch, self._done = stream, packing, watch, done
            self._whole = self._closed = False

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from _counted(self._stream, self._packing)
                self._whole = not self._watch.over
            except TooMuchError:
                raise
            except Exception as error:
                if self._watch.over:
                    raise http.ReadTimeout("no whole reply in time") from error
                raise
            if self._watch.over:  # a body without a length ends where the connection does
                raise http.ReadTimeout("no whole reply in time")

        def close(self) -> None:
            if not self._closed:
                self._closed = True
                self._watch.stop()
                self._stream.close()
                self._done(self._whole and not self._watch.over)

    return Transport()


def _counted(stream: Any, packing: str) -> Iterator[bytes]:
    """The pieces of a body, unpacked. Raises TooMuchError where they are too many."""
    if packing not in (*_PLAIN, "gzip", "x-gzip", "deflate"):
        raise TooMuchError(f"is packed as {packing[:20]!r}, which was not asked for")
    unpack = None if packing in _PLAIN else zlib.decompressobj(zlib.MAX_WBITS | 32)
    left = LARGEST_REPLY
    for piece in stream:
        if unpack is not None:
            try:
                piece = unpack.decompress(piece, left + 1)
            except zlib.error as error:
                raise TooMuchError("is packed and cannot be unpacked") from error
        left -= len(piece)
        if left < 0:
            raise TooMuchError(f"is larger than {LARGEST_REPLY >> 20} MiB")
        yield piece
