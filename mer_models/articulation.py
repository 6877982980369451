"""Articulation: how much of the time the sound is interrupted, from legato (low) to staccato (high).

After the *average silence ratio*, by which Feng, Zhuang and Pan (2003, "Popular music retrieval by detecting mood")
measure articulation as one of two cues of mood. What counts as silence is that of the low-energy frames of Scheirer and
Slaney (1997): an amplitude below half its mean over one second. Detached notes leave such gaps; Bresin and Battel
(2000) found that their length is what pianists change between legato and staccato.

Two things differ here. The threshold is a logistic step, so that the ratio moves with the sound instead of jumping:
with A an amplitude and M its mean over one second,

    silence = 1 / (1 + exp((20·log10(A / M) + 6 dB) / 2 dB))

And it is taken in 24 mel bands, since in a mixture other voices fill the gaps of one elsewhere in the spectrum. Bands
and moments count by the loudness of M (its energy to the power 0.3), so silence before and after the music does not
count as staccato. Amplitudes stand on a floor, so nothing has no gaps.

Shapes: band energies (…, n_frames, n_bands); the result (…), about 0.05 to 0.5.
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.mer_models.peaks import LOUDNESS

FLOOR = 10 ** (-70 / 10)  # energy, re a sine at full scale
AROUND = 1.0  # seconds
THRESHOLD = -6.0  # decibels: half the mean amplitude
SOFTNESS = 2.0  # decibels


def moving_mean(x: Floats, width: int) -> Floats:
    """Hann-weighted mean of x (…, n_frames, n_bands) over about `width` frames; at the edges over those there are.

    >>> moving_mean(np.full((5, 1), 3.0), 4).ravel().tolist()
    [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    from scipy.ndimage import convolve1d

    weights = np.hanning((width | 1) + 2)[1:-1]  # an odd number, so that none is off centre
    length = convolve1d(np.ones(x.shape[-2]), weights, mode="constant")
    return np.asarray(convolve1d(x, weights, axis=-2, mode="constant") / length[:, None])


def articulation(bands: Floats, *, frame_rate: float) -> Floats:
    """Measure band energies (…, n_frames, n_bands), re a sine at full scale: (…), high for staccato."""
    from scipy.special import expit

    amplitude = np.sqrt(bands + FLOOR)
    around = moving_mean(amplitude, round(AROUND * frame_rate))
    silence = expit((THRESHOLD - 20 * np.log10(amplitude / around)) / SOFTNESS)
    weights = around ** (2 * LOUDNESS)
    return np.asarray((silence * weights).sum(axis=(-2, -1)) / weights.sum(axis=(-2, -1)))
