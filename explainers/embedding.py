"""What a page holds within itself, so that it needs no network: templates, data, scripts, pictures, sounds.

Sounds are encoded and decoded in memory, where libsndfile calls back into Python for every block. What is raised in
such a call is printed and lost, and so would be what the handler of a signal raises there; hence `unbroken`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from otoscope.adapters.audio import Audio

if TYPE_CHECKING:
    from jinja2 import Template

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

Answer = TypeVar("Answer")


def template(name: str) -> Template:
    """Open the template of a page, which escapes what it is given and refuses what it does not know."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("otoscope.explainers", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def safe_json(data: Any) -> str:
    r"""Write data as JSON that cannot end the script element it stands in.

    >>> safe_json("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def source(name: str) -> str:
    """Read a script of the pages."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """Name a script in a content-security policy, so that it and no other one runs."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def unbroken(work: Callable[[], Answer]) -> Answer:
    """Do work that calls back from C in another thread: handlers of signals run, and raise, in the main one only."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def sound_file(samples: npt.NDArray[Any], rate: int, *, kind: str, subtype: str) -> bytes:
    """Encode samples (n_samples,) as a file of a kind that libsndfile writes."""
    import soundfile

    buffer = io.BytesIO()
    unbroken(lambda: soundfile.write(buffer, samples, rate, format=kind, subtype=subtype))
    return buffer.getvalue()


def mp3(audio: Audio) -> str:
    """Encode a sound as MP3 data; a rate that MP3 lacks is resampled, a level beyond full scale is lowered."""
    if audio.rate not in MP3_RATES:
        audio = audio.at(44100)
    peak = float(abs(audio.samples).max())
    content = sound_file(audio.samples / max(1.0, peak), audio.rate, kind="MP3", subtype="MPEG_LAYER_III")
    return as_data("audio/mpeg", content)


def as_data(kind: str, content: bytes) -> str:
    """Put a picture or a sound into an address, so that a page holds it itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
