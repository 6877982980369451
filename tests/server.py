"""A service on this machine for tests: a Starlette app behind uvicorn in a thread, and servers that break the rules.

Everything is finite: what waits, waits for an event that `serve` sets at its end, or gives up after `PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

PATIENCE = 60.0  # seconds after which a test that went wrong ends
LABELS = ("loud", "bright")


def score(waveforms: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Score waveforms (n, n_samples) by loudness and brightness; the same here and there."""
    x = np.asarray(waveforms, dtype=np.float64)
    loud = np.mean(x**2, axis=1)
    bright = np.mean(np.diff(x, axis=1) ** 2, axis=1)
    values = np.log10(np.stack([loud, bright], axis=1) + 1e-6) / 6 + 1
    return np.clip(values, 0, 1)


@dataclass
class Seen:
    """What the service has seen.

    Attributes
    ----------
    url : str
    requests : list
        Path, headers, field of the form, and subtype of the sound.
    fails : int
        How many requests more are answered with `status`.
    together : int
        How many requests must be there at once before ``/together`` answers.
    peak : int
        How many were there at once.
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    fails: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    together: int = 1
    here: int = 0
    peak: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def sound(self, path: str, headers: dict[str, str], body: bytes) -> npt.NDArray[np.float64]:
        """Note a request and give back its sound (n_samples,)."""
        name, kind = None, headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            parts: Any = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
            name, body = parts[0].get_param("name", header="content-disposition"), parts[0].get_payload(decode=True)
        with soundfile.SoundFile(BytesIO(body)) as file:
            self.requests.append(
                {"path": path, "headers": headers, "field": name, "subtype": file.subtype, "rate": file.samplerate}
            )
            return np.asarray(file.read(dtype="float64"))


async def heard(request: Request) -> dict[str, float]:
    """Note a request and score its sound."""
    seen: Seen = request.app.state.seen
    sound = seen.sound(request.url.path, dict(request.headers), await request.body())
    return dict(zip(LABELS, score(sound[None])[0].tolist(), strict=True))


async def until(done: Callable[[], bool]) -> None:
    """Wait for something, but not for ever."""
    for _ in range(round(PATIENCE * 100)):
        if done():
            return
        await asyncio.sleep(0.01)


async def plain(request: Request) -> Response:
    """Answer, or fail as often as was asked for."""
    seen, scores = request.app.state.seen, await heard(request)
    if seen.fails:
        seen.fails -= 1
        return PlainTextResponse("not now \x1b[31m", seen.status, headers=seen.headers)
    return JSONResponse(scores)


async def fixed(request: Request) -> Response:
    """Answer what was asked for."""
    seen, _ = request.app.state.seen, await heard(request)
    return Response(seen.body, headers=seen.headers, media_type="application/json")


async def moved(request: Request) -> Response:
    """Send elsewhere."""
    seen, _ = request.app.state.seen, await heard(request)
    return Response(status_code=seen.status, headers=seen.headers)


async def together(request: Request) -> Response:
    """Answer once as many requests are here as was asked for, the later ones sooner."""
    seen, scores = request.app.state.seen, await heard(request)
    seen.here += 1
    seen.peak = max(seen.peak, seen.here)
    await until(lambda: seen.peak >= seen.together)
    seen.here -= 1
    await asyncio.sleep(0.05 / len(seen.requests))  # their order is the client's to keep
    return JSONResponse(scores)


async def huge(request: Request) -> Response:
    """Answer 64 MB."""
    await heard(request)

    async def pour() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"[" + b" " * 2**20

    return StreamingResponse(pour())


async def stalls(request: Request) -> Response:
    """Answer when all is over."""
    seen, _ = request.app.state.seen, await heard(request)
    await until(seen.over.is_set)
    return JSONResponse({})


async def one_fails(request: Request) -> Response:
    """Fail at the fourth request, and answer the others when all is over."""
    seen, _ = request.app.state.seen, await heard(request)
    if len(seen.requests) == 4:
        return PlainTextResponse("no", 400)
    await until(seen.over.is_set)
    return JSONResponse({})


def app(seen: Seen) -> Starlette:
    """Make the service."""
    views = (plain, fixed, moved, together, huge, stalls, one_fails)
    routes = [Route(f"/{view.__name__}", view, methods=["POST"]) for view in views]
    routes += [Route(f"/{method.lower()}", plain, methods=[method]) for method in ("POST", "PUT")]
    service = Starlette(routes=routes)
    service.state.seen = seen
    return service


@contextmanager
def serve() -> Iterator[Seen]:
    """Run the service for a moment."""
    seen, listener = Seen(), socket.create_server(("127.0.0.1", 0))
    seen.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(app(seen), log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        seen.over.set()
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


@contextmanager
def rude(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[Seen]:
    """Run a server that answers each connection as it likes, told when it is over."""
    seen, listener = Seen(), socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    seen.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    threads = []

    def one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE)
            try:
                _swallow(connection)
                seen.requests.append({})
                answer(connection, seen.over)
            except OSError:  # the client has hung up
                seen.fails += 1

    def run() -> None:
        while not seen.over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    try:
        yield seen
    finally:
        seen.over.set()
        runner.join(PATIENCE)
        listener.close()
        for thread in threads:
            thread.join(PATIENCE)


def _swallow(connection: socket.socket) -> None:
    """Read a request to its end."""
    data = b""
    while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while left > 0 and (piece := connection.recv(65536)):
        left -= len(piece)


def drop_midway(connection: socket.socket, over: threading.Event) -> None:
    """Promise an answer and close in the middle of it."""
    del over
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"loud": 0.1')


def drip(head: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Send a head, and then a drop every 20 ms until the client hangs up or all is over."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.wait(0.02):
            connection.sendall(drop)

    return answer
