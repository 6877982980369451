"""Does Grad-CAM show consonance: planted networks that do and do not, plain oracles, and figures that add up."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy import stats
from torch import nn

from otoscope import brightness_summary
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer, Float32, Floats
from otoscope.adapters.network import NetworkModel
from otoscope.brightness import SIGNS, Looks, called_maps, follow, look, rank_correlations, rectified
from otoscope.brightness_summary import by_clip, draw, statistics, summarise, table
from otoscope.explainers.gradcam import brightness
from otoscope.mer_models import consonance, harmonics, peaks
from otoscope.mer_models.data import Clip
from otoscope.mer_models.shipped import harmonics_1

RATE = 22050
N_SAMPLES = 2 * RATE
N_FRAMES = 1 + (N_SAMPLES - peaks.N_FFT) // peaks.HOP_LENGTH
CHORDS = ((60, 64, 67), (57, 60, 64), (55, 59, 62, 65), (60, 61, 66, 67), (62, 63, 64), (59, 64, 65, 66))


@functools.cache
def piece(seed: int, *, seconds: float = 4.0) -> Float32:
    """Random chords of half a second, consonant and not, at random levels, with a little noise."""
    rng = np.random.default_rng(seed)
    sound = []
    for _ in range(round(2 * seconds)):
        f, a = consonance.chord_spectrum(np.add(CHORDS[rng.integers(len(CHORDS))], rng.integers(-5, 6)))
        time = np.arange(RATE // 2) / RATE
        phases = rng.uniform(0, 2 * np.pi, (len(f), 1))
        sound.append(rng.uniform(0.01, 0.1) * a @ np.sin(2 * np.pi * f[:, None] * time + phases))
    whole = np.concatenate(sound)
    return (whole + 1e-4 * rng.standard_normal(len(whole))).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, ...]:
    """Twenty-four clips of twelve songs, two windows each."""
    folder = tmp_path_factory.mktemp("pieces")
    made = []
    for index in range(24):
        path = folder / f"{index}.wav"
        soundfile.write(path, piece(index), RATE)
        made.append(Clip(path.stem, path, f"emopia:{index // 2}", "emopia", quadrant=index % 4))
    return tuple(made)


class Planted(nn.Module):
    """A network with a layer of one channel over the frames of `peaks`; what it shows there is up to `course`.

    Parameters
    ----------
    course : callable
        Waveform (n_samples,) to activations (n_frames,), not negative.
    """

    def __init__(self, course: Callable[[Float32], Floats]) -> None:
        super().__init__()
        self.course = course
        self.shown = nn.Identity()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Score (n, n_samples); the fourth quadrant is always called."""
        courses = np.array([self.course(one) for one in waveforms.detach().numpy()], dtype=np.float32)
        cells = torch.from_numpy(courses)[:, None] + 0 * waveforms.sum()  # (n, 1, n_frames), in autograd's reach
        mean: torch.Tensor = self.shown(cells).mean(dim=(1, 2))
        return mean[:, None] * torch.tensor([1.0, 2.0, 3.0, 4.0])


def planted(course: Callable[[Float32], Floats]) -> NetworkModel:
    step = peaks.HOP_LENGTH / RATE
    first = peaks.N_FFT / 2 / RATE - step / 2
    return NetworkModel(
        Planted(course),
        Hearing(RATE, N_SAMPLES),
        labels=harmonics.LABELS,
        layers=lambda model: (CamLayer("shown", model.network.shown, frames=(first, step)),),
    )


def consonant(samples: Float32) -> Floats:
    composite = peaks.measure(samples, rate=RATE).composite
    return np.asarray(composite - composite.min())


def deaf(seed: int = 0) -> Callable[[Float32], Floats]:
    """Make a course that knows nothing of the sound: noise, drawn afresh each time."""
    rng = np.random.default_rng(seed)
    return lambda _samples: rng.uniform(0, 1, N_FRAMES)


@pytest.fixture(scope="module")
def looks(clips: tuple[Clip, ...]) -> dict[str, Looks]:
    courses = {"consonant": consonant, "deaf": deaf()}
    return look({name: [(planted(course), clips)] for name, course in courses.items()})


