"""Slow, plain oracles: every method again, from its paper, in float64 and with loops.

Nothing here imports the package. Spectra are (n_bins, n_frames), masks (n, k), times in seconds, frequencies in hertz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Array = npt.NDArray[Any]


def hann(length: int, n_fft: int) -> Floats:
    """Periodic Hann window of `length`, centred in n_fft samples."""
    window = np.zeros(n_fft)
    left = (n_fft - length) // 2
    for i in range(length):
        window[left + i] = 0.5 - 0.5 * np.cos(2 * np.pi * i / length)
    return window


def stft(
    samples: Array, *, n_fft: int = 2048, hop: int = 512, win_length: int | None = None, center: bool = True
) -> Complex:
    """Transform frame by frame; frame t is centred on t · hop and the edges are zero."""
    window = hann(win_length or n_fft, n_fft)
    padded = np.asarray(samples, dtype=np.float64)
    if center:
        padded = np.concatenate([np.zeros(n_fft // 2), padded, np.zeros(n_fft // 2)])
    frames = []
    start = 0
    while start + n_fft <= len(padded):
        frames.append(np.fft.rfft(padded[start : start + n_fft] * window))
        start += hop
    return np.stack(frames, axis=1)


def istft(
    spectrum: Array, n_samples: int, *, n_fft: int = 2048, hop: int = 512, win_length: int | None = None
) -> Floats:
    """Least-squares inverse (Griffin & Lim, 1984, eq. 6): Σ window · frame / Σ window²."""
    window = hann(win_length or n_fft, n_fft)
    n_frames = spectrum.shape[1]
    total = np.zeros((n_frames - 1) * hop + n_fft + n_samples)
    weight = np.zeros_like(total)
    for t in range(n_frames):
        total[t * hop : t * hop + n_fft] += window * np.fft.irfft(spectrum[:, t], n=n_fft)
        weight[t * hop : t * hop + n_fft] += window**2
    sound = np.where(weight > 1e-11, total / np.maximum(weight, 1e-11), 0)
    return np.asarray(sound[n_fft // 2 : n_fft // 2 + n_samples])


def triangle(frequency: float, left: float, centre: float, right: float) -> float:
    """Height of a triangle between corners."""
    if left < frequency <= centre:
        return (frequency - left) / (centre - left)
    if centre < frequency < right:
        return (right - frequency) / (right - centre)
    return 0.0


def filters(corners: Sequence[float] | Floats, rate: int, n_fft: int, *, area: bool) -> Floats:
    """Triangles between neighbouring corners; `area` divides each by half its width in hertz."""
    rows = []
    for left, centre, right in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        height = 2 / (right - left) if area else 1.0
        rows.append([height * triangle(i * rate / n_fft, left, centre, right) for i in range(n_fft // 2 + 1)])
    return np.array(rows)


def mel_corners(n_mels: int, fmin: float, fmax: float) -> Floats:
    """Corners on Slaney's mel scale: linear (200/3 Hz a mel) below 1 kHz, 27 mels to a factor of 6.4 above."""

    def mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def hertz(mel: float) -> float:
        return float(mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27))

    low, high = mel(fmin), mel(fmax)
    return np.array([hertz(low + (high - low) * i / (n_mels + 1)) for i in range(n_mels + 2)])


def series(pitch_class: int, octaves: tuple[int, int], n_harmonics: int) -> list[float]:
    """List the partials h · f0 of every note of a pitch class, equal temperament on A4 = 440 Hz."""
    found = []
    for octave in range(octaves[0], octaves[1] + 1):
        fundamental = 440.0 * 2.0 ** ((pitch_class - 9) / 12 + octave - 4)
        found += [h * fundamental for h in range(1, n_harmonics + 1)]
    return found


def comb(frequencies: Floats, teeth: Sequence[float], half_width: float) -> npt.NDArray[np.bool_]:
    """Frequencies within half_width cents of a tooth, and the nearest one to each tooth on the axis."""
    marked = np.zeros(len(frequencies), dtype=bool)
    for tooth in teeth:
        if not frequencies[0] <= tooth <= frequencies[-1]:
            continue
        nearest = min(range(len(frequencies)), key=lambda i: abs(frequencies[i] - tooth))
        marked[nearest] = True
        for i, frequency in enumerate(frequencies):
            if half_width > 0 and frequency > 0 and abs(1200 * np.log2(frequency / tooth)) <= half_width:
                marked[i] = True
    return marked


