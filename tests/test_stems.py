"""Stems: parts whose sounds are given, and what they leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from otoscope.adapters.audio import Audio, load_audio, write_wav
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Stft
from otoscope.cli import main
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.makers import cut, undivided
from otoscope.explainers.methods import Settings
from otoscope.explainers.neighbourhoods import make_masks
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import score_masks
from otoscope.explainers.stems import separated, span_stems
from otoscope.explainers.store import load_explanation, save
from otoscope.explainers.two_level import level_two_request
from tests import reference
from tests.builders import DATA, RATE, Function, loudness, music, noise, request, sigmoid, tone, torch_model
from tests.songs import needs_data

STFT = Stft(512, 256)
SOUNDS = {"low": tone(300.0, seconds=1.5), "high": tone(2000.0, seconds=1.5, start=0.5), "hiss": noise(seconds=1.5)}


def whole(samples: Any, **settings: Any) -> Parts:
    return undivided(Audio(samples, RATE), STFT, **settings)


def given(left_open: Any = 0.0, **settings: Any) -> Parts:
    """Make parts of the three sounds and what a mix holds besides."""
    sounds = np.stack(list(SOUNDS.values()))
    return separated(whole((sounds.sum(axis=0) + left_open).astype(np.float32), **settings), sounds, list(SOUNDS))


def written(folder: Path, samples: Any, name: str, rate: int = RATE) -> str:
    write_wav(folder / name, np.asarray(samples, dtype=np.float32), rate)
    return str(folder / name)


def band_listener(waveforms: Any) -> Any:
    """Hear the band around 2 kHz only."""
    power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2
    frequencies = np.fft.rfftfreq(waveforms.shape[1], 1 / RATE)
    inside = power[:, (frequencies > 1900) & (frequencies < 2100)].sum(axis=1, keepdims=True)
    return sigmoid(np.log10(inside / waveforms.shape[1] + 1e-6))


@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
@pytest.mark.parametrize("open_db", [None, -20, -55])
def test_the_sounds_are_the_stems_and_the_rest_is_a_part(open_db: int | None, off: Any) -> None:
    level = 0.0 if open_db is None else 10 ** (open_db / 20) * 0.25
    left_open = tone(900.0, seconds=1.5, level=1.0) * level
    parts = given(left_open, off=off)
    assert parts.names == (*SOUNDS, *(["remainder"] if open_db else []))
    np.testing.assert_array_equal(parts.sounds[:3], np.stack(list(SOUNDS.values())))
    np.testing.assert_array_equal(parts.part(1).samples, SOUNDS["high"])
    if open_db:
        np.testing.assert_allclose(parts.sounds[3], left_open, atol=1e-6)
    np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], parts.audio.samples, atol=1e-5)
    assert parts.energy.sum() == pytest.approx(1, abs=1e-5)
    mask = np.array([[0, 1, 0, 1][: parts.k]])
    offs = np.zeros_like(parts.sounds) if parts.offs is None else parts.offs
    expected = mask @ parts.sounds + (1 - mask) @ offs
    np.testing.assert_allclose(parts.compose(mask), expected, atol=1e-5)


def test_shares_are_those_of_the_power_in_each_cell() -> None:
    parts = given()
    power = [np.abs(reference.stft(sound, n_fft=512, hop=256)) ** 2 for sound in SOUNDS.values()]
    assert parts.shares is not None
    np.testing.assert_allclose(parts.shares.sum(axis=0), 1, atol=1e-6)
    for part in range(3):
        np.testing.assert_allclose(parts.shares[part], power[part] / sum(power), atol=2e-5)
    assert parts.labels[round(2000 * 512 / RATE), 25] == 1
    assert parts.energy[1] == pytest.approx(0.3**2 / 2 * 2 / 3 / np.mean(parts.audio.samples**2), rel=0.05)


def test_a_remainder_is_kept_where_the_sum_or_the_ear_would_miss_it() -> None:
    assert given(left_open=5e-6).k == 3  # as exact as parts add up
    assert given(left_open=2e-5).names[-1] == "remainder"
    faint = 1e-4 * noise(seconds=1.0)
    quiet = separated(whole(faint + 1e-6 * tone(500.0)), faint[None], ["faint"])
    assert quiet.k == 2  # 20 dB down, though no sample reaches 1e-5
    silent = separated(whole(np.zeros(RATE, np.float32)), np.zeros((2, RATE), np.float32), ["a", "b"])
    assert silent.k == 2
    assert silent.energy.tolist() == [0, 0]


def test_names_that_occur_twice_are_numbered() -> None:
    half = noise() / 2
    parts = separated(whole(2 * noise()), np.stack([half, half]), ["remainder", "remainder"])
    assert parts.names == ("remainder", "remainder (2)", "remainder (3)")


@pytest.mark.parametrize(
    ("sounds", "names", "words"),
    [
        (np.zeros((2, 9)), ["a", "b"], r"got sounds of shape \(2, 9\) for 2 names; need \(2, 8000\)"),
        (np.zeros((2, RATE)), ["a"], r"got sounds of shape \(2, 8000\) for 1 names; need \(1, 8000\)"),
        (np.zeros((0, RATE)), [], r"need \(n, 8000\)"),
        (np.full((1, RATE), np.nan), ["a"], "NaN or infinite samples; repair the separator"),
    ],
)
def test_sounds_that_fit_nothing_are_refused(sounds: Any, names: list[str], words: str) -> None:
    with pytest.raises(OtoscopeError, match=words):
        separated(whole(noise()), sounds, names)
    with pytest.raises(OtoscopeError, match=r"got sounds of shape \(1, 8\) for 2 parts of 8000 samples"):
        Parts(Audio(noise(), RATE), STFT, whole(noise()).labels, ("a", "b"), recorded=np.zeros((1, 8), np.float32))


@pytest.mark.parametrize("rate", [RATE, 16_000, 44_100, 6_000])
def test_stems_are_brought_to_rate_length_and_span(rate: int, tmp_path: Path) -> None:
    time = np.arange(3 * rate + 50) / rate  # 50 samples longer than the recording
    stem = 0.2 * np.sin(2 * np.pi * (200 + 100 * time) * time)
    file = written(tmp_path, stem, "sweep.wav", rate)
    recording = Audio(music(seconds=3.0), RATE)
    got = explain(
        Function(loudness),
        recording,
        start=1.0,
        duration=1.5,
        settings=Settings(parts="stems", stems=(file,), calls=16),
    ).parts
    assert got.names == ("sweep", "remainder")
    place = 1 + np.arange(round(1.5 * RATE)) / RATE
    inner = slice(50, -50)
    np.testing.assert_allclose(
        got.sounds[0][inner], 0.2 * np.sin(2 * np.pi * (200 + 100 * place) * place)[inner], atol=2e-3
    )
    np.testing.assert_allclose(got.sounds.sum(axis=0), recording.cut(1.0, 1.5).samples, atol=1e-5)
    assert got.start == 1.0


def test_a_stem_a_little_short_is_padded(tmp_path: Path) -> None:
    file = written(tmp_path, noise(seconds=1.95), "short.wav")
    stem = span_stems((file,), Audio(noise(seconds=2.0), RATE), RATE, request_span(1.92, 0.08))[0]
    np.testing.assert_array_equal(stem.samples[: round(0.03 * RATE)], noise(seconds=1.95)[-round(0.03 * RATE) :])
    assert not stem.samples[round(0.03 * RATE) :].any()
    assert len(stem.samples) == round(0.08 * RATE)


def request_span(start: float, duration: float) -> Any:
    from otoscope.adapters.windows import Span

    return Span(start, duration)


def test_what_is_wrong_with_stems_is_said(tmp_path: Path) -> None:
    recording = Audio(noise(seconds=2.0), RATE, "mix.wav")
    long, right = (written(tmp_path, noise(seconds=s), f"{s}.wav") for s in (2.3, 2.0))
    (tmp_path / "text.wav").write_text("no sound")

    def ask(*files: str, **settings: Any) -> Explanation:
        return explain(Function(loudness), recording, settings=Settings(parts="stems", stems=files, **settings))

    with pytest.raises(OtoscopeError, match=r"2\.3\.wav: lasts 2\.30 s, 0\.30 s more than mix\.wav \(2\.00 s\)"):
        ask(right, long)
    with pytest.raises(OtoscopeError, match=r"text\.wav: cannot be read as audio"):
        ask(str(tmp_path / "text.wav"))
    with pytest.raises(OtoscopeError, match=r"gone\.wav: no such file"):
        ask(str(tmp_path / "gone.wav"))
    with pytest.raises(OtoscopeError, match="2 stems and what they leave open are 3 parts; give n_parts of 3 or more"):
        ask(right, right, n_parts=2)
    with pytest.raises(OtoscopeError, match="stems are given, but parts are 'grid'; add --parts stems"):
        Settings(parts="grid", stems=("a.wav",))
    with pytest.raises(OtoscopeError, match="parts are 'left to the method'"):
        Settings(stems=("a.wav",))
    with pytest.raises(OtoscopeError, match="name each by --stems FILE"):
        Settings(parts="stems")
    with pytest.raises(OtoscopeError, match=r"stems are a tuple of file names, got 'a\.wav'"):
        Settings(parts="stems", stems="a.wav")  # type: ignore[arg-type]
    with pytest.raises(OtoscopeError, match="name their files by --stems FILE"):
        cut(whole(noise()), "stems", 64)


@pytest.fixture
def song(tmp_path: Path) -> tuple[Path, list[str]]:
    """Write a mix with something of its own, and its three stems."""
    stems = [written(tmp_path, sound, f"{name}.wav") for name, sound in SOUNDS.items()]
    mix = np.sum(list(SOUNDS.values()), axis=0) + tone(900.0, seconds=1.5, level=0.05)
    return Path(written(tmp_path, mix, "mix.wav")), stems


@pytest.mark.parametrize("method", ["lime", "occlusion", "gradcam"])
def test_explanations_by_stems_survive_the_way_to_disk(
    method: str, song: tuple[Path, list[str]], tmp_path: Path
) -> None:
    calls: dict[str, Any] = {"calls": 64, "off": "noise"} if method == "lime" else {}
    model: Any = torch_model() if method == "gradcam" else Function(band_listener)
    settings = Settings(parts="stems", stems=tuple(song[1]), **calls)
    first = explain(model, load_audio(song[0]), method=method, settings=settings)
    assert first.names == (*SOUNDS, "remainder")
    assert len(first.settings["stems_sha256"]) == 3
    folder = save(first, tmp_path / "a")
    loaded = load_explanation(folder)
    np.testing.assert_array_equal(loaded.parts.sounds, first.parts.sounds)
    np.testing.assert_array_equal(loaded.parts.sounds[1], SOUNDS["high"])
    again = save(loaded, tmp_path / "b")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    if "off" not in calls:
        both = first.evidence.samples + first.complement.samples
        np.testing.assert_allclose(both, first.audio.samples, atol=1e-5)
    if method != "gradcam":
        assert first.weights[1] > 0.9 * np.abs(first.weights).sum()
        assert first.chosen.tolist() == [False, True, False, False]
        assert first.map.sum() == pytest.approx(first.weights.sum())


@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
def test_both_routes_hear_the_stems(off: Any) -> None:
    parts = given(left_open=tone(900.0, seconds=1.5, level=0.05), off=off)
    one = request(torch_model(), parts.audio.samples)
    masks = make_masks("exhaustive", parts.k, 64, 0)
    waveform, bands = (score_masks(one.model, parts, masks, route=route) for route in ("waveform", "bands"))
    assert bands.route == "bands"
    np.testing.assert_allclose(bands.scores, waveform.scores, atol=1e-3)


def test_a_second_level_gets_the_stems_at_its_own_rate() -> None:
    samples = music(seconds=1.0)
    one = request(Function(loudness), samples, settings=Settings(parts="stems", stems=("a.wav",)))
    object.__setattr__(one.whole, "stems", (Audio(samples, RATE, "a"),))
    two = level_two_request(one, Function(loudness, rate=2 * RATE), Audio(samples, RATE))
    parts = cut(two.whole, "stems", 9)
    assert parts.names == ("a",)
    assert parts.audio.rate == 2 * RATE


@needs_data
@pytest.mark.parametrize("name", ["feelings", "war_of_freedom"])
def test_a_model_that_hears_the_guitar_only_finds_its_stem(name: str) -> None:
    files = tuple(str(DATA / "stems" / f"{name}-{what}.ogg") for what in ("song", "guitar"))
    song, guitar = (load_audio(file) for file in files)
    n_samples = min(len(song.samples), len(guitar.samples))
    mix = Audio(song.samples[:n_samples] + guitar.samples[:n_samples], song.rate, "mix")
    heard = guitar.cut(0.0, 6.0).samples.astype(np.float64)

    def hears_guitar(waveforms: Any) -> Any:
        """Project on the guitar: 1 where it sounds in full."""
        return sigmoid(4 * (waveforms @ heard)[:, None] / (heard @ heard) - 2)

    model = Function(hears_guitar, rate=song.rate)
    settings = Settings(parts="stems", stems=files, calls=64)
    got = explain(model, mix, start=0.0, duration=6.0, settings=settings)
    assert got.names[:2] == (f"{name}-song", f"{name}-guitar")
    np.testing.assert_allclose(got.parts.sounds[1], heard, atol=1e-6)
    assert got.weights[1] >= 0.95 * np.abs(got.weights).sum()
    assert got.names[got.strongest(1)[0]] == f"{name}-guitar"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["explain", *arguments])


def test_the_command_line_takes_stems(song: tuple[Path, list[str]], tmp_path: Path) -> None:
    stems = [word for file in song[1] for word in ("--stems", file)]
    out = str(tmp_path / "out")
    given_all = [str(song[0]), "--parts", "stems", *stems, "--calls", "16", "--out", out, "--json"]
    result = run(*given_all)
    assert result.exit_code == 0, result.output
    folder = Path(json.loads(result.stdout)["results"][0]["folder"])
    document = json.loads((folder / "explanation.json").read_text())
    assert document["parts"]["names"] == [*SOUNDS, "remainder"]
    assert document["settings"]["stems"] == song[1]
    before = (folder / "explanation.json").stat().st_mtime_ns
    assert run(*given_all, "--resume").exit_code == 0
    assert (folder / "explanation.json").stat().st_mtime_ns == before
    soundfile.write(song[1][0], SOUNDS["low"] / 2, RATE, subtype="FLOAT")  # another stem of the same name
    changed = run(*given_all, "--resume")
    assert changed.exit_code == 1
    assert "holds a result of other settings" in changed.stderr


def test_the_command_line_refuses_stems_that_fit_nothing(song: tuple[Path, list[str]], tmp_path: Path) -> None:
    mix, stem, out = str(song[0]), song[1][0], ["--out", str(tmp_path / "out")]
    short = written(tmp_path, noise(seconds=0.5), "short.wav")
    for arguments, words in (
        ([mix, "--parts", "stems"], "name each by --stems FILE"),
        ([mix, "--stems", stem], "add --parts stems"),
        ([mix, mix, "--parts", "stems", "--stems", stem], "--stems are those of one recording, got 2"),
        ([mix, "--parts", "stems", "--stems", short], f"{short}: lasts 0.50 s, 1.00 s less than mix.wav"),
        ([mix, "--parts", "stems", "--stems", stem, "--domain", "bands"], "use --domain stft"),
    ):
        result = run(*arguments, *out)
        assert result.exit_code == 1, arguments
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