@pytest.fixture(scope="module")
def summary(looks: dict[str, Looks]) -> dict[str, Any]:
    return summarise(looks, n_boot=200, seed=0)


def test_a_map_that_follows_consonance_is_found_to(summary: dict[str, Any]) -> None:
    for group in ("within", "within_given_loudness"):
        found = summary["networks"]["consonant"][group]
        assert found["composite"]["value"] > 0.99
        assert found["composite"]["low"] > 0.99
        for measure in SIGNS:  # all are turned the same way
            assert found[measure]["low"] > 0.3


def test_a_map_that_ignores_the_sound_is_found_to(summary: dict[str, Any]) -> None:
    for group in ("within", "within_given_loudness", "clips", "clips_given_loudness"):
        figure = summary["networks"]["deaf"][group]["composite"]
        assert figure["low"] < 0 < figure["high"]


def test_maps_that_ignore_the_sound_are_found_to_as_often_as_intervals_promise(looks: dict[str, Looks]) -> None:
    """Of 95 % intervals of twenty deaf networks one or two miss 0; one set of clips is shown to all of them."""
    windows, held = looks["deaf"], {"within": 0, "clips": 0}
    sounds = [peaks.measure(half, rate=RATE) for index in range(24) for half in np.split(piece(index), 2)]
    for seed in range(20):
        draw_course = deaf(seed)
        courses = [draw_course(np.empty(0, dtype=np.float32)) for _ in sounds]
        within = np.array([follow(course, sound)[0] for course, sound in zip(courses, sounds, strict=True)])
        shine = np.array([course.mean() / course.max() for course in courses])
        one = dataclasses.replace(windows, within=within, brightness=shine)
        figures = summarise({"deaf": one}, n_boot=100)["networks"]["deaf"]
        for group in held:
            held[group] += figures[group]["composite"]["low"] <= 0 <= figures[group]["composite"]["high"]
    assert min(held.values()) >= 15


def test_loudness_held_constant_takes_away_what_is_loudness() -> None:
    """Map and consonance that both are loudness and noise correlate, but not once loudness is held constant."""
    rng = np.random.default_rng(0)
    loudness = rng.uniform(1, 2, 2000)
    sound = peaks.Consonance(
        **{name: sign * (loudness + rng.normal(0, 0.2, 2000)) for name, sign in SIGNS.items()}, loudness=loudness
    )
    plain, partial = follow(loudness + rng.normal(0, 0.2, 2000), sound)
    assert (plain > 0.5).all()
    assert (np.abs(partial) < 0.07).all()


def test_a_map_that_is_loudness_leaves_nothing_to_correlate() -> None:
    sound = peaks.measure(piece(0), rate=RATE)
    plain, partial = follow(2 * sound.loudness, sound)
    assert np.isfinite(plain).all()
    assert np.isnan(partial).all()


def test_differences_are_those_from_the_first_network_draw_by_draw(
    looks: dict[str, Looks], summary: dict[str, Any]
) -> None:
    networks, differences = summary["networks"], summary["differences"]
    assert set(differences) == {"deaf"}
    figure = differences["deaf"]["within"]["composite"]
    ours, theirs = (networks[name]["within"]["composite"] for name in ("consonant", "deaf"))
    assert figure["value"] == pytest.approx(ours["value"] - theirs["value"], abs=2e-5)
    assert figure["low"] > 0.5
    same = summarise({"a": looks["deaf"], "b": looks["deaf"]}, n_boot=100)["differences"]["b"]
    assert same["within"]["composite"] == {"value": 0, "low": 0, "high": 0}  # the same songs are drawn for both


