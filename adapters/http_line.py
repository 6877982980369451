"""One connection to a service: sends a sound, takes the answer, and is never kept waiting.

Time-outs of sockets start afresh at each byte, so a service whose answer drips could hold a reader for ever. Here a
timer cuts the connection at the deadline, wherever the reader waits: for the head of the answer or for its body. The
same cut ends all requests when one of them fails.

Sound and headers go where they were meant to go: redirects are given back, not followed, and passwords that lie about
for other programs (``~/.netrc``) are not sent. Answers come unpacked, so that their size is known while they are read.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from otoscope.adapters.answers import MOST_BYTES
from otoscope.adapters.errors import OtoscopeError

MOVED = frozenset({301, 302, 307, 308})
PIECE = 1 << 16  # bytes read at once


@dataclass(frozen=True)
class Reply:
    """What came of one try: the status (0: no answer) with the body or the reason, and the seconds asked for."""

    status: int
    body: bytes = b""
    reason: str = ""
    wait: float | None = None
    moved: str = ""


class Line:
    """One connection to a service, for one request at a time, that can be cut from another thread.

    Parameters
    ----------
    method : {"POST", "PUT"}
    headers : mapping
    field : str
        Of a form; empty: the sound is the body.
    timeout : float
        In seconds, from the first byte sent to the last received.
    """

    def __init__(self, *, method: str, headers: Mapping[str, str], field: str, timeout: float) -> None:
        self.method = method
        self.headers = {"Accept": "application/json", "Accept-Encoding": "identity"} | dict(headers)
        self.field = field
        self.timeout = timeout
        self.session = _session(self)
        self.lock = threading.Lock()
        self.socket: socket.socket | None = None
        self.is_cut = False

    def opened(self, connection: socket.socket | None) -> None:
        """Keep hold of a new connection."""
        with self.lock:
            self.socket = connection
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End whatever waits for this connection."""
        with self.lock:
            self.is_cut = True
            if self.socket is not None:
                try:
                    # Of the bare socket: that of TLS would take its own state away under the reader.
                    socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
                except OSError:  # closed already
                    pass

    def ask(self, url: str, sound: bytes, stop: threading.Event) -> Reply:
        """Send a sound and take what comes before the deadline."""
        import requests

        self.is_cut = False
        if stop.is_set():
            return Reply(0, reason="was stopped, since another request failed")
        timer = threading.Timer(self.timeout, self.cut)
        timer.daemon = True
        timer.start()
        try:
            reply = self._exchange(url, sound)
            return self._late() if self.is_cut else reply  # an answer without a length ends where it is cut
        except requests.exceptions.SSLError as error:
            if not self.is_cut:
                raise OtoscopeError(f"no safe connection ({type(error).__name__}); see its certificate") from None
            return self._late()
        except (requests.RequestException, OSError, ValueError) as error:
            if self.is_cut or isinstance(error, requests.Timeout):
                return self._late()
            if isinstance(error, OtoscopeError):
                raise
            return Reply(0, reason=f"the connection failed or was dropped ({type(error).__name__})")
        finally:
            timer.cancel()
            timer.join()  # else a cut that has just begun would hit the next request

    def _late(self) -> Reply:
        return Reply(0, reason=f"did not answer within {self.timeout:g} s")

    def _exchange(self, url: str, sound: bytes) -> Reply:
        headers = self.headers
        body: dict[str, Any] = {"files": {self.field: ("sound.wav", sound, "audio/wav")}}
        if not self.field:
            body, headers = {"data": sound}, {"Content-Type": "audio/wav"} | headers
        response = self.session.request(
            self.method,
            url,
            headers=headers,
            timeout=self.timeout,
            allow_redirects=False,
            stream=True,
            **body,
        )
        with response:
            came = b"" if response.status_code in MOVED else _read(response)
            wait = _wait(response.headers.get("Retry-After"))
            return Reply(response.status_code, came, wait=wait, moved=response.headers.get("Location", ""))


def _read(response: Any) -> bytes:
    """Read an answer up to the limit."""
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise OtoscopeError("the answer is packed, though that was not asked for; let the service answer in plain JSON")
    body = bytearray()
    for chunk in response.iter_content(PIECE):
        body += chunk
        if len(body) > MOST_BYTES:
            raise OtoscopeError(f"the answer is larger than {MOST_BYTES // 2**20} MB; let the service answer in scores")
    return bytes(body)


def _wait(asked: str | None) -> float | None:
    """Read ``Retry-After``, seconds or a date; what is neither counts as not said.

    >>> _wait("7"), _wait("soon")
    (7.0, None)
    """
    if asked is None:
        return None
    if re.fullmatch(r"\d{1,9}", asked.strip()):
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _session(line: Line) -> Any:
    """Make a session of `requests` whose connections `line` keeps hold of, and that believes no redirect."""
    import requests
    from requests.adapters import HTTPAdapter

    class Session(requests.Session):
        def get_redirect_target(self, resp: Any) -> None:
            """Know of none: requests would read the body of a redirect, however large, to look where it leads."""
            del resp

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            _watch(self.poolmanager, line)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            return _watch(super().proxy_manager_for(*args, **kwargs), line)

    session, adapter = Session(), Adapter(pool_connections=1, pool_maxsize=1)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.auth = lambda request: request  # else requests would send what ~/.netrc holds for this host
    return session


def _watch(manager: Any, line: Line) -> Any:
    """Let the connections of a manager of urllib3 tell `line` when they are opened."""
    if not getattr(manager, "watched", False):
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: _watched(pool, line) for scheme, pool in pools.items()}
        manager.watched = True
    return manager


def _watched(pool: Any, line: Line) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            line.opened(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