def weighted_ridge(masks: Array, values: Array, weights: Array, alpha: float) -> tuple[Floats, float]:
    """Ridge with a free intercept, by the normal equations of the bordered system."""
    n, k = masks.shape
    x = np.concatenate([masks.astype(np.float64), np.ones((n, 1))], axis=1)
    penalty = np.diag([alpha] * k + [0.0])
    solved = np.linalg.solve((x.T * weights) @ x + penalty, (x.T * weights) @ values)
    return solved[:k], float(solved[k])


def lime_random(masks: Array, values: Array, *, width: float = 0.25, alpha: float = 1.0) -> tuple[Floats, float]:
    """LIME as published: cosine distance to all-on, kernel sqrt(exp(−d²/width²)), Ridge 1."""
    k = masks.shape[1]
    kernel = []
    for row in masks.astype(np.float64):
        size = np.sqrt(row @ row)
        distance = 1 - row.sum() / (size * np.sqrt(k)) if size > 0 else 1.0
        kernel.append(np.sqrt(np.exp(-(distance**2) / width**2)))
    return weighted_ridge(masks, values, np.array(kernel), alpha)


def least_squares(masks: Array, values: Array) -> tuple[Floats, float]:
    """Ordinary least squares with an intercept."""
    x = np.concatenate([masks.astype(np.float64), np.ones((len(masks), 1))], axis=1)
    solved = np.linalg.lstsq(x, values, rcond=None)[0]
    return solved[:-1], float(solved[-1])


def main_effects(masks: Array, values: Array) -> Floats:
    """Plain contrasts: mean score with the part less mean score without it."""
    return np.array([values[column == 1].mean() - values[column == 0].mean() for column in masks.T])


def leave_pair_out_r2(masks: Array, values: Array) -> float:
    """Refit without each mirror pair in turn, and predict that pair."""
    half = len(masks) // 2
    error = 0.0
    for i in range(half):
        kept = [j for j in range(len(masks)) if j not in (i, i + half)]
        weights, intercept = least_squares(masks[kept], values[kept])
        for j in (i, i + half):
            error += float(values[j] - masks[j] @ weights - intercept) ** 2
    return 1 - error / float(((values - values.mean()) ** 2).sum())


def standard_errors(masks: Array, values: Array) -> Floats:
    """OLS standard errors of the half-differences of mirror pairs on z − ½, residual variance RSS/(n/2 − k)."""
    half, k = len(masks) // 2, masks.shape[1]
    x = masks[:half].astype(np.float64) - 0.5
    difference = (values[:half] - values[half:]) / 2
    weights = np.linalg.lstsq(x, difference, rcond=None)[0]
    variance = float(((difference - x @ weights) ** 2).sum()) / (half - k)
    return np.array([np.sqrt(variance * np.linalg.inv(x.T @ x)[j, j]) for j in range(k)])


def occlusion(
    value: Callable[[Floats], float], samples: Array, shares: Sequence[Array], *, n_fft: int = 2048, hop: int = 512
) -> Floats:
    """Silence the cells of one thing at a time, transform all frames back, and ask for the loss."""
    spectrum = stft(samples, n_fft=n_fft, hop=hop)
    everything = value(np.asarray(samples, dtype=np.float64))
    lost = []
    for share in shares:
        without = istft(spectrum * (1 - share), len(samples), n_fft=n_fft, hop=hop)
        lost.append(everything - value(without))
    return np.array(lost)


