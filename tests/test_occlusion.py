"""Occlusion: what is lost when one thing falls silent, cell by cell."""

from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pitch import PITCH_CLASSES, note_frequency
from otoscope.explainers.methods import Settings
from otoscope.explainers.occlusion import ablation, occlusion, occlusion_parts
from tests import reference
from tests.builders import Function, music, request, sigmoid, tone, torch_model
from tests.planted import CAUSES, energy_share, explained, share

RATE = 8000
SAMPLES = music(seconds=1.0)


def score(waveforms: Any) -> Any:
    """Smooth, non-linear, and not the same for all frequencies."""
    x = np.asarray(waveforms, dtype=np.float64)
    low, high = np.square(x[:, 1:] + x[:, :-1]).mean(axis=1), np.square(x[:, 1:] - x[:, :-1]).mean(axis=1)
    return sigmoid(np.stack([np.log(low + 1e-4) + 5, np.log(high + 1e-4) - np.log(low + 1e-3)], axis=1))


MODEL = Function(score, labels=("low", "bright"))


def logit(samples: Any, index: int) -> float:
    p = score(np.asarray(samples)[None])[0, index]
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(half_width=100.0, n_harmonics=3, octaves=(3, 5)),
        Settings(notes=("A3", "E4", "C5")),
        Settings(combs="disjoint"),
        Settings(parts="grid", n_parts=9),
        Settings(parts="superpixels", n_parts=10),
        Settings(parts="hpss"),
    ],
    ids=lambda settings: f"{settings.parts}-{settings.combs}-{len(settings.notes)}-{settings.n_harmonics}",
)
def test_weights_are_the_losses_of_masked_spectra(settings: Settings, index: int) -> None:
    one = request(MODEL, SAMPLES, settings=settings, index=index)
    got = occlusion(one)
    groups = np.eye(got.parts.k, dtype=bool) if got.groups is None else got.groups
    shares = [sum(got.parts.share(part) for part in np.flatnonzero(row)) for row in groups]
    shares = [share if np.ndim(share) else np.zeros(got.parts.labels.shape) for share in shares]
    expected = reference.occlusion(lambda x: logit(x, index), SAMPLES, shares)
    np.testing.assert_allclose(got.weights, expected, atol=1e-3 * np.abs(expected).max())
    assert got.n_calls == len(got.weights) + 1
    assert len(got.names) == len(got.weights)
    assert got.se is None


def test_combs_have_the_width_the_partials_and_the_octaves_that_were_asked_for() -> None:
    settings = Settings(half_width=80.0, n_harmonics=3, octaves=(3, 5))
    parts = occlusion_parts(request(MODEL, SAMPLES, settings=settings))
    assert parts.groups is not None
    frequencies = parts.stft.frequencies(RATE)
    for pitch_class, members in enumerate(parts.groups):
        expected = reference.comb(frequencies, reference.series(pitch_class, (3, 5), 3), 80.0)
        np.testing.assert_array_equal(np.isin(parts.labels[:, 0], np.flatnonzero(members)), expected)


def test_combs_of_pitch_classes_are_the_default() -> None:
    got = occlusion(request(MODEL, SAMPLES))
    assert got.names == PITCH_CLASSES
    assert got.groups is not None
    overlapping = got.groups.sum(axis=0) > 1
    assert overlapping.any()  # the third partial of C is a G


def test_disjoint_combs_share_no_bin() -> None:
    parts = occlusion_parts(request(MODEL, SAMPLES, settings=Settings(combs="disjoint")))
    assert parts.groups is None
    assert parts.names == (*PITCH_CLASSES, "remainder")


@pytest.mark.parametrize("off", ["mean", "noise"])
def test_the_off_value_stands_in(off: Any) -> None:
    one = request(MODEL, SAMPLES, settings=Settings(parts="grid", n_parts=9, off=off))
    got = occlusion(one)
    masks = 1 - np.eye(got.parts.k)
    expected = logit(SAMPLES, 0) - np.array([logit(sound, 0) for sound in got.parts.compose(masks)])
    np.testing.assert_allclose(got.weights, expected, atol=1e-4)
    silent = occlusion(request(MODEL, SAMPLES, settings=Settings(parts="grid", n_parts=9)))
    assert np.abs(silent.weights - got.weights).max() > 1e-3