def test_windows_are_told_with_clip_song_and_quadrants(looks: dict[str, Looks], clips: tuple[Clip, ...]) -> None:
    one = looks["consonant"]
    assert one.song.tolist() == [clip.song for clip in clips for _ in range(2)]
    assert one.clip.tolist() == [str(clip.path) for clip in clips for _ in range(2)]
    assert one.true.tolist() == [clip.quadrant for clip in clips for _ in range(2)]
    assert set(one.called.tolist()) == {3}  # the fourth weight is the greatest
    first = soundfile.read(clips[0].path, dtype="float32")[0][:N_SAMPLES]
    heard = peaks.measure(first, rate=RATE)
    assert one.consonance[0].tolist() == pytest.approx([sign * heard.mean(name) for name, sign in SIGNS.items()])
    assert one.loudness[0] == pytest.approx(heard.loudness.mean())
    shown = consonant(first)
    assert one.brightness[0] == pytest.approx(shown.mean() / shown.max(), rel=1e-5)


def test_clips_without_a_quadrant_and_several_folds_are_looked_at(clips: tuple[Clip, ...]) -> None:
    unknown = [Clip(clip.name, clip.path, clip.song, "emopia") for clip in clips[:2]]
    found = look({"deaf": [(planted(deaf()), unknown), (planted(consonant), clips[2:3])]})["deaf"]
    assert found.true.tolist() == [-1, -1, -1, -1, 2, 2]
    told = summarise({"deaf": found}, n_boot=100)["networks"]["deaf"]
    assert told["brightness"]["true"]["Q1"]["value"] is None
    assert told["brightness"]["true"]["Q4-Q2"]["value"] is None
    assert told["brightness"]["true"]["Q3"]["value"] == pytest.approx(found.brightness[4:].mean(), abs=1e-5)


def test_silence_is_looked_at_and_correlates_with_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(N_SAMPLES), RATE)
    clip = Clip("silence", tmp_path / "silence.wav", "emopia:silence", "emopia", quadrant=0)
    found = look({"deaf": [(planted(deaf()), [clip])]})["deaf"]
    assert found.consonance[0, :3].tolist() == [0, 0, 0]
    assert np.isnan(found.within).all()
    json.dumps(summarise({"deaf": found}, n_boot=100), allow_nan=False)


# Against slow and plain ones.


def test_maps_of_a_batch_are_those_of_each_window_alone_for_the_class_it_calls() -> None:
    model = harmonics_1().randomised(1)
    layer = model.layers()[0]
    rng = np.random.default_rng(0)
    levels = np.array([[0.3], [0.01], [0.1], [0.2], [1e-3]])
    waveforms = (levels * rng.uniform(-1, 1, (5, harmonics.N_SAMPLES))).astype(np.float32)
    called, maps = called_maps(model, waveforms, layer)

    assert called.tolist() == model.predict(waveforms).argmax(axis=1).tolist()
    network: Any = model.network
    kept: list[torch.Tensor] = []
    for index, waveform in enumerate(waveforms):
        handle = network.relu.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        logits = model.logits(torch.from_numpy(waveform)[None].requires_grad_())
        handle.remove()
        activations = kept[-1]  # (1, 384, n_frames)
        gradient = torch.autograd.grad(logits[0, called[index]], activations)[0]
        expected = (gradient.mean(dim=-1, keepdim=True) * activations)[0].unflatten(0, (12, 32)).sum(dim=1)
        scale = float(expected.detach().abs().max())
        np.testing.assert_allclose(maps[index], expected.detach().numpy(), atol=1e-5 * scale)


def test_correlations_are_scipys_and_the_partial_one_is_that_of_residuals() -> None:
    rng = np.random.default_rng(0)
    control = rng.normal(size=200)
    course = control + rng.normal(size=200)
    sounds = [control + 0.5 * course + rng.normal(size=200), rng.integers(0, 5, 200).astype(float)]  # one has ties
    plain, partial = rank_correlations(np.array([course, control, *sounds]))
    for index, sound in enumerate(sounds):
        assert plain[index] == pytest.approx(stats.spearmanr(course, sound).statistic)
        x, y, z = (stats.rankdata(row) for row in (course, sound, control))
        left = [row - np.polyval(np.polyfit(z, row, 1), z) for row in (x, y)]
        assert partial[index] == pytest.approx(stats.pearsonr(*left).statistic)


