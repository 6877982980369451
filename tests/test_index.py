"""The index page lists what there is, sums up each class, bounds what it holds and survives what is damaged."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from otoscope.adapters.audio import Audio, write_wav
from otoscope.explainers import index, index_classes
from otoscope.explainers.explain import explain
from otoscope.explainers.index import Listed, write_index
from otoscope.explainers.methods import Settings
from otoscope.explainers.store import read_document, save
from tests.builders import Float32, Floats, Function, noise, sigmoid, tone

RATE = 16000
EVIL = "<img src=x onerror=alert(1)>"
QUICK = {
    "lime": Settings(parts="grid", n_parts=36, calls=160),
    "occlusion": Settings(),
    "rise": Settings(parts="grid", n_parts=9, calls=64),
}


def hears_a(waveforms: Float32) -> Floats:
    """Score by the power of an A4."""
    power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2 / waveforms.shape[1] ** 2
    near = np.abs(np.fft.rfftfreq(waveforms.shape[1], 1 / RATE) - 440) < 20
    return sigmoid(3 * np.log10(power[:, near].sum(axis=1, keepdims=True) + 1e-7) + 12)


def planted(seconds: float = 4.0, *, start: float = 2.0, seed: int = 0) -> Audio:
    """Build noise, a tone that means nothing, and an A4 that sounds from `start` for 0.8 s."""
    samples = noise(seconds=seconds, rate=RATE, level=0.003, seed=seed) + tone(1175, seconds=seconds, rate=RATE)
    return Audio(samples + tone(440, seconds=seconds, rate=RATE, start=start, stop=start + 0.8), RATE, "planted.wav")


def explained(folder: Path, audio: Audio, methods: Sequence[str] = tuple(QUICK)) -> list[Path]:
    """Explain a sound by some methods, quickly."""
    model = Function(hears_a, rate=RATE)
    for method in methods:
        save(explain(model, audio, method=method, settings=QUICK[method], name="ear"), folder / method)
    return [folder / method for method in methods]


def copied(out: Path, name: str, results: Sequence[Path], number: int, **changes: Any) -> Listed:
    """Put copies of results under another name into an output folder; `changes` may set target, model, verdict."""
    own = out / f"r-{number:08d}"
    found = []
    for place, source in enumerate(results):
        folder = own / "ear" / f"{place}-{source.name}"
        folder.mkdir(parents=True)
        for file in ("arrays.npz", "original.wav", "evidence.wav"):  # hard links: quick, and nothing is written to
            (folder / file).hardlink_to(source / file)
        document = read_document(source)
        document["audio"]["name"], document["audio"]["sha256"] = name, f"{number:064d}"
        document["model"]["name"] = changes.get("model", document["model"]["name"])
        document["target"]["name"] = changes.get("target", document["target"]["name"])
        document["verdict"] = {"word": changes["verdict"], "reasons": []} if "verdict" in changes else None
        document["round_trip"]["original"]["score"] = changes.get("score", 0.5)
        (folder / "explanation.json").write_text(json.dumps(document), encoding="utf-8")
        found.append((folder, document))
    return Listed(name, f"{own.name}/report.html", tuple(found))


class Page(HTMLParser):
    """Collects tags, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += f" {' '.join(data.split())}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Give the attributes of all tags of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Results of one recording by three methods."""
    return explained(tmp_path_factory.mktemp("made"), planted())


def written(out: Path, recordings: Sequence[Listed], **more: Any) -> tuple[str, Page]:
    text = write_index(out, recordings, **more).read_text(encoding="utf-8")
    return text, Page(text)


