"""Consonance by formula: how rough a set of partials is, and how much it resembles one harmonic sound.

Two things make a chord consonant, and they are measured apart. *Roughness*: partials closer than a critical bandwidth
beat. Each measure is a sum over pairs of partials, f1 ≤ f2 in hertz, with linear amplitudes a1 and a2:

Sethares (1993)
    A · (exp(−b1·s·(f2 − f1)) − exp(−b2·s·(f2 − f1))), s = x* / (s1·f1 + s2), after the curves of Plomp and Levelt;
    A = a1·a2 in 1993, min(a1, a2) in 2005. Ports differ in the constants (`Curve`).
Vassilakis (2001)
    (a1·a2)^0.1 · (2·min / (a1 + a2))^3.11 · (the same curve); his ½ and the factor of 2 in front cancel.
Hutchinson and Knopoff (1978)
    a1·a2·g(y) over Σ a²; g = (4y·exp(1 − 4y))² up to y = 1.2, else 0; y is the distance in critical bandwidths of
    1.72 · ((f1 + f2)/2)^0.65 Hz. The level cancels, which suits recordings.

*Harmonicity* (Harrison and Pearce, 2018): a spectrum folded into one octave of 1,200 bins is compared, shift by shift,
with that of a single tone: twelve partials, the n-th at 1200·log2(n) mod 1200 cents with weight n^−0.75, each blurred
by a Gaussian of 6.83 cents. The cosine similarities are the strengths of virtual pitches; harmonicity is the
Kullback-Leibler divergence of their distribution from a uniform one, in bits. Milne (2013) takes the greatest
similarity instead. The `composite` of Harrison and Pearce (2020) joins both.

Shapes: frequencies and amplitudes are (…, n_partials), any leading axes (frames, say) stay; an absent partial has
amplitude zero. Profiles are (…, 1200), one bin a cent. Nothing at all has roughness 0 and harmonicity 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Floats

N_CENTS = 1200
BLUR = 6.83  # standard deviation of a partial in the folded spectrum, in cents
N_TONE_PARTIALS = 12
ROLL_OFF = 0.75
REACH = 1.2  # beyond so many critical bandwidths nothing beats (Hutchinson and Knopoff)
FAINT = 1e-5  # Vassilakis leaves out partials up to this amplitude

MEASURES = ("kullback_leibler", "peak")
WEIGHTINGS = ("min", "product")


@dataclass(frozen=True)
class Curve:
    """Constants of Sethares' fit to the curves of Plomp and Levelt.

    Attributes
    ----------
    s1, s2 : float
        How the width of the curve grows with frequency; s2 in hertz.
    rise, fall : float
        b1 and b2, exponents of the two halves.
    peak : float
        x*, where the curve is highest.
    scale : float
        Factor in front.
    """

    s1: float = 0.021
    s2: float = 19.0
    rise: float = 3.5
    fall: float = 5.75
    peak: float = 0.24
    scale: float = 1.0

    def __call__(self, low: Floats, distance: Floats) -> Floats:
        """Roughness of two partials `distance` hertz apart, the lower at `low` hertz, both of amplitude one."""
        x = self.peak / (self.s1 * low + self.s2) * distance
        return np.asarray(self.scale * (np.exp(-self.rise * x) - np.exp(-self.fall * x)))


SETHARES_CODE = Curve(s1=0.0207, s2=18.96, rise=3.51, scale=5.0)  # his published program, and most ports of it
VASSILAKIS = Curve(s1=0.0207, s2=18.96)


def sethares(
    frequencies: npt.ArrayLike,
    amplitudes: npt.ArrayLike,
    *,
    weighting: Literal["min", "product"] = "min",
    curve: Curve = Curve(),
) -> Floats:
    """Roughness after Sethares.

    Parameters
    ----------
    frequencies, amplitudes : array_like, shape (…, n_partials)
        In hertz, in any order; linear.
    weighting : {"min", "product"}
        Of a pair: the lesser amplitude (2005) or the product of both (1993).
    curve : Curve

    Returns
    -------
    ndarray, shape (…)
    """
    if weighting not in WEIGHTINGS:
        raise unknown("weighting", weighting, WEIGHTINGS)
    weigh = np.minimum if weighting == "min" else np.multiply

    def pair(f1: Floats, f2: Floats, a1: Floats, a2: Floats) -> Floats:
        return np.asarray(weigh(a1, a2) * curve(np.minimum(f1, f2), np.abs(f2 - f1)))

    return _over_pairs(pair, *_checked(frequencies, amplitudes))


def vassilakis(frequencies: npt.ArrayLike, amplitudes: npt.ArrayLike) -> Floats:
    """Roughness after Vassilakis, (…), of partials (…, n_partials) in hertz; amplitudes up to 1e-5 do not count."""
    f, a = _checked(frequencies, amplitudes)

    def pair(f1: Floats, f2: Floats, a1: Floats, a2: Floats) -> Floats:
        fluctuation = 2 * np.minimum(a1, a2) / np.where(a1 + a2 > 0, a1 + a2, 1)
        return np.asarray((a1 * a2) ** 0.1 * fluctuation**3.11 * VASSILAKIS(np.minimum(f1, f2), np.abs(f2 - f1)))

    return _over_pairs(pair, f, np.where(a > FAINT, a, 0))


def hutchinson_knopoff(frequencies: npt.ArrayLike, amplitudes: npt.ArrayLike) -> Floats:
    """Roughness after Hutchinson and Knopoff, (…), of partials (…, n_partials) in hertz; the level does not matter."""
    f, a = _checked(frequencies, amplitudes)
    loudest = a.max(axis=-1, initial=0.0, keepdims=True)
    a = a / np.where(loudest > 0, loudest, 1)  # squares of faint sounds must not vanish

    def pair(f1: Floats, f2: Floats, a1: Floats, a2: Floats) -> Floats:
        return a1 * a2 * beating(np.abs(f2 - f1) / critical_bandwidth((f1 + f2) / 2))

    energy = (a * a).sum(axis=-1)
    return np.asarray(_over_pairs(pair, f, a) / np.where(energy > 0, energy, 1))


def critical_bandwidth(frequency: Floats) -> Floats:
    """Bandwidth in hertz around a frequency in hertz, after Hutchinson and Knopoff; never quite zero."""
    return np.asarray(1.72 * np.maximum(frequency, 1e-9) ** 0.65)


def beating(distance: Floats) -> Floats:
    """Roughness 0–1 of two partials so many critical bandwidths apart: greatest at a quarter, none beyond 1.2."""
    y = 4 * distance
    return np.asarray(np.where(distance > REACH, 0.0, (y * np.exp(1 - y)) ** 2))


def _checked(frequencies: npt.ArrayLike, amplitudes: npt.ArrayLike) -> tuple[Floats, Floats]:
    f, a = np.asarray(frequencies, dtype=np.float64), np.asarray(amplitudes, dtype=np.float64)
    if f.ndim == 0 or f.shape != a.shape:
        raise OtoscopeError(
            f"frequencies and amplitudes must have one shape (…, n_partials), got {f.shape} and {a.shape}"
        )
    if not (np.isfinite(f).all() and np.isfinite(a).all()):
        raise OtoscopeError("frequencies and amplitudes of partials must be finite; leave out what is not there")
    if f.min(initial=0.0) < 0 or a.min(initial=0.0) < 0:
        raise OtoscopeError("frequencies and amplitudes of partials must not be negative")
    return f, a


def _over_pairs(pair: Callable[[Floats, Floats, Floats, Floats], Floats], f: Floats, a: Floats) -> Floats:
    """Sum `pair` (f1, f2, a1, a2) over all pairs of partials; pairs (i, i + lag) are slices, so nothing is copied."""
    total = np.zeros(f.shape[:-1])
    for lag in range(1, f.shape[-1]):
        total += pair(f[..., :-lag], f[..., lag:], a[..., :-lag], a[..., lag:]).sum(axis=-1)
    return total


def chord_spectrum(pitches: npt.ArrayLike, *, n_harmonics: int = 11) -> tuple[Floats, Floats]:
    """List the partials of a chord of harmonic tones, the n-th of amplitude 1/n.

    Partials that coincide (MIDI pitch equal to six digits) become one, with the root of the sum of their squares.

    Parameters
    ----------
    pitches : array_like, shape (n_tones,)
        MIDI numbers, 69 for A4 = 440 Hz; need not be whole.
    n_harmonics : int
        The fundamental included.

    Returns
    -------
    frequencies, amplitudes : ndarray, shape (n_partials,)
        Ascending, in hertz; linear.
    """
    harmonic = np.arange(1, n_harmonics + 1)
    tones = np.asarray(pitches, dtype=np.float64).reshape(-1, 1)
    places = np.round(tones + 12 * np.log2(harmonic), 6).ravel()
    power = np.tile(1.0 / harmonic**2, len(tones))
    distinct, which = np.unique(places, return_inverse=True)
    return 440.0 * 2.0 ** ((distinct - 69) / 12), np.sqrt(np.bincount(which, power, minlength=len(distinct)))


def fold(cents: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Add weights up in one octave of 1,200 bins.

    Parameters
    ----------
    cents, weights : array_like, shape (…, n)
        Places above C (any octave), rounded to whole cents; what stands there.

    Returns
    -------
    ndarray, shape (…, 1200)
    """
    c, w = np.asarray(cents, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if c.ndim == 0 or c.shape != w.shape:
        raise OtoscopeError(f"need cents and weights of one shape (…, n), got {c.shape} and {w.shape}")
    n_rows = int(np.prod(c.shape[:-1]))
    bins = np.round(c).astype(np.int64) % N_CENTS + N_CENTS * np.arange(n_rows).reshape(*c.shape[:-1], 1)
    folded = np.bincount(bins.ravel(), w.ravel(), minlength=N_CENTS * n_rows)
    return np.asarray(folded, dtype=np.float64).reshape(*c.shape[:-1], N_CENTS)


def chord_profile(pitches: npt.ArrayLike) -> Floats:
    """Folded spectrum (1200,) of a chord of harmonic tones at MIDI pitches (n_tones,), octaves not counting."""
    pitch_classes = np.unique(np.round(100 * np.asarray(pitches, dtype=np.float64)) % N_CENTS)
    n = np.arange(1, N_TONE_PARTIALS + 1)
    cents = pitch_classes[:, None] + np.round(1200 * np.log2(n))  # (n_tones, n_partials)
    return fold(cents.ravel(), np.tile(n**-ROLL_OFF, len(pitch_classes)))


def virtual_pitches(profile: npt.ArrayLike) -> Floats:
    """Strength of the virtual pitch at each cent: cosine similarity (…, 1200) of a profile (…, 1200) with a tone."""
    spectrum = np.fft.rfft(_checked_profile(profile))  # (…, 601)
    kernel, template = _transforms()
    blurred = spectrum * kernel
    size = np.sqrt(_energy(blurred) * _energy(template))[..., None]
    shifted = np.fft.irfft(blurred * template.conj(), N_CENTS)
    return np.asarray(np.clip(shifted / np.where(size > 0, size, 1), 0, 1))


def _checked_profile(profile: npt.ArrayLike) -> Floats:
    p = np.asarray(profile, dtype=np.float64)
    if p.ndim == 0 or p.shape[-1] != N_CENTS:
        raise OtoscopeError(f"need a profile of shape (…, {N_CENTS}), got {p.shape}")
    if not np.isfinite(p).all() or p.min(initial=0.0) < 0:
        raise OtoscopeError("a profile must be finite and not negative")
    loudest = p.max(axis=-1, initial=0.0, keepdims=True)
    return np.asarray(p / np.where(loudest > 0, loudest, 1))


@cache
def _transforms() -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Transform (601,) the blur and a blurred tone; circular convolution is a product of these."""
    distance = np.minimum(np.arange(N_CENTS), N_CENTS - np.arange(N_CENTS))
    kernel = np.fft.rfft(np.exp(-0.5 * (distance / BLUR) ** 2))
    return kernel, kernel * np.fft.rfft(chord_profile([0]))


def _energy(spectrum: npt.NDArray[np.complex128]) -> Floats:
    """Energy (…) of real signals of 1,200 numbers with these one-sided transforms (…, 601), by Parseval."""
    square = spectrum.real**2 + spectrum.imag**2
    return np.asarray((2 * square.sum(axis=-1) - square[..., 0] - square[..., -1]) / N_CENTS)


def harmonicity(profile: npt.ArrayLike, *, measure: Literal["kullback_leibler", "peak"] = "kullback_leibler") -> Floats:
    """How much a folded spectrum resembles that of one harmonic sound.

    Parameters
    ----------
    profile : array_like, shape (…, 1200)
        From `chord_profile` for notes, or `fold` for the partials of a recording, which brings its own harmonics.
    measure : {"kullback_leibler", "peak"}
        Bits after Harrison and Pearce (2018), or the greatest similarity after Milne (2013).

    Returns
    -------
    ndarray, shape (…)
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    strength = virtual_pitches(profile)
    if measure == "peak":
        return np.asarray(strength.max(axis=-1))
    from scipy.special import entr

    total = strength.sum(axis=-1, keepdims=True)
    share = np.where(total > 0, strength / np.where(total > 0, total, 1), 1 / N_CENTS)
    return np.asarray(np.maximum(np.log2(N_CENTS) - entr(share).sum(axis=-1) / np.log(2), 0))


def composite(roughness: npt.ArrayLike, harmonicity: npt.ArrayLike) -> Floats:
    """Consonance after Harrison and Pearce (2020), without their terms of chord size and of familiarity.

    Parameters
    ----------
    roughness, harmonicity : array_like, shape (…)
        After Hutchinson and Knopoff, and in bits. The weights were fitted to ratings of chords; of recordings the
        result is an order, not a rating.
    """
    return np.asarray(
        0.628434666589357 - 1.62001025973261 * np.asarray(roughness) + 1.77992362857478 * np.asarray(harmonicity)
    )