def grad_cam(activations: torch.Tensor, logit: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
    """Σ_c (mean of ∂y/∂A_c) A_c, signed (Selvaraju et al., 2017, eq. 1-2 before the ReLU); activations (1, c, …)."""
    leaf = activations.detach().clone().requires_grad_()
    logit(leaf).backward()
    assert leaf.grad is not None
    total = np.zeros(leaf.shape[2:])
    for channel in range(leaf.shape[1]):
        total += float(leaf.grad[0, channel].double().mean()) * leaf.detach()[0, channel].double().numpy()
    return total


def grid_edges(duration: float) -> tuple[list[float], list[float]]:
    """Edges of the common grid: 108 semitone-centred bands from C1, columns of 100 ms."""
    c1 = 440.0 * 2.0 ** (-45 / 12)
    bands = [0.0] + [c1 * 2.0 ** ((b - 0.5) / 12) for b in range(1, 108)] + [float("inf")]
    columns = [0.0]
    while columns[-1] < duration - 1e-3 or len(columns) == 1:  # what is left of 1 ms belongs to the last column
        columns.append(min(len(columns) * 0.1, duration))
    columns[-1] = duration
    return bands, columns


def lay(cells: Array, frequency_edges: Sequence[float], time_edges: Sequence[float], duration: float) -> Floats:
    """Share each cell out over the common grid by overlap, cell by cell."""
    bands, columns = grid_edges(duration)
    laid = np.zeros((108, len(columns) - 1))
    for row in range(cells.shape[0]):
        low, high = frequency_edges[row], frequency_edges[row + 1]
        for column in range(cells.shape[1]):
            start, end = time_edges[column], time_edges[column + 1]
            for b in range(108):
                hertz = min(high, bands[b + 1]) - max(low, bands[b])
                if hertz <= 0:
                    continue
                for c in range(len(columns) - 1):
                    seconds = min(end, columns[c + 1]) - max(start, columns[c])
                    if seconds > 0:
                        laid[b, c] += cells[row, column] * hertz / (high - low) * seconds / (end - start)
    return laid


def spread(
    weights: Sequence[float], shares: Sequence[Array], power: Array, rate: int, n_samples: int, n_fft: int, hop: int
) -> Floats:
    """Lay each weight over its part in proportion to energy (to area where it has none), then on the common grid."""
    n_bins, n_frames = power.shape
    duration = n_samples / rate
    cells = np.zeros((n_bins, n_frames))
    for weight, share in zip(weights, shares, strict=True):
        within = share * power if (share * power).sum() > 0 else share
        if within.sum() > 0:
            cells += weight * within / within.sum()
    bins = [min(max(0.0, (i - 0.5) * rate / n_fft), rate / 2) for i in range(n_bins + 1)]
    frames = [min(max(0.0, (t - 0.5) * hop / rate), duration) for t in range(n_frames)] + [duration]
    return lay(cells, bins, frames, duration)


def band_energies(sound: Array, filterbank: Array, *, n_fft: int, hop: int) -> Floats:
    """Filter the power spectrogram of a sound, (n_bands, n_frames)."""
    return np.asarray(filterbank.astype(np.float64) @ np.abs(stft(sound, n_fft=n_fft, hop=hop)) ** 2)


def framewise_stft(samples: Floats, stft: Any) -> npt.NDArray[np.complex128]:
    """Transform frame by frame: cut, remove the mean, pre-emphasise, weight, transform; (n_bins, n_frames)."""
    length = stft.win_length or stft.n_fft
    i = np.arange(length)
    period = length if stft.window == "hann" or stft.window == "hamming" else length - 1
    weights = {
        "hann": 0.5 - 0.5 * np.cos(2 * np.pi * i / period),
        "hann_symmetric": 0.5 - 0.5 * np.cos(2 * np.pi * i / period),
        "povey": (0.5 - 0.5 * np.cos(2 * np.pi * i / period)) ** 0.85,
        "hamming": 0.54 - 0.46 * np.cos(2 * np.pi * i / period),
        "rectangular": np.ones(length),
    }[stft.window]
    columns = []
    start = 0
    while start + length <= len(samples):
        frame = samples[start : start + length].copy()
        if stft.remove_dc:
            frame = frame - sum(frame) / length
        treated = np.zeros(length)
        for j in range(length):
            treated[j] = frame[j] - stft.preemphasis * frame[max(j - 1, 0)]
        columns.append(np.fft.rfft(treated * weights, n=stft.n_fft))
        start += stft.hop_length
    return np.array(columns).T
