"""Melodiousness: whether one voice stands out and moves so that one could sing along.

*Salience* after Salamon and Gómez (2012, "Melody extraction from polyphonic music signals using pitch contour
characteristics", section II): the salience of a pitch is the sum of the amplitudes of the spectral peaks at its
first harmonics, the h-th weighted by α^(h−1), α = .8, and by the squared cosine of its distance, up to one semitone.
Theirs has 20 harmonics over 55–1,760 Hz in steps of 10 cents; here it is eight over 110–1,319 Hz, the range of singing,
in quarter tones.

They pick the strongest pitches of each frame and then rules decide on contours. Picking jumps, so here both are soft.
With S[i] the salience of pitch i in one frame and Σa the sum of its peaks' amplitudes,

    predominance = (Σ_i S[i]^8)^(1/8) / Σa        1 where all that sounds belongs to one voice
    q[i]         = S[i]^8 / Σ S^8                  which pitch the melody has, as a distribution
    continuity   = Σ_ij q[i] · K(i − j) · q'[j]    from one frame to the next, q'; K a Gaussian

Continuity is the expected closeness of two successive pitches (their contours, too, go on only to neighbouring
pitches; that melodies move by small steps is Huron's rule of proximity, 2001). Melodiousness is the mean of continuity
times predominance over pairs of frames, weighted by loudness: near 0 for noise and drums, towards 1 for a solo voice.

Shapes: peaks (…, n_frames, n_peaks), zero where absent; salience (…, n_frames, n_pitches); results (…).
"""

from __future__ import annotations

import numpy as np

from otoscope.adapters.model import Floats
from otoscope.mer_models.tonality import peak_loudness, semitones, spread

N_HARMONICS = 8
ALPHA = 0.8
LOWEST = 33  # semitones above C0: A2, 110 Hz
N_SEMITONES = 43  # up to E6
STEPS = 2  # pitches per semitone
POWER = 8
PROXIMITY = 2.5  # semitones: most steps of a melody are one to three
QUIET = 1e-4  # sum of amplitudes that counts as silence: a sine at −80 dBFS
TINY = 1e-12


def salience(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Sum harmonics of peaks (…, n_frames, n_peaks), in hertz and linear, to (…, n_frames, n_pitches)."""
    pitches = semitones(frequencies) - LOWEST
    total = np.zeros((*frequencies.shape[:-1], N_SEMITONES * STEPS))
    for harmonic in range(1, N_HARMONICS + 1):
        places = STEPS * (pitches - 12 * np.log2(harmonic))
        total += spread(places, amplitudes * ALPHA ** (harmonic - 1), n_bins=total.shape[-1], reach=STEPS)
    return total


def melodiousness(frequencies: Floats, amplitudes: Floats) -> Floats:
    """Measure peaks (…, n_frames, n_peaks), in hertz and linear: (…), 0 for silence and for a single frame."""
    strength = salience(frequencies, amplitudes)
    loudest = strength.max(axis=-1, keepdims=True) + TINY
    powers = (strength / loudest) ** POWER  # relative, lest faint sounds vanish
    together = powers.sum(axis=-1, keepdims=True)
    melody = powers / (together + TINY)  # (…, n_frames, n_pitches)
    predominance = (loudest * together ** (1 / POWER))[..., 0] / (amplitudes.sum(axis=-1) + QUIET)
    pitches = np.arange(strength.shape[-1]) / STEPS
    near = np.exp(-0.5 * ((pitches[:, None] - pitches) / PROXIMITY) ** 2)
    continuity = ((melody[..., :-1, :] @ near) * melody[..., 1:, :]).sum(axis=-1)  # (…, n_frames − 1)
    loudness = peak_loudness(amplitudes)
    weights = np.sqrt(loudness[..., :-1] * loudness[..., 1:])
    both = np.sqrt(predominance[..., :-1] * predominance[..., 1:])
    return np.asarray((weights * continuity * both).sum(axis=-1) / (weights.sum(axis=-1) + QUIET))