def test_a_model_that_hears_one_note_loses_it() -> None:
    """A pure truth: two notes sound, the model hears one."""
    one, other = tone(note_frequency("A5"), seconds=1.5), tone(note_frequency("D6"), seconds=1.5)

    def hears_a(waveforms: Any) -> Any:
        power = np.abs(np.fft.rfft(waveforms, axis=1)) ** 2 / waveforms.shape[1] ** 2
        middle = round(note_frequency("A5") * 1.5)
        return sigmoid(np.log10(power[:, middle - 5 : middle + 6].sum(axis=1, keepdims=True) + 1e-8) + 5)

    got = occlusion(request(Function(hears_a), one + other, settings=Settings(notes=("A5", "D6"), half_width=100)))
    assert got.names == ("A5", "D6")
    assert got.weights[0] > 2
    assert abs(got.weights[1]) < 0.05 * got.weights[0]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(combs="disjunct"), "unknown kind of combs 'disjunct': did you mean 'disjoint'"),  # type: ignore[arg-type]
        (Settings(notes=("A4", "X9")), "'X9' is not a note"),
        (Settings(parts="mosaic"), "unknown part maker 'mosaic'"),
    ],
)
def test_impossible_occlusions_are_refused(settings: Settings, reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        occlusion(request(MODEL, SAMPLES, settings=settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(parts="grid", half_width=30.0), "half_width is a setting of overlapping combs"),
        (Settings(combs="disjoint", notes=("A4",)), "notes is a setting of overlapping combs"),
        (Settings(combs="disjoint", n_harmonics=4), "n_harmonics is a setting of overlapping combs"),
        (Settings(notes=("A4",), octaves=(2, 5)), "leave out octaves"),
    ],
)
def test_a_setting_that_would_reach_nothing_is_refused(settings: Settings, words: str) -> None:
    with pytest.raises(OtoscopeError, match=words):
        occlusion_parts(request(MODEL, SAMPLES, settings=settings))


@pytest.mark.parametrize("parts", ["superpixels", "grid", "harmonic", "hpss"])
def test_ablation_is_captums_on_the_masks(parts: str) -> None:
    from captum.attr import FeatureAblation

    one = request(MODEL, SAMPLES, settings=Settings(parts=parts, n_parts=16), index=1)
    got = ablation(one)
    k = got.parts.k
    captum = FeatureAblation(lambda z: torch.from_numpy(one.value(score(got.parts.compose(z.numpy())))))
    expected = captum.attribute(torch.ones(1, k), baselines=torch.zeros(1, k)).numpy()[0]
    np.testing.assert_allclose(got.weights, expected, atol=1e-5 * np.abs(expected).max())
    assert got.groups is None
    assert got.n_calls == k + 1


def test_ablation_takes_superpixels_and_never_combs() -> None:
    got = ablation(request(MODEL, SAMPLES))
    expected = occlusion(request(MODEL, SAMPLES, settings=Settings(parts="superpixels")))
    assert got.names == expected.names
    np.testing.assert_array_equal(got.weights, expected.weights)
    assert ablation(request(MODEL, SAMPLES, settings=Settings(parts="harmonic"))).names[:12] == PITCH_CLASSES


def test_ablation_gives_the_same_by_both_routes() -> None:
    waveform, bands = (
        ablation(request(torch_model(), SAMPLES, settings=Settings(parts="grid", n_parts=36, route=route)))
        for route in ("waveform", "bands")
    )
    assert (waveform.route, bands.route) == ("waveform", "bands")
    np.testing.assert_allclose(bands.weights, waveform.weights, atol=0.02 * np.abs(waveform.weights).max())


def test_an_additive_model_gives_each_part_its_own_effect() -> None:
    template = np.random.default_rng(0).normal(size=len(SAMPLES))
    model = Function(lambda x: np.asarray(x, dtype=np.float64) @ template[:, None], output="regression")
    got = ablation(request(model, SAMPLES, settings=Settings(parts="grid", n_parts=16)))
    expected = model.predict(got.parts.sounds)[:, 0]
    np.testing.assert_allclose(got.weights, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("make", CAUSES)
def test_ablation_finds_the_cause(make: Any, record_property: Any) -> None:
    cause = make()
    explanation = explained(cause, "ablation", cause.lime[0])
    found, energy = share(explanation.map, cause), energy_share(explanation.parts, cause)
    record_property("attribution", round(found, 3))
    record_property("energy", round(energy, 3))
    assert found >= 0.9
    assert found > energy


def test_clipped_answers_are_said() -> None:
    got = ablation(request(Function(lambda x: np.ones((len(x), 1))), SAMPLES))
    assert got.fidelity["clipped"] == 1
    assert got.notes == ("100% of the scores were clipped before the logarithm",)