def test_every_recording_stands_in_the_table_with_its_page_picture_and_verdicts(
    tmp_path: Path, made: list[Path]
) -> None:
    names = ["a.wav", "夜曲.flac", "Ärger & Öl.wav"]
    recordings = [copied(tmp_path, name, made, n, verdict="caution") for n, name in enumerate(names)]
    text, page = written(tmp_path, recordings)
    assert [one["href"] for one in page.all("a") if one.get("class") == "name"] == [one.page for one in recordings]
    assert len(page.all("img")) == 3
    assert all(str(one["src"]).startswith("data:image/webp;base64,") for one in page.all("img"))
    assert all((one["loading"], one["decoding"]) == ("lazy", "async") for one in page.all("img"))
    assert all(name in page.text for name in names)
    table = text[text.index("<table") : text.index("</table")]
    assert table.count('<span class="word caution">caution</span>') == 9
    evidence = [document["round_trip"]["evidence"]["score"] for _, document in recordings[0].results]
    assert all(table.count(f"</span> {score:.2f}<") >= 3 for score in evidence)


def test_its_one_script_is_allowed_by_its_hash_and_nothing_else_is(tmp_path: Path, made: list[Path]) -> None:
    text, page = written(tmp_path, [copied(tmp_path, "a.wav", made, 0)])
    policy = next(str(one["content"]) for one in page.all("meta") if one.get("http-equiv"))
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert policy.split("; ")[0] == "default-src 'none'"
    assert f"script-src 'sha256-{digest}'" in policy.split("; ")
    addresses = [str(value) for _, tag in page.tags for key, value in tag.items() if key in ("src", "href")]
    assert all(one.startswith(("data:image/webp", "data:audio/mpeg", "#", "r-")) for one in addresses)


def test_labels_names_and_reasons_stay_text(tmp_path: Path, made: list[Path]) -> None:
    ends = "</script><script>alert(1)</script>{{7*7}}"
    evil = copied(tmp_path, f"{EVIL}.wav", made, 0, target=ends, model=EVIL)
    text, page = written(tmp_path, [evil], left_out=[(EVIL, ends)])
    assert len(page.all("img")) == 1
    assert len(page.all("script")) == 2
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert ends in page.text
    data = re.search(r'id="data">(.*?)</script>', text)
    assert data is not None
    assert json.loads(data.group(1))[0]["results"][0]["class"] == ends


def test_a_planted_note_is_what_its_class_has_in_common(tmp_path: Path) -> None:
    recordings = []
    starts = (0.7, 2.0, 2.6)
    for seed, start in enumerate(starts):
        made = explained(tmp_path / "made", planted(start=start, seed=seed), ["lime", "occlusion"])
        recordings.append(copied(tmp_path, f"{start}.wav", made, seed))
        shutil.rmtree(tmp_path / "made")
    results = [
        index_classes.Result(place, one.name, one.page, *result)
        for place, one in enumerate(recordings)
        for result in one.results
    ]
    unread: dict[Path, str] = {}
    (found,) = index_classes.classes(results, unread)["shown"]
    assert unread == {}
    assert (found["n"], found["n_results"], [panel["method"] for panel in found["panels"]]) == (
        3,
        6,
        ["lime", "occlusion"],
    )
    for panel in found["panels"]:
        assert int(np.argmax(panel["pitches"]["up"])) == 9  # an A
        assert int(np.argmax(panel["bands"]["up"])) == 45  # A4
        assert "440 Hz" in panel["told"]
    assert len(found["playlist"]) == 3
    for snippet in found["playlist"]:
        start = float(snippet["name"].removesuffix(".wav"))
        first, last = (float(one) for one in snippet["place"].removesuffix(" s").split("–"))
        assert first - 0.15 <= start
        assert start + 0.8 <= last + 0.15
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(snippet["sound"].split(",", 1)[1])))
        assert abs(len(samples) / rate - 1.5) < 0.12  # MP3 pads
        spectrum = np.abs(np.fft.rfft(samples))
        near = np.abs(np.fft.rfftfreq(len(samples), 1 / rate) - 440) < 10
        assert spectrum[near].max() > 0.2 * spectrum.max()
    shares = [snippet["share"] for snippet in found["playlist"]]
    assert shares == sorted(shares, reverse=True)


