"""The formulae against published numbers, against plain loops written from the papers, and against what must hold."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.consonance import (
    SETHARES_CODE,
    Curve,
    beating,
    chord_profile,
    chord_spectrum,
    composite,
    critical_bandwidth,
    fold,
    harmonicity,
    hutchinson_knopoff,
    sethares,
    vassilakis,
    virtual_pitches,
)

MAJOR, MINOR, DIMINISHED = (60, 64, 67), (60, 63, 67), (60, 63, 66)
FORMULAE = (hutchinson_knopoff, sethares, vassilakis)


# Published and independently checked numbers.


@pytest.mark.parametrize(
    ("chord", "expected"), [(MAJOR, 0.1202426), (MINOR, 0.1300830), (DIMINISHED, 0.2005575)], ids=str
)
def test_hutchinson_knopoff_of_chords(chord: Sequence[int], expected: float) -> None:
    assert hutchinson_knopoff(*chord_spectrum(chord)) == pytest.approx(expected, abs=1e-6)


def test_hutchinson_knopoff_of_given_partials() -> None:
    assert hutchinson_knopoff([440, 480, 520], [1, 1, 2]) == pytest.approx(0.3990136, abs=1e-6)


def test_sethares_of_chords() -> None:
    major, minor = (sethares(*chord_spectrum(chord)) for chord in (MAJOR, MINOR))
    assert major == pytest.approx(0.7735006, abs=1e-6)
    assert major - minor == pytest.approx(-0.01876388, abs=1e-6)


def test_vassilakis_of_chords() -> None:
    major, minor = (vassilakis(*chord_spectrum(chord)) for chord in (MAJOR, MINOR))
    assert major - minor == pytest.approx(-0.0423007, abs=1e-6)


@pytest.mark.parametrize(("curve", "expected"), [(Curve(), 2.925), (SETHARES_CODE, 2.919)], ids=["ours", "his code"])
@pytest.mark.parametrize("weighting", ["min", "product"])
def test_three_tones_are_so_many_times_as_rough_as_two(curve: Curve, expected: float, weighting: Any) -> None:
    three = sethares([440, 460, 480], [1, 1, 1], curve=curve, weighting=weighting)
    assert three / sethares([440, 460], [1, 1], curve=curve, weighting=weighting) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("chord", "bits", "peak"),
    [((0, 4, 7), 0.9373149, 0.7170107), ((0, 3, 6), 0.7225033, 0.5896047), ((0, 3, 7), 0.9373149, 0.7170107)],
    ids=str,
)
def test_harmonicity_of_chords(chord: Sequence[int], bits: float, peak: float) -> None:
    assert harmonicity(chord_profile(chord)) == pytest.approx(bits, abs=1e-6)
    assert harmonicity(chord_profile(chord), measure="peak") == pytest.approx(peak, abs=1e-6)


def test_the_beating_curve_and_the_critical_bandwidth() -> None:
    np.testing.assert_allclose(beating(np.array([0, 0.25, 0.5, 1, 1.21])), [0, 1, 0.5413, 0.0397, 0], atol=5e-5)
    assert critical_bandwidth(np.array(420.0)) == pytest.approx(87.225, abs=5e-4)


# The methods again, slow and plain.


def slow_sethares(f: Sequence[float], a: Sequence[float], *, product: bool, s1: float, s2: float, b1: float) -> float:
    total = 0.0
    for i in range(len(f)):
        for j in range(i):
            low, gap = min(f[i], f[j]), abs(f[i] - f[j])
            s = 0.24 / (s1 * low + s2)
            weight = a[i] * a[j] if product else min(a[i], a[j])
            total += weight * (math.exp(-b1 * s * gap) - math.exp(-5.75 * s * gap))
    return total


def slow_vassilakis(f: Sequence[float], a: Sequence[float]) -> float:
    loud = [(x, y) for x, y in zip(f, a, strict=True) if y > 1e-5]
    total = 0.0
    for i, (f1, a1) in enumerate(loud):
        for f2, a2 in loud[:i]:
            gap, s = abs(f1 - f2), 0.24 / (0.0207 * min(f1, f2) + 18.96)
            depth = 0.5 * (2 * min(a1, a2) / (a1 + a2)) ** 3.11
            total += (a1 * a2) ** 0.1 * depth * (math.exp(-3.5 * s * gap) - math.exp(-5.75 * s * gap))
    return 2 * total


def slow_hutchinson_knopoff(f: Sequence[float], a: Sequence[float]) -> float:
    total = 0.0
    for i in range(len(f)):
        for j in range(i):
            y = abs(f[i] - f[j]) / (1.72 * ((f[i] + f[j]) / 2) ** 0.65)
            if y <= 1.2:
                total += a[i] * a[j] * (y / 0.25 * math.exp(1 - y / 0.25)) ** 2
    return total / sum(x * x for x in a)


def slow_virtual_pitches(partials: Sequence[tuple[float, float]]) -> list[float]:
    """Cosine similarity at every cent of a sum of blurred (cents, weight) with a tone of twelve partials."""

    def blurred(places: Sequence[tuple[float, float]]) -> Any:
        curve = np.zeros(1200)
        for cents, weight in places:
            for turn in range(-2, 3):
                curve += weight * np.exp(-0.5 * ((np.arange(1200) - round(cents) % 1200 + 1200 * turn) / 6.83) ** 2)
        return curve

    tone = blurred([(1200 * math.log2(n), n**-0.75) for n in range(1, 13)])
    sound = blurred(partials)
    size = np.linalg.norm(tone) * np.linalg.norm(sound)
    return [float(sound @ np.roll(tone, shift) / size) for shift in range(1200)]


def partials(seed: int, n: int | None = None) -> tuple[list[float], list[float]]:
    """Random partials, some of them close together, some of them absent."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(2, 12))
    f = rng.uniform(50, 5000, n)
    f[1::2] = f[: len(f[1::2])] * rng.uniform(1, 1.1, len(f[1::2]))
    a = rng.uniform(0, 1, n) * (rng.uniform(size=n) > 0.1)
    a[0] = 0.5
    return f.tolist(), a.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_every_formula_is_the_plain_double_loop(seed: int) -> None:
    f, a = partials(seed)
    assert hutchinson_knopoff(f, a) == pytest.approx(slow_hutchinson_knopoff(f, a), rel=1e-9, abs=1e-12)
    assert vassilakis(f, a) == pytest.approx(slow_vassilakis(f, a), rel=1e-9, abs=1e-12)
    for product in (False, True):
        ours = sethares(f, a, weighting="product" if product else "min")
        assert ours == pytest.approx(slow_sethares(f, a, product=product, s1=0.021, s2=19, b1=3.5), rel=1e-9, abs=1e-12)
    his = 5 * slow_sethares(f, a, product=False, s1=0.0207, s2=18.96, b1=3.51)
    assert sethares(f, a, curve=SETHARES_CODE) == pytest.approx(his, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_virtual_pitches_are_the_plain_similarities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cents, weights = rng.uniform(-1300, 5000, 6), rng.uniform(0, 1, 6)
    expected = np.array(slow_virtual_pitches(list(zip(cents, weights, strict=True))))
    np.testing.assert_allclose(virtual_pitches(fold(cents, weights)), expected, atol=1e-9)
    share = expected / expected.sum()
    divergence = sum(p * math.log2(p * 1200) for p in share if p > 0)
    assert harmonicity(fold(cents, weights)) == pytest.approx(divergence, abs=1e-6)
    assert harmonicity(fold(cents, weights), measure="peak") == pytest.approx(expected.max(), abs=1e-9)


@pytest.mark.parametrize("formula", FORMULAE)
def test_leading_axes_are_sets_of_their_own(formula: Any) -> None:
    sets = [partials(seed, 7) for seed in range(6)]
    f, a = (np.array(rows).reshape(2, 3, 7) for rows in zip(*sets, strict=True))
    np.testing.assert_allclose(formula(f, a).ravel(), [formula(*one) for one in sets], rtol=1e-12)


def test_leading_axes_of_profiles() -> None:
    chords: list[list[tuple[int, ...]]] = [[MAJOR, MINOR], [DIMINISHED, (60,)]]
    profiles = np.array([[chord_profile(chord) for chord in row] for row in chords])
    expected = [[float(harmonicity(chord_profile(chord))) for chord in row] for row in chords]
    np.testing.assert_allclose(harmonicity(profiles), expected, rtol=1e-9)
    cents, weights = np.random.default_rng(0).uniform(0, 1200, (2, 2, 5)), np.ones((2, 2, 5))
    np.testing.assert_allclose(fold(cents, weights)[1, 0], fold(cents[1, 0], weights[1, 0]))


# What must hold whatever the sound.

seeds = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(1e-6, 1e6))
def test_the_level_does_not_matter_to_hutchinson_and_knopoff(seed: int, gain: float) -> None:
    f, a = partials(seed)
    louder = hutchinson_knopoff(f, (np.array(a) * gain).tolist())
    assert louder == pytest.approx(float(hutchinson_knopoff(f, a)), rel=1e-9)
    assert sethares(f, np.array(a) * gain) == pytest.approx(gain * float(sethares(f, a)), rel=1e-9)
    product = [float(sethares(f, np.array(a) * g, weighting="product")) for g in (1, gain)]
    assert product[1] == pytest.approx(gain**2 * product[0], rel=1e-9)


