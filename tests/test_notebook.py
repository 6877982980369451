"""An explanation in a notebook: picture, three players and the story, with every name escaped."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from otoscope.explainers.document import to_document
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.story import sentence
from tests.test_exports import explained

EVIL = '<img src=x onerror="alert(1)">'
EMPTY = {"img", "br"}


class Page(HTMLParser):
    """Collects tags with their attributes, and text; every tag must be closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def content(address: str | None, kind: str) -> io.BytesIO:
    assert address is not None
    head, _, data = address.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data, validate=True))


@pytest.fixture(scope="module")
def found() -> Explanation:
    return explained()


def test_a_notebook_shows_picture_players_story_and_verdict(found: Explanation) -> None:
    page = Page(found._repr_html_())
    (picture,) = page.all("img")
    with Image.open(content(picture["src"], "image/png")) as image:
        assert (image.format, image.width) == ("PNG", 1300)
    assert picture["alt"]
    assert sentence(to_document(found)) in page.text
    assert found.verdict is not None
    for reason in found.verdict.reasons:
        assert reason in page.text
    for answer in (found.score, found.round_trip.evidence, found.round_trip.complement):
        assert f"{answer.score:.3f}" in page.text


def test_the_players_play_recording_evidence_and_everything_else(found: Explanation) -> None:
    players = Page(found._repr_html_()).all("audio")
    sounds = (found.audio, found.evidence, found.complement)
    for player, audio in zip(players, sounds, strict=True):
        assert "controls" in player
        assert player["aria-label"]
        samples, rate = soundfile.read(content(player["src"], "audio/mpeg"))
        assert rate == audio.rate
        heard, expected = np.sqrt(np.mean(samples**2)), np.sqrt(np.mean(audio.samples**2))
        assert heard == pytest.approx(expected, rel=0.25, abs=2e-3)
    assert len({player["aria-label"] for player in players}) == 3
    assert len({player["src"] for player in players}) == 3


def test_names_stay_text_and_nothing_runs(found: Explanation) -> None:
    audio = replace(found.parts.audio, name=f"{EVIL}.wav")
    target = replace(found.target, name=EVIL)
    trip = replace(found.round_trip, original=replace(found.score, top=EVIL))
    evil: Any = {"names": tuple(EVIL for _ in found.names), "model": EVIL, "target": target, "round_trip": trip}
    text = replace(found, **evil, parts=replace(found.parts, audio=audio))._repr_html_()
    page = Page(text)
    assert len(page.all("img")) == 1
    assert EVIL not in text
    assert EVIL in page.text
    assert {tag for tag, _ in page.tags} <= {"div", "p", "img", "audio", "label", "br", "span"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    addresses = [value or "" for _, attributes in page.tags for name, value in attributes.items() if name == "src"]
    assert all(address.startswith("data:") for address in addresses)


def test_an_unchecked_explanation_says_so(found: Explanation) -> None:
    page = Page(replace(found, gates={})._repr_html_())
    assert "Nobody checked how far this is to be trusted" in page.text


def test_the_same_explanation_gives_the_same_page(found: Explanation) -> None:
    assert found._repr_html_() == found._repr_html_()
