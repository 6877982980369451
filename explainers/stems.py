"""Stems: parts whose sounds are given, as files or by a separator.

A recording of which the stems are known (a mix and its tracks, or what a source separator made of it; audioLIME,
Haunschmid et al., 2020, explains by these) needs no taking apart: the sound of a part *is* the stem. What the stems
leave open, recording − Σ stems, is the part ``remainder``, so the parts add up to the recording all the same. For
drawing, energies and the common grid each stem has its share of the power in every STFT cell,

    share_j = |S_j|² / Σ_i |S_i|²        S_j = STFT(stem_j), the remainder included

Stems begin and end with their recording, to within 0.1 s; their rate does not matter. A separator needs no more than
`separated`; see ``otoscope.parts`` in `otoscope.adapters.plugins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Float32
from otoscope.adapters.windows import Span
from otoscope.explainers.parts import Parts

MOST_SECONDS_APART = 0.1
INAUDIBLE = 1e-6  # of the recording's energy: 60 dB down
EXACT = 1e-5  # of full scale: as exactly as parts add up


def load_stems(files: Sequence[str], audio: Audio) -> tuple[Audio, ...]:
    """Read the stems of a recording, each at its own rate.

    Raises
    ------
    OtoscopeError
        If one cannot be read, or is not as long as the recording.
    """
    stems = tuple(load_audio(file) for file in files)
    for file, stem in zip(files, stems, strict=True):
        apart = stem.seconds - audio.seconds
        if abs(apart) > MOST_SECONDS_APART:
            raise OtoscopeError(
                f"{file}: lasts {stem.seconds:.2f} s, {abs(apart):.2f} s {'more' if apart > 0 else 'less'} than "
                f"{audio.name} ({audio.seconds:.2f} s); give stems that begin and end with the recording"
            )
    return stems


def span_stems(files: Sequence[str], audio: Audio, rate: int, span: Span) -> tuple[Audio, ...]:
    """Read the stems of a recording and cut the span out of them, at a rate in hertz.

    They go the way of the recording itself, resampled first and cut then, so that what adds up before does so after.
    """
    n_samples = len(audio.at(rate).samples) if files else 0
    cuts = []
    for file, stem in zip(files, load_stems(files, audio), strict=True):
        fitted = Audio(_fit(stem.at(rate).samples, n_samples), rate, Path(file).stem)
        cuts.append(fitted.cut(span.start, span.duration))
    return tuple(cuts)


def _fit(samples: Float32, n_samples: int) -> Float32:
    """Cut samples, or pad them with zeros, to a length."""
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def hashes(files: Sequence[str]) -> list[str]:
    """Hash the sound of each file, so that a result knows whether the stems are still the same."""
    return [load_audio(file).sha256 for file in files]


def stem_parts(whole: Parts, n_parts: int) -> Parts:
    """Make the stems that came with the recording its parts."""
    if not whole.stems:
        raise OtoscopeError("parts 'stems' need the stems themselves; name their files by --stems FILE")
    n_samples, rate = len(whole.audio.samples), whole.audio.rate
    sounds = np.stack([_fit(stem.at(rate).samples, n_samples) for stem in whole.stems])
    parts = separated(whole, sounds, [stem.name for stem in whole.stems])
    if parts.k > n_parts:
        rest = " and what they leave open" if parts.k > len(sounds) else ""
        raise OtoscopeError(
            f"{len(sounds)} stems{rest} are {parts.k} parts; give n_parts of {parts.k} or more, not {n_parts}"
        )
    return parts


def separated(whole: Parts, sounds: Float32, names: Sequence[str]) -> Parts:
    """Make parts of sounds that are given, such as a separator's; what they leave open is a last part, ``remainder``.

    Parameters
    ----------
    whole : Parts
        The undivided recording.
    sounds : ndarray, shape (n_sounds, n_samples)
        At the recording's rate, sample-aligned with it.
    names : sequence of str, length n_sounds
        Two that are alike are numbered.

    Returns
    -------
    Parts
        Of k = n_sounds parts, or one more.

    Raises
    ------
    OtoscopeError
        If the sounds are not as many as the names, not as long as the recording, or not finite.
    """
    samples = whole.audio.samples
    sounds = np.asarray(sounds, dtype=np.float32)
    if not names or sounds.shape != (len(names), len(samples)):
        raise OtoscopeError(
            f"got sounds of shape {sounds.shape} for {len(names)} names; need ({len(names) or 'n'}, {len(samples)})"
        )
    if not np.isfinite(sounds).all():
        raise OtoscopeError("the given sounds hold NaN or infinite samples; repair the separator or the stems")
    open_ = samples - sounds.sum(axis=0, dtype=np.float64)
    if np.abs(open_).max() > EXACT or np.square(open_).sum() > INAUDIBLE * np.square(samples, dtype=np.float64).sum():
        sounds = np.concatenate([sounds, open_[None].astype(np.float32)])
        names = [*names, "remainder"]
    shares = _power_shares(whole, sounds)
    return whole.with_(
        labels=shares.argmax(axis=0), names=_distinct(names), shares=shares, recorded=sounds, stems=(), filters=None
    )


def _power_shares(whole: Parts, sounds: Float32) -> Float32:
    """Share of each sound in the power of every cell, (k, n_bins, n_frames); alike where nothing sounds."""
    power = np.stack([whole.stft.forward(torch.from_numpy(sound)).abs().square().numpy() for sound in sounds])
    total = power.sum(axis=0)
    heard = total > np.finfo(np.float32).tiny
    return np.asarray(np.where(heard, power / np.where(heard, total, 1), 1 / len(power)), dtype=np.float32)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Give names that occur twice a number."""
    told: list[str] = []
    for name in names:
        number = 2
        distinct = name
        while distinct in told:
            distinct, number = f"{name} ({number})", number + 1
        told.append(distinct)
    return tuple(told)
