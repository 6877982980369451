"""Services as models: kind ``http``, any address that takes a WAV file and answers with scores as JSON.

::

    [model.settings]
    url = "https://example.org/score"
    headers = {Authorization = "Bearer $TOKEN"}    # $TOKEN is read from the environment, so that no card holds it
    field = "audio"                                # of a form; left out, the WAV file is the body itself
    subtype = "PCM_16"                             # or "FLOAT"
    timeout = 30                                   # seconds, from the first byte sent to the last received
    retries = 3
    concurrency = 4

Explaining sends hundreds of altered versions of the recording, so nothing is sent before the user allows the network,
and the refusal says what would go where. Answers are read by `otoscope.adapters.answers`.

Failed connections and the answers 429, 500, 502, 503 and 504 are tried again, after twice the pause each time or after
what the service asks for. Whatever it does, no request outlives its deadline (`otoscope.adapters.http_line`).
"""

from __future__ import annotations

import dataclasses
import os
import queue
import re
import threading
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from otoscope.adapters.answers import SPOKEN, Subtype, ask_all, read_json, scores_of, shown, wav_bytes
from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.http_line import MOVED, Line, Reply
from otoscope.adapters.loading import Loading, require
from otoscope.adapters.model import Float32, Floats
from otoscope.adapters.wrap import CallableModel, from_function

AGAIN = frozenset({429, 500, 502, 503, 504})
MOST_MOVES = 3
MOST_PAUSE = 30.0  # seconds between two tries of our own
MOST_WAIT = 120.0  # seconds that a service may ask for
VARIABLE = re.compile(r"\$(\w+)")
# Headers of the connection, not of the request; one of them would part what is shown from what is sent.
OURS = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*", re.I
)
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a name of a header, RFC 9110, section 5.6.2


