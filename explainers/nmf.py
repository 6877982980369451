"""Non-negative matrix factorisation: what sounds alike at several times is one part.

The magnitude spectrogram V (n_bins, n_frames) is approximated by W·H, each column of W a spectrum and each row of H
when it sounds (Lee & Seung, 1999), with the least generalised Kullback-Leibler divergence, by multiplicative updates
(Févotte & Idier, 2011) from NNDSVD (Boutsidis & Gallopoulos, 2008). The fit is that of scikit-learn. Component j has
the soft share

    share_j = (W_j H_j) / Σ_i (W_i H_i)

of each cell: with this divergence the model is a sum of Poisson variables, and the share is what is expected of one of
them once the sum is known. The shares add up to 1, so there is no remainder. Components stand in the order of their
spectral centroids, low ones first, and are named by the note that is strongest in them or, where no note stands out, by
their centroid, and by when they sound: the stretch from 5 to 95 % of their energy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.adapters.pitch import note_frequency, note_name
from otoscope.adapters.spectra import Floats
from otoscope.explainers.parts import Parts

N_COMPONENTS = 8
N_STEPS = 50  # on real music within about 1 % of the divergence that 500 reach
STANDS_OUT = 0.5  # of a component's energy within its strongest partial's main lobe and its octaves
LOWEST_NOTE = note_frequency("C1")
FLOOR = 1e-4  # of the largest magnitude: 80 dB down


def nmf_parts(whole: Parts, n_parts: int, *, n_steps: int = N_STEPS) -> Parts:
    """Factorise the magnitude spectrogram into at most eight components, or `n_parts` where that is less."""
    magnitude = np.sqrt(whole.power)
    n_components = min(N_COMPONENTS, n_parts, *magnitude.shape)
    if n_components < 2 or not magnitude.any():
        return whole
    spectra, activations = factorised(magnitude, n_components, n_steps=n_steps)
    order = np.argsort(_centroids(whole, spectra), kind="stable")
    spectra, activations = spectra[:, order], activations[order]
    shares = np.einsum("bj,jt->jbt", spectra, activations)  # (k, n_bins, n_frames)
    total = shares.sum(axis=0)
    shares = np.where(total > 0, shares / np.where(total > 0, total, 1), 1 / n_components).astype(np.float32)
    names = tuple(_name(whole, *one) for one in zip(range(1, n_components + 1), spectra.T, activations, strict=True))
    return whole.with_(labels=shares.argmax(axis=0), names=names, shares=shares)


def factorised(
    magnitude: npt.NDArray[np.floating], n_components: int, *, n_steps: int = N_STEPS
) -> tuple[Floats, Floats]:
    """Approximate a magnitude spectrogram (n_bins, n_frames) by spectra (n_bins, k) times activations (k, n_frames).

    The loudest cell counts as 1, and cells below 80 dB under it as so loud, which keeps what rounding left in silence
    from getting a component. The number of steps is fixed (``tol=0``), so there is no convergence to warn of, and the
    seed is fixed too: another seed of the explanation must not change the parts.
    """
    from sklearn.decomposition import NMF

    scaled = np.maximum(magnitude.astype(np.float64) / magnitude.max(), FLOOR)
    fit = NMF(
        n_components,
        init="nndsvda",
        solver="mu",
        beta_loss="kullback-leibler",
        tol=0,
        max_iter=n_steps,
        random_state=0,
    )
    spectra = fit.fit_transform(scaled)
    return np.asarray(spectra), np.asarray(fit.components_)


def _centroids(whole: Parts, spectra: Floats) -> Floats:
    """Mean frequency in hertz of each spectrum, weighted by its power, shape (k,)."""
    power = np.square(spectra)
    weight = power.sum(axis=0)
    return np.asarray(whole.stft.frequencies(whole.audio.rate) @ power / np.where(weight > 0, weight, 1))


def _name(whole: Parts, number: int, spectrum: Floats, activation: Floats) -> str:
    """Say which note or region a component holds, and when: ``component 2: mostly A4 (440 Hz), 0.0-2.0 s``."""
    energy = np.square(activation).cumsum()
    times = whole.stft.times(len(activation), whole.audio.rate)
    first, last = np.searchsorted(energy, [0.05 * energy[-1], 0.95 * energy[-1]])
    half = whole.stft.hop_length / whole.audio.rate / 2
    start, end = np.clip([times[first] - half, times[last] + half], 0, whole.audio.seconds) + whole.start
    return f"component {number}: {_place(whole, spectrum)}, {start:.1f}-{end:.1f} s"


def _place(whole: Parts, spectrum: Floats) -> str:
    frequencies, power = whole.stft.frequencies(whole.audio.rate), np.square(spectrum)
    strongest = int(power.argmax())
    peak = _between_bins(power, strongest) * float(frequencies[1])
    bins = np.arange(len(power))
    lobes = sum((np.abs(bins - h * strongest) <= 2).astype(float) for h in (1, 2, 4))
    if peak > LOWEST_NOTE and power @ np.minimum(lobes, 1) > STANDS_OUT * power.sum():
        return f"mostly {note_name(peak)} ({peak:.0f} Hz)"
    return f"around {float(_centroids(whole, spectrum[:, None])[0]):.0f} Hz"


def _between_bins(power: Floats, peak: int) -> float:
    """Place a peak between the bins, by a parabola through the decibels of three."""
    if not 0 < peak < len(power) - 1:
        return float(peak)
    left, middle, right = np.log(np.maximum(power[peak - 1 : peak + 2], np.finfo(np.float64).tiny))
    curvature = left - 2 * middle + right
    return float(peak + (0.5 * (left - right) / curvature if curvature < 0 else 0.0))
