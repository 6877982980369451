"""What a page holds within itself, so that it needs no network: templates, data, scripts, pictures, sounds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.adapters.audio import Audio

if TYPE_CHECKING:
    from jinja2 import Template

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


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


def mp3(audio: Audio) -> str:
    """Encode a sound as MP3 data; a rate that MP3 lacks is resampled, a level beyond full scale is lowered."""
    import soundfile

    if audio.rate not in MP3_RATES:
        audio = audio.at(44100)
    peak = float(abs(audio.samples).max())
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples / max(1.0, peak), audio.rate, format="MP3", subtype="MPEG_LAYER_III")
    return as_data("audio/mpeg", buffer.getvalue())


def as_data(kind: str, content: bytes) -> str:
    """Put a picture or a sound into an address, so that a page holds it itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