def test_correlations_with_constants() -> None:
    rng = np.random.default_rng(0)
    course, sound, constant = rng.normal(size=20), rng.normal(size=20), np.ones(20)
    plain, partial = rank_correlations(np.array([course, constant, sound, constant]))
    assert partial[0] == pytest.approx(plain[0])  # a constant control explains nothing
    assert np.isnan([plain[1], partial[1]]).all()
    assert np.isnan(np.concatenate(rank_correlations(np.array([constant, course, sound])))).all()


def test_inaudible_frames_are_left_out() -> None:
    rng = np.random.default_rng(0)
    sound = peaks.measure(piece(3), rate=RATE)
    course = rng.uniform(size=len(sound.loudness))
    faint = np.full(9, 1e-3 * sound.loudness.max())
    longer = peaks.Consonance(
        **{name: np.concatenate([getattr(sound, name), rng.uniform(size=9)]) for name in SIGNS},
        loudness=np.concatenate([sound.loudness, faint]),
    )
    expected = follow(course, sound)
    np.testing.assert_allclose(follow(np.concatenate([course, 100 + faint]), longer), expected)
    for index, (measure, sign) in enumerate(SIGNS.items()):
        rho = stats.spearmanr(course, sign * getattr(sound, measure)).statistic
        assert expected[0][index] == pytest.approx(rho)


def test_a_course_is_what_is_positive() -> None:
    cells = np.array([[1.0, -5.0, 2.0], [3.0, 1.0, -1.0]])
    assert rectified(cells).tolist() == [4, 1, 2]
    assert brightness(cells) == pytest.approx(7 / 6 / 3)


# Figures and their intervals.


def made_up(n_songs: int, *, windows: int = 6, seed: int = 0, effect: float = 0.1) -> Looks:
    """Windows of songs with an effect of the song that all its windows share; Q4 is brighter than Q2 by `effect`."""
    rng = np.random.default_rng(seed)
    song = np.repeat(np.arange(n_songs), windows)
    true = song % 4
    shine = 0.3 + effect / 2 * ((true == 3).astype(float) - (true == 1)) + rng.normal(0, 0.05, n_songs)[song]
    n = len(song)
    return Looks(
        song=song.astype(str),
        clip=np.array([f"{s}-{w % 2}" for s, w in zip(song, range(n), strict=True)]),
        called=rng.integers(0, 3, n),
        true=true,
        brightness=shine,
        loudness=rng.uniform(size=n),
        consonance=rng.normal(size=(n, len(SIGNS))),
        within=rng.normal(0.2, 0.3, (n, len(SIGNS))),
        within_given_loudness=np.where(song[:, None] > 0, rng.normal(0.1, 0.3, (n, len(SIGNS))), np.nan),
    )


def plain_clips(windows: Looks) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for clip in sorted(set(windows.clip.tolist())):
        own = windows.clip == clip
        found[clip] = [windows.brightness[own].mean(), windows.loudness[own].mean(), *windows.consonance[own].mean(0)]
    return found


def test_figures_are_the_plain_means_and_correlations() -> None:
    windows = made_up(12)
    song, clips = by_clip(windows)
    expected = plain_clips(windows)
    np.testing.assert_allclose(clips, list(expected.values()))
    assert song.tolist() == [clip.split("-")[0] for clip in expected]
    figures = statistics(windows, np.arange(len(windows.song)), clips)
    assert figures["brightness", "true", "Q4-Q2"] == pytest.approx(
        windows.brightness[windows.true == 3].mean() - windows.brightness[windows.true == 1].mean()
    )
    assert figures["brightness", "called", "Q1"] == pytest.approx(windows.brightness[windows.called == 0].mean())
    assert np.isnan(figures["brightness", "called", "Q4"])
    for index, measure in enumerate(SIGNS):
        assert figures["within", measure] == pytest.approx(windows.within[:, index].mean())
        given = windows.within_given_loudness[windows.song != "0", index]  # the first song has none
        assert figures["within_given_loudness", measure] == pytest.approx(given.mean())
        rho = stats.spearmanr(clips[:, 0], clips[:, 2 + index]).statistic
        assert figures["clips", measure] == pytest.approx(rho)