@pytest.mark.parametrize("level", [1e-200, 1e200])
def test_levels_near_the_edge_of_numbers_do_not_matter_either(level: float) -> None:
    f, a = chord_spectrum(MAJOR)
    assert hutchinson_knopoff(f, a * level) == pytest.approx(0.1202426, abs=1e-6)
    assert harmonicity(chord_profile(MAJOR) * level) == pytest.approx(0.9373149, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_partials_does_not_matter(seed: int, random: Any) -> None:
    f, a = partials(seed)
    order = list(range(len(f)))
    random.shuffle(order)
    mixed = [f[i] for i in order], [a[i] for i in order]
    for formula in FORMULAE:
        assert formula(*mixed) == pytest.approx(float(formula(f, a)), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("formula", FORMULAE)
def test_unison_silence_one_tone_and_no_tone_are_smooth(formula: Any) -> None:
    assert formula([440, 440, 440], [1, 0.3, 1]) == 0
    assert formula([440, 450], [0, 0]) == 0
    assert formula([0, 0], [0, 0]) == 0
    assert formula([440], [1]) == 0
    assert formula([], []) == 0


@pytest.mark.parametrize("formula", FORMULAE)
def test_absent_partials_do_not_count(formula: Any) -> None:
    f, a = chord_spectrum(MINOR)
    more = formula([*f, 0, f[0] + 20, 1e4], [*a, 0, 0, 0])
    assert more == pytest.approx(float(formula(f, a)), rel=1e-12)


def test_faint_partials_do_not_count_for_vassilakis() -> None:
    """The exponent of 0.1 would make two faint partials nearly as rough as two loud ones."""
    assert vassilakis([440, 460], [1e-5, 1e-5]) == 0
    assert vassilakis([440, 460], [2e-5, 2e-5]) > 0.01


def test_an_octave_up_the_same_interval_is_less_rough() -> None:
    """Critical bands grow more slowly than frequency, so a third that is rough in the bass is clear in the treble."""
    for formula in FORMULAE:
        values = [float(formula(*chord_spectrum((pitch, pitch + 4)))) for pitch in (36, 48, 60, 72, 84)]
        assert values == sorted(values, reverse=True)


def test_an_octave_is_smoother_than_a_fifth_and_this_than_a_tritone_and_this_than_a_second() -> None:
    for formula in FORMULAE:
        values = [float(formula(*chord_spectrum((60, 60 + step)))) for step in (12, 7, 6, 1)]
        assert values == sorted(values)


def test_harmonicity_does_not_mind_octaves_transposition_or_mirrors() -> None:
    major = float(harmonicity(chord_profile(MAJOR)))
    for chord in ((48, 64, 79), (67, 71, 74), (60.5, 64.5, 67.5), (60, 60, 64, 67, 72), MINOR):
        assert harmonicity(chord_profile(chord)) == pytest.approx(major, abs=1e-9)
    assert major < harmonicity(chord_profile((60,)))


def test_one_tone_resembles_a_tone() -> None:
    assert harmonicity(chord_profile((62,)), measure="peak") == pytest.approx(1)
    assert virtual_pitches(chord_profile((62,))).argmax() == 200


@pytest.mark.parametrize("profile", [np.zeros(1200), np.ones(1200)], ids=["silence", "all cents alike"])
def test_nothing_and_everything_are_not_harmonic(profile: Any) -> None:
    assert harmonicity(profile) == pytest.approx(0, abs=1e-9)


def test_partials_that_coincide_become_one() -> None:
    f, a = chord_spectrum((60, 60))
    assert len(f) == 11
    np.testing.assert_allclose(a, math.sqrt(2) / np.arange(1, 12))
    f, a = chord_spectrum((57, 69), n_harmonics=4)
    np.testing.assert_allclose(f, [220, 440, 660, 880, 1320, 1760])
    np.testing.assert_allclose(a, [1, math.hypot(1 / 2, 1), 1 / 3, math.hypot(1 / 4, 1 / 2), 1 / 3, 1 / 4])


def test_the_composite_prefers_smooth_and_harmonic() -> None:
    assert composite(0, 0) == pytest.approx(0.628434666589357)
    assert composite(1, 0) - composite(0, 0) == pytest.approx(-1.62001025973261)
    assert composite(0, 1) - composite(0, 0) == pytest.approx(1.77992362857478)
    values = [
        float(composite(hutchinson_knopoff(*chord_spectrum(chord)), harmonicity(chord_profile(chord))))
        for chord in (MAJOR, MINOR, DIMINISHED)
    ]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("formula", FORMULAE)
@pytest.mark.parametrize(
    ("frequencies", "amplitudes", "fault"),
    [
        ([440, 450], [1], r"one shape .*\(2,\) and \(1,\)"),
        (440, 1, r"got \(\) and \(\)"),
        ([440, float("nan")], [1, 1], "must be finite"),
        ([440, 450], [1, float("inf")], "must be finite"),
        ([440, -1], [1, 1], "must not be negative"),
        ([440, 450], [1, -1], "must not be negative"),
    ],
)
def test_what_are_no_partials_is_refused(formula: Any, frequencies: Any, amplitudes: Any, fault: str) -> None:
    with pytest.raises(OtoscopeError, match=fault):
        formula(frequencies, amplitudes)


def test_misspelt_settings_and_false_profiles_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="did you mean 'product'"):
        sethares([440], [1], weighting="produkt")  # type: ignore[arg-type]
    with pytest.raises(OtoscopeError, match="unknown measure 'max'"):
        harmonicity(np.ones(1200), measure="max")  # type: ignore[arg-type]
    with pytest.raises(OtoscopeError, match=r"got \(12,\)"):
        harmonicity(np.ones(12))
    with pytest.raises(OtoscopeError, match="finite and not negative"):
        harmonicity(-np.ones(1200))
    with pytest.raises(OtoscopeError, match="one shape"):
        fold([0, 100], [1])