@dataclass(frozen=True)
class HttpSettings:
    """The section ``[model.settings]`` of kind ``http``.

    Attributes
    ----------
    url : str
        Where the sound is sent to, ``https://host/path``.
    method : {"POST", "PUT"}
    field : str
        Of a multipart form; empty: the body is the WAV file.
    headers : dict of str
        ``$NAME`` in a value stands for an environment variable.
    subtype : {"PCM_16", "FLOAT"}
        Numbers in the WAV file: 16-bit, which clips what is louder than full scale, or 32-bit float.
    timeout : float
        In seconds, of one try from beginning to end.
    retries : int
        Tries after the first.
    backoff : float
        In seconds, before the second try; twice as long before each further one.
    concurrency : int
        Requests at a time.
    """

    url: str
    method: Literal["POST", "PUT"] = "POST"
    field: str = ""
    headers: dict[str, Any] = dataclasses.field(default_factory=dict)
    subtype: Subtype = "PCM_16"
    timeout: float = 30.0
    retries: int = 3
    backoff: float = 0.5
    concurrency: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot work or would give secrets away."""
        limits = {"timeout": (0.01, 3600), "retries": (0, 20), "backoff": (0, MOST_PAUSE), "concurrency": (1, 64)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise OtoscopeError(f"{name} must lie between {low:g} and {high:g}, got {getattr(self, name):g}")
        if not re.fullmatch(r"[\w.\[\]-]*", self.field):
            raise OtoscopeError(f"field must be a plain name, got {shown(self.field)}")
        host_of(self.url)
        for name, value in self.headers.items():
            if OURS.fullmatch(name):
                raise OtoscopeError(f"headers: {name} belongs to the connection, which sets it itself; remove it")
            if not TOKEN.fullmatch(name) or not isinstance(value, str) or not value.isprintable():
                raise OtoscopeError(f"headers: {shown(name)} must be a plain name with a text in one line")

    def variables(self) -> list[str]:
        """Name the environment variables that the headers stand on."""
        return sorted({name for value in self.headers.values() for name in VARIABLE.findall(value)})

    def told(self) -> dict[str, str]:
        """Fill in the environment variables of the headers."""
        for name in self.variables():
            if name not in os.environ:
                raise OtoscopeError(f"headers name ${name}, which is not set in the environment; run: export {name}=…")
        told = {key: VARIABLE.sub(lambda m: os.environ[m[1]], value) for key, value in self.headers.items()}
        if bad := next((key for key, value in told.items() if not value.isascii() or not value.isprintable()), None):
            raise OtoscopeError(f"headers: {bad} holds what no header may hold; correct the environment variable")
        return told


SETTINGS = (HttpSettings,)


def host_of(url: str) -> str:
    """Name the host of an address, the only part of it that is ever shown.

    >>> host_of("https://example.org:8443/score?key=1")
    'example.org:8443'
    """
    # Readers of addresses disagree on white space and backslashes, and on how letters beyond ASCII are spelt.
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise OtoscopeError("url must be an address https://host/path without spaces and backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not parts.netloc.isascii():
            raise OtoscopeError("url: the name of the host must be ASCII; write it in punycode, xn--…")
    except OtoscopeError:
        raise
    except ValueError:
        host, parts, port = "", urlsplit(""), None
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:-]+", host):
        raise OtoscopeError("url must be an address https://host/path")
    if parts.username is not None or parts.password is not None:
        raise OtoscopeError("url holds a user or password; put it into headers as $NAME of an environment variable")
    return host if port is None else f"{host}:{port}"


def is_encrypted(url: str) -> bool:
    """Tell whether an address is one of https.

    >>> is_encrypted("HTTPS://example.org/score")
    True
    """
    return urlsplit(url).scheme == "https"  # in lower case, whatever the card writes


def from_card(card: Card, loading: Loading) -> CallableModel:
    """Make a model of the service that a card names; it is asked at the first question.

    Raises
    ------
    OtoscopeError
        If nobody allowed the network, requests is not installed, or a header names a variable that is not set.
    """
    card.refuse("pool")
    if "url" not in card.model.settings:
        fault = "[model] path means nothing to kind http; remove it, and" if card.model.path else "lacks the address;"
        raise OtoscopeError(f'{fault} write url = "https://host/path" under [model.settings]')
    card.refuse("path")
    rate, _ = card.waveform()
    settings = card.settings(HttpSettings)
    sent, host = f"altered versions of your recording ({SPOKEN[settings.subtype]}, {rate} Hz)", host_of(settings.url)
    secrets = "".join(f" and the environment variable ${name}" for name in settings.variables())
    if not loading.allow_network:
        raise OtoscopeError(
            f"{card.path}: would send hundreds of {sent}{secrets} to host {host}; say --allow-network "
            "(allow_network=True) if it may"
        )
    require("requests", "http")
    bare = "" if is_encrypted(settings.url) else ", not encrypted"
    note = f"{sent.replace('your', 'the')}{secrets} were sent to host {host}{bare}"
    return from_function(card, loading, Service(settings, card, rate), notes=(note,))


class Service:
    """A service as a function from waveforms (n, n_samples) to scores (n, n_classes)."""

    def __init__(self, settings: HttpSettings, card: Card, rate: int) -> None:
        self.settings = settings
        self.rate = rate
        self.labels = card.labels
        self.answer = card.model.answer
        self.host = host_of(settings.url)
        about: dict[str, Any] = {"method": settings.method, "field": settings.field, "timeout": settings.timeout}
        self.lines = [Line(headers=settings.told(), **about) for _ in range(settings.concurrency)]
        self.free: queue.SimpleQueue[Line] = queue.SimpleQueue()
        for line in self.lines:
            self.free.put(line)

    def __call__(self, waveforms: Float32) -> Floats:
        """Score waveforms, one request for each."""
        try:
            return ask_all(self._ask, waveforms, concurrency=self.settings.concurrency, hang_up=self._hang_up)
        except OtoscopeError as error:
            raise OtoscopeError(f"host {self.host}: {error}") from None

    def _hang_up(self) -> None:
        for line in self.lines:
            line.cut()

    def _ask(self, waveform: Float32, stop: threading.Event) -> list[float]:
        sound = wav_bytes(waveform, self.rate, self.settings.subtype)
        line = self.free.get()
        try:
            body = self._answer(line, sound, stop)
        finally:
            self.free.put(line)
        return scores_of(read_json(body), self.labels, answer=self.answer)

    def _answer(self, line: Line, sound: bytes, stop: threading.Event) -> bytes:
        """Try until there is an answer, or no hope of one."""
        url, moves, tries = self.settings.url, 0, 0
        while True:
            reply = line.ask(url, sound, stop)
            if 200 <= reply.status < 300:
                return reply.body
            if reply.status in MOVED and moves < MOST_MOVES:
                url, moves = _followed(url, reply), moves + 1
                continue
            tries += 1
            pause = min(self.settings.backoff * 2 ** (tries - 1), MOST_PAUSE) if reply.wait is None else reply.wait
            again = reply.status in AGAIN or reply.status == 0
            if not again or tries > self.settings.retries or pause > MOST_WAIT or stop.wait(pause):
                raise OtoscopeError(_failed(reply, tries))


def _failed(reply: Reply, tries: int) -> str:
    """Say what went wrong in the last try."""
    times = f" ({tries} tries)" if tries > 1 else ""
    if reply.status == 0:
        return f"{reply.reason}{times}; see that the service is there, or raise timeout or retries"
    later = f" and asks to wait {reply.wait:.0f} s" if reply.wait is not None else ""
    return f"answers {reply.status}{later}{times}: {shown(reply.body)}; correct the card, or try again later"


def _followed(url: str, reply: Reply) -> str:
    """Follow a redirect within the same host; sound and tokens go nowhere else."""
    try:
        target = urljoin(url, reply.moved)
        there = host_of(target)
    except ValueError:
        raise OtoscopeError("redirects to what is no address; correct the card") from None
    if there != host_of(url) or (is_encrypted(url) and not is_encrypted(target)):
        raise OtoscopeError(f"redirects to host {there}, which is not followed; name that address in the card")
    return target