def test_the_playlist_takes_the_most_trusted_explanation_of_each_recording(tmp_path: Path, made: list[Path]) -> None:
    first = copied(tmp_path, "a.wav", made[:1], 0, verdict="do not use")
    second = copied(tmp_path, "a.wav", made[1:2], 1, verdict="trust")
    both = Listed("a.wav", "a.html", (*first.results, *second.results))
    results = [index_classes.Result(0, "a.wav", "a.html", *result) for result in both.results]
    (snippet,) = index_classes.classes(results, {})["shown"][0]["playlist"]
    assert (snippet["by"], snippet["verdict"]) == ("ear · occlusion", "trust")
    _, page = written(tmp_path, [both])
    assert page.all("img")[0]["alt"] == "What sounds, tinted by occlusion on yes"


def test_silence_has_no_map_to_draw_and_no_snippet(tmp_path: Path) -> None:
    silence = Audio(np.zeros(RATE, dtype=np.float32), RATE, "silence.wav")
    results = explained(tmp_path / "made", silence, ["lime"])
    _, page = written(tmp_path, [copied(tmp_path, "silence.wav", results, n) for n in range(2)])
    assert "None of the maps has any attribution" in page.text
    assert "No snippets" in page.text
    assert page.all("audio") == []
    assert page.all("svg") == []


def test_a_stretch_where_the_evidence_is_silent_is_no_snippet(tmp_path: Path, made: list[Path]) -> None:
    recordings = [copied(tmp_path, f"{n}.wav", made[1:2], n) for n in range(2)]
    sound = recordings[0].results[0][0] / "evidence.wav"
    sound.unlink()  # it is a hard link
    write_wav(sound, np.zeros(4 * RATE, dtype=np.float32), RATE)
    _, page = written(tmp_path, recordings)
    assert [str(one["aria-label"]).split(",")[0] for one in page.all("audio")] == ["1.wav"]


def test_spans_of_other_lengths_are_told_of(tmp_path: Path, made: list[Path]) -> None:
    short = explained(tmp_path / "short", planted(3.0), ["occlusion"])
    recordings = [copied(tmp_path, f"{n}.wav", made[1:2], n) for n in range(2)]
    _, page = written(tmp_path, [*recordings, copied(tmp_path, "short.wav", short, 2)])
    assert "The mean map covers the 2 spans of 4.0 s" in page.text
    assert len(page.all("svg")) == 3
    _, page = written(tmp_path, [recordings[0], copied(tmp_path, "short.wav", short, 3)])
    assert "too many lengths for a mean map" in page.text
    assert len(page.all("svg")) == 2


