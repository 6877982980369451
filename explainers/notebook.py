"""An explanation in a notebook: the story, the picture, and three players."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from otoscope.explainers.document import to_document
from otoscope.explainers.embedding import as_data, mp3, template
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.figure import draw
from otoscope.explainers.story import story


def as_html(explanation: Explanation) -> str:
    """Show an explanation as a piece of HTML that holds its picture and its sounds, and runs no script."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        draw(explanation, path)
        picture = as_data("image/png", path.read_bytes())
    sounds = (
        ("the recording", explanation.audio, explanation.score),
        ("the evidence alone", explanation.evidence, explanation.round_trip.evidence),
        ("everything else", explanation.complement, explanation.round_trip.complement),
    )
    verdict = explanation.verdict
    return template("notebook.html").render(
        story=story(to_document(explanation)),
        word=None if verdict is None else verdict.word,
        picture=picture,
        alt=f"What speaks for and against {explanation.target.name} in {explanation.audio.name}",
        target=explanation.target.name,
        sounds=[(name, mp3(audio), float(np.round(score.score, 3))) for name, audio, score in sounds],
    )