def test_intervals_are_as_wide_as_songs_differ() -> None:
    """Windows of a song share its effect (sd .05), so only songs count: se² = 2 · .05² / 40, however many windows."""
    windows = made_up(160)
    for_songs, for_windows = (
        summarise({"x": one}, n_boot=200)["networks"]["x"]["brightness"]["true"]["Q4-Q2"]
        for one in (windows, dataclasses.replace(windows, song=np.arange(len(windows.song)).astype(str)))
    )
    width = 2 * 1.96 * 0.05 * np.sqrt(2 / 40)
    assert for_songs["high"] - for_songs["low"] == pytest.approx(width, rel=0.25)
    assert for_songs["low"] < 0.1 < for_songs["high"]
    assert for_windows["high"] - for_windows["low"] == pytest.approx(width / np.sqrt(6), rel=0.25)


def test_the_same_seed_gives_the_same_intervals_and_another_others() -> None:
    windows = made_up(12)
    first, again, other = (summarise({"x": windows}, n_boot=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["networks"] != other["networks"]
    assert first["networks"]["x"]["n_songs"] == 12
    assert first["networks"]["x"]["n_clips"] == 24
    assert first["networks"]["x"]["n_windows"] == 72


def test_table_and_picture_hold_every_network(summary: dict[str, Any], tmp_path: Path) -> None:
    text = table(summary)
    lines = text.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0] == "|  | consonant | deaf | consonant − deaf |"
    assert "48 windows of 24 clips, 12 songs" in lines[2]
    row = next(line for line in lines if line.startswith("| map in time ~ composite |"))
    figure = summary["networks"]["consonant"]["within"]["composite"]
    assert f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in row
    assert "–" in next(line for line in lines if line.startswith("| brightness, called Q1 |"))
    json.dumps(summary, allow_nan=False)
    renamed = {**summary, "networks": {rf"$\{name}$": one for name, one in summary["networks"].items()}}
    for name, one in (("a", summary), ("b", renamed)):
        draw(one, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()  # no mathematics


def test_the_shipped_network_is_looked_at(clips: tuple[Clip, ...]) -> None:
    model = harmonics_1()
    found = look({"harmonics": [(model, clips[:1])], "randomised": [(model.randomised(0), clips[:1])]})
    for windows in found.values():  # four seconds are filled up to six; what is filled up is inaudible
        assert len(windows.song) == 1
        assert 0 < windows.brightness[0] < 1
        assert np.isfinite(windows.within).all()
    np.testing.assert_array_equal(found["harmonics"].consonance, found["randomised"].consonance)


def test_what_does_not_fit_is_refused(clips: Sequence[Clip]) -> None:
    with pytest.raises(OtoscopeError, match="harmonics: was shown no clips"):
        look({"harmonics": [(planted(deaf()), [])]})
    three = NetworkModel(Planted(deaf()), Hearing(RATE, N_SAMPLES), labels=("a", "b", "c"))
    with pytest.raises(OtoscopeError, match=r"x: need a torch network .* four labels"):
        look({"x": [(three, clips)]})
    endless = NetworkModel(Planted(deaf()), Hearing(RATE), labels=harmonics.LABELS)
    with pytest.raises(OtoscopeError, match="windows of one length"):
        look({"x": [(endless, clips)]})
    flat = NetworkModel(Planted(deaf()), Hearing(RATE, N_SAMPLES), labels=harmonics.LABELS, layers=lambda _model: ())
    with pytest.raises(OtoscopeError, match="no layer with a time axis"):
        look({"x": [(flat, clips)]})
    with pytest.raises(OtoscopeError, match="10 draws make no interval"):
        summarise({}, n_boot=10)


def test_progress_is_told(clips: tuple[Clip, ...]) -> None:
    lines: list[str] = []
    look({"deaf": [(planted(deaf()), clips[:2])]}, progress=lines.append)
    assert lines == ["deaf: looked at 2 of 2 clips"]
    assert brightness_summary.CONTRAST == "Q4-Q2"
