"""Rendering: once for each score, font and setting, whole or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models import render
from otoscope.mer_models.demo_recording import Note, midi
from otoscope.mer_models.emopia import read_emopia, read_scores
from tests.builders import DATA
from tests.songs import install_synthesiser, needs_data, tiny_emopia, tiny_font

FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")


@pytest.fixture
def synthesiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_synthesiser(tmp_path, monkeypatch)


def test_mono_is_the_mean_of_both_channels(tmp_path: Path, synthesiser: Path) -> None:
    assert synthesiser.exists()
    paths = render.render({"a": midi([Note(0, 1, 60, 90)])}, tiny_font(tmp_path), cache=tmp_path / "cache")
    samples, _ = soundfile.read(paths["a"])
    assert np.abs(samples).max() == pytest.approx(0.05, abs=1e-3)  # 0.1 on one side, silence on the other


def test_what_is_rendered_is_kept_until_the_score_or_the_font_changes(tmp_path: Path, synthesiser: Path) -> None:
    font, cache = tiny_font(tmp_path), tmp_path / "cache"
    scores = {"a": midi([Note(0, 1, 60, 90)]), "b": midi([Note(0, 1, 61, 90)])}
    first = render.render(scores, font, cache=cache)
    assert render.render(scores, font, cache=cache) == first
    assert len(synthesiser.read_text().splitlines()) == 2
    changed = render.render({**scores, "b": midi([Note(0, 1, 62, 90)])}, font, cache=cache)
    assert changed["a"] == first["a"]
    assert changed["b"] != first["b"]
    assert len(synthesiser.read_text().splitlines()) == 3
    font.write_bytes(b"another font")
    assert set(render.render(scores, font, cache=cache).values()).isdisjoint(first.values())
    assert len(synthesiser.read_text().splitlines()) == 5


def test_a_clip_that_cannot_be_rendered_is_named_and_leaves_nothing(tmp_path: Path, synthesiser: Path) -> None:
    assert synthesiser.exists()
    with pytest.raises(OtoscopeError, match=r"bad\.mid: fluidsynth failed \(no notes\)"):
        render.render({"bad": b"broken"}, tiny_font(tmp_path), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "piano").iterdir()) == []


def test_half_a_recording_never_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 22050)

    def fail(file: Path, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        render.store(tmp_path / "a.wav", tmp_path / "a.flac")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_rendering_says_how_far_it_is(tmp_path: Path, synthesiser: Path) -> None:
    assert synthesiser.exists()
    told: list[str] = []
    render.render({"a": b"x"}, tiny_font(tmp_path), cache=tmp_path / "cache", progress=told.append)
    assert told == ["rendered 1 of 1 clips with piano"]


def test_missing_synthesiser_and_font_say_what_to_install(
    tmp_path: Path, synthesiser: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert synthesiser.exists()
    folder = tiny_emopia(tmp_path / "emopia", ["Q1_c_0"])
    with pytest.raises(OtoscopeError, match=r"none\.sf2: no such sound font; .*fluid-soundfont-gm"):
        read_emopia(folder, fonts=[tmp_path / "none.sf2"], cache=tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(OtoscopeError, match="same name"):
        read_emopia(folder, fonts=[tiny_font(tmp_path), tiny_font(tmp_path / "other")], cache=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(OtoscopeError, match="fluidsynth: not found; install it"):
        read_emopia(folder, fonts=[tiny_font(tmp_path)], cache=tmp_path)


def test_emopia_is_rendered_by_each_font(tmp_path: Path, synthesiser: Path) -> None:
    folder = tiny_emopia(tmp_path / "emopia", ["Q2_a_b_1", "Q1_c_0"])
    fonts = [tiny_font(tmp_path, "one"), tiny_font(tmp_path, "two")]
    clips = read_emopia(folder, fonts=fonts, cache=tmp_path / "cache")
    assert [(clip.name, clip.song, clip.font, clip.quadrant) for clip in clips] == [
        ("Q1_c_0", "emopia:c", "one", 0),
        ("Q2_a_b_1", "emopia:a_b", "one", 1),
        ("Q1_c_0", "emopia:c", "two", 0),
        ("Q2_a_b_1", "emopia:a_b", "two", 1),
    ]
    assert {clip.dataset for clip in clips} == {"emopia"}
    about = soundfile.info(clips[0].path)
    assert (about.format, about.subtype, about.channels, about.samplerate) == ("FLAC", "PCM_16", 1, 22050)
    calls = synthesiser.read_text().splitlines()
    assert len(calls) == 4
    assert calls[0].startswith("-ni -q -g 0.8 -r 22050 -F ")


@needs_data
@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not FONT.is_file(), reason="needs fluidsynth and timgm6mb-soundfont"
)
def test_real_rendering_gives_sound(tmp_path: Path) -> None:
    scores = read_scores(DATA / "emopia")
    name = min(scores, key=lambda name: len(scores[name]))
    path = render.render({name: scores[name]}, FONT, cache=tmp_path)[name]
    samples, rate = soundfile.read(path)
    assert rate == 22050
    assert samples.ndim == 1
    assert len(samples) > 5 * rate
    assert np.abs(samples).max() > 0.01