@pytest.mark.parametrize("damage", ["gone", "garbage", "cut off", "no map", "wrong map", "not finite"])
def test_a_damaged_result_is_named_and_costs_no_other(tmp_path: Path, made: list[Path], damage: str) -> None:
    recordings = [copied(tmp_path, name, made[1:2], n) for n, name in enumerate(("good.wav", "bad.wav"))]
    arrays = recordings[1].results[0][0] / "arrays.npz"
    whole = arrays.read_bytes()
    arrays.unlink()  # it is a hard link
    if damage == "garbage":
        arrays.write_bytes(b"nonsense")
    elif damage == "cut off":
        arrays.write_bytes(whole[: len(whole) // 2])
    elif damage == "no map":
        np.savez(arrays, weights=np.ones(3))
    elif damage == "wrong map":
        np.savez(arrays, map=np.ones((5, 5)))
    elif damage == "not finite":
        np.savez(arrays, map=np.full((108, 40), np.nan))
    _, page = written(tmp_path, recordings)
    assert "1 result could not be read in full" in page.text
    assert "r-00000001/ear/0-occlusion" in page.text
    assert len(page.all("img")) == 1
    assert len(page.all("audio")) == 1
    assert "bad.wav" in page.text


@pytest.mark.parametrize("sound", ["original.wav", "evidence.wav"])
def test_a_missing_sound_is_named_and_costs_no_other(tmp_path: Path, made: list[Path], sound: str) -> None:
    recordings = [copied(tmp_path, name, made[1:2], n) for n, name in enumerate(("good.wav", "bad.wav"))]
    (recordings[1].results[0][0] / sound).unlink()
    _, page = written(tmp_path, recordings)
    assert f"{sound}: no such file" in page.text
    assert len(page.all("img")) == (1 if sound == "original.wav" else 2)
    assert len(page.all("audio")) == (2 if sound == "original.wav" else 1)


def test_of_many_classes_the_largest_are_summed_up_and_the_others_named(tmp_path: Path, made: list[Path]) -> None:
    recordings = [copied(tmp_path, f"{n}.wav", made[1:2], n, target=f"class {n}") for n in range(200)]
    recordings.append(copied(tmp_path, "again.wav", made[1:2], 200, target="class 150"))
    text, page = written(tmp_path, recordings)
    assert len(page.all("details")) == index_classes.N_CLASSES
    assert "<strong>class 150</strong>: 2 recordings" in text
    assert "176 more classes have no summary here" in page.text
    assert text.count("<option>class ") == 200
    assert len(text) < 8e6


def test_what_is_embedded_is_bounded_and_the_page_says_so(
    tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "N_THUMBNAILS", 3)
    monkeypatch.setattr(index, "N_NOTES", 2)
    monkeypatch.setattr(index_classes, "N_SNIPPETS", 4)
    monkeypatch.setattr(index_classes, "N_PANELS", 2)
    recordings = [copied(tmp_path, f"{n}.wav", made, n) for n in range(6)]
    _, page = written(tmp_path, recordings, left_out=[(f"folder {n}", "damaged") for n in range(5)])
    assert len(page.all("img")) == 3
    assert "Only the first 3 recordings have a picture" in page.text
    assert len(page.all("audio")) == 4
    assert "the first 4" in page.text
    assert len(page.all("svg")) == 6
    assert "1 more models or methods" in page.text
    assert "5 results could not be read" in page.text
    assert "and 3 more" in page.text


def test_one_recording_with_twenty_results_keeps_its_row_short(tmp_path: Path, made: list[Path]) -> None:
    parts = [copied(tmp_path, "much.wav", made[:2], n, target=f"class {n}") for n in range(10)]
    much = Listed("much.wav", "much.html", tuple(result for one in parts for result in one.results))
    text, page = written(tmp_path, [much])
    assert len(much.results) == 20
    table = text[text.index("<tbody") : text.index("</table")]
    assert table.count("<tr") == index.N_QUESTIONS
    assert "2 questions more on its page" in page.text
    assert len(page.all("tbody")) == 1


def test_neighbouring_pages_are_linked_only_where_they_are(tmp_path: Path, made: list[Path]) -> None:
    recordings = [copied(tmp_path, "a.wav", made[1:2], 0)]
    assert 'href="compare.html"' not in written(tmp_path, recordings)[0]
    (tmp_path / "compare.html").write_text("compared")
    (tmp_path / "evaluation.md").write_text("measured")
    text, _ = written(tmp_path, recordings)
    assert 'href="compare.html"' in text
    assert 'href="evaluation.md"' in text


def test_recordings_without_results_and_no_recordings_at_all_make_a_page(tmp_path: Path) -> None:
    _, page = written(tmp_path, [Listed("empty.wav", "empty.html", ())])
    assert "no explanations" in page.text
    _, page = written(tmp_path, [], left_out=[("x", "damaged")])
    assert "x : damaged" in page.text


def test_values_of_a_regression_are_told_as_values(tmp_path: Path, made: list[Path]) -> None:
    one = copied(tmp_path, "a.wav", made[1:2], 0)
    one.results[0][1]["model"].update(output="regression", labels=["valence", "arousal", "tension", "depth"])
    one.results[0][1]["round_trip"]["original"]["all"] = [0.25, -0.5, 1.0, 2.0]
    _, page = written(tmp_path, [one])
    assert "valence 0.25, arousal -0.50, tension 1.00 …" in page.text


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [copied(tmp_path, "a.wav", made[1:2], 0)]
    before, _ = written(tmp_path, recordings)
    assert before == written(tmp_path, recordings)[0]  # the same bytes again

    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(index, "classes", broken)
    with pytest.raises(MemoryError):
        write_index(tmp_path, [])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-00000000", "report.html"]
