"""Routes: how the scores of a whole neighbourhood are had.

``waveform`` (any model) composes the sounds and asks the model. ``bands`` (a declared spectrogram with exponent 2) gets
the same answer without an STFT per sample. The STFT is linear, so with D_j = STFT(part_j − off_j) and
D_0 = STFT(Σ off_j) a mix has the spectrum D_0 + Σ z_j D_j, and as z² = z its band energies are

    F|X|² = F|D_0|² + Σ_j z_j (B_jj + 2 B_0j) + 2 Σ_{j<l} z_j z_l B_jl,        B_jl = F · Re(D_j D_l*)

Only parts that touch in time and frequency interact; by the Cauchy-Schwarz inequality a pair's energy in a band is at
most sqrt(B_jj B_ll), so pairs that cannot matter are left out before anything is computed for them. What remains is one
product ``[1, masks, products of neighbouring masks] (n, 1 + k + pairs) @ B (1 + k + pairs, n_bands · n_frames)``.

Every use compares both routes on 16 masks. Where a score differs by more than 0.01, finer `LIMITS` are tried, and where
these do not help either, it goes back to ``waveform``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import BATCH_SIZE, Floats
from otoscope.adapters.windows import Windowed, WindowedSpectrogram
from otoscope.explainers.neighbourhoods import Masks
from otoscope.explainers.parts import Parts

Route = Literal["auto", "waveform", "bands"]
Progress = Callable[[int, int], None]
Scorer = Callable[[Masks], Floats]

CHECKS = 16
BLOCK = (64, 64)  # bands, frames
TOLERANCE = 0.01


def quiet(_done: int, _total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Limits:
    """Below what nothing matters any more.

    Attributes
    ----------
    cross_energy : float
        Of a pair of parts: Σ|B_jl| over sqrt(ΣB_jj ΣB_ll).
    negligible : float
        Of a part in a block: its energy over the largest.
    """

    cross_energy: float
    negligible: float


# At 1e-4 a score of one recording was 0.011 off. A model that hears 80 dB below its loudest cell needs the finer ones.
LIMITS = (Limits(1e-5, 1e-7), Limits(1e-8, 1e-10))


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores (n, n_classes) of a neighbourhood, and what `Asked` tells of the way to them."""

    scores: Floats
    route: str
    difference: float | None
    n_calls: int


@dataclass(eq=False)
class Asked:
    """An open way to a model's scores of the mixes of some parts; it counts what it cost.

    Attributes
    ----------
    scorer : callable
        Masks (n, k) to scores (n, n_classes).
    batch_size : int
        Most perturbed recordings in memory at once.
    route : {"waveform", "bands"}
        The route that was taken in the end.
    difference : float or None
        Largest difference of a score between the routes, where both were tried.
    n_calls : int
        Answers asked of the model so far, those of the comparison included.
    """

    scorer: Scorer
    batch_size: int
    route: str = "waveform"
    difference: float | None = None
    n_calls: int = 0

    def scores(self, masks: Masks, progress: Progress = quiet) -> Floats:
        """Score masks (n, k) as (n, n_classes)."""
        scores = []
        for first in range(0, len(masks), self.batch_size):
            progress(first, len(masks))
            scores.append(self.scorer(masks[first : first + self.batch_size]))
        progress(len(masks), len(masks))
        self.n_calls += len(masks)
        return np.concatenate(scores)


def open_route(
    model: Windowed, parts: Parts, masks: Masks, *, route: Route = "auto", batch_size: int = BATCH_SIZE
) -> Asked:
    """Choose the way to the scores of masks.

    Parameters
    ----------
    model : Windowed
    parts : Parts
    masks : ndarray of 0 and 1, shape (n, k)
        What will be asked for, or its beginning: the routes are compared on some of it.
    route : {"auto", "waveform", "bands"}
        ``auto`` takes ``bands`` where the model offers it.
    batch_size : int

    Raises
    ------
    OtoscopeError
        If ``bands`` is asked of a model that does not offer it.
    """
    if route not in get_args(Route):
        raise unknown("route", route, get_args(Route))
    offered = model.spectrogram is not None and model.spectrogram.front_end.exponent == 2
    if route == "bands" and not offered:
        raise OtoscopeError(
            "this model declares no power spectrogram, so the bands route is closed; use --route waveform"
        )
    waveform = Asked(waveform_scorer(model, parts), batch_size)
    few = route == "auto" and len(masks) < 2 * CHECKS  # the comparison alone would cost as much
    if route == "waveform" or few or not offered or model.spectrogram is None:
        return waveform
    probe = masks[np.unique(np.linspace(0, len(masks) - 1, CHECKS).astype(int))]
    expected = waveform.scores(probe)
    for limits in LIMITS:
        bands = Asked(bands_scorer(model.spectrogram, parts, limits), batch_size, "bands")
        waveform.difference = float(np.abs(bands.scores(probe) - expected).max())
        waveform.n_calls += len(probe)
        if waveform.difference <= TOLERANCE:
            return replace(waveform, scorer=bands.scorer, route="bands")
    return waveform


def score_masks(
    model: Windowed,
    parts: Parts,
    masks: Masks,
    *,
    route: Route = "auto",
    batch_size: int = BATCH_SIZE,
    progress: Progress = quiet,
) -> Scored:
    """Score every mask of a neighbourhood at once; see `open_route`."""
    way = open_route(model, parts, masks, route=route, batch_size=batch_size)
    scores = way.scores(masks, progress)
    return Scored(scores, way.route, way.difference, way.n_calls)


def waveform_scorer(model: Windowed, parts: Parts) -> Scorer:
    """Compose the sounds and ask the model."""
    return lambda masks: model.predict(parts.compose(masks))


@dataclass(frozen=True, eq=False)
class Local:
    """Frames of a spectrum outside which it is silent."""

    frames: slice
    spectrum: torch.Tensor  # complex, (n_bins, n_local)

    def times(self, other: Local) -> tuple[slice, torch.Tensor]:
        """Real part of the product with another's conjugate, on their common frames."""
        start, stop = max(self.frames.start, other.frames.start), min(self.frames.stop, other.frames.stop)
        if start >= stop:
            return slice(0, 1), torch.zeros(len(self.spectrum), 1)
        a = self.spectrum[:, start - self.frames.start : stop - self.frames.start]
        b = other.spectrum[:, start - other.frames.start : stop - other.frames.start]
        return slice(start, stop), torch.addcmul(a.real * b.real, a.imag, b.imag)


def bands_scorer(spectrogram: WindowedSpectrogram, parts: Parts, limits: Limits = LIMITS[0]) -> Scorer:
    """Set up the products of band energies; see the module's text."""
    constant, spectra = _spectra(spectrogram, parts)
    own = [_energy(spectrogram, spectrum, spectrum) for spectrum in spectra]
    rows = [torch.zeros_like(own[0])] if constant is None else [_energy(spectrogram, constant, constant)]
    for part, energy in enumerate(own):
        cross = 0 if constant is None else 2 * _energy(spectrogram, constant, spectra[part])
        rows.append(energy + cross)
    pairs = []
    for one, other in _neighbours(own, limits.cross_energy):
        cross_energy = _energy(spectrogram, spectra[one], spectra[other])
        if float(cross_energy.abs().sum()) > limits.cross_energy * float((own[one].sum() * own[other].sum()).sqrt()):
            pairs.append((one, other))
            rows.append(2 * cross_energy)
    table = torch.stack(rows)  # (1 + k + pairs, n_bands, n_frames)
    first, second = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    blocks = list(_blocks(table, limits.negligible))

    def scorer(masks: Masks) -> Floats:
        z = masks.astype(np.float32)
        features = np.concatenate([np.ones((len(z), 1), np.float32), z, z[:, first] * z[:, second]], axis=1)
        energies = torch.empty(len(z), *table.shape[1:])
        for bands, frames, active, block in blocks:
            mixed = torch.from_numpy(features[:, active]) @ block
            energies[:, bands, frames] = mixed.reshape(len(z), bands.stop - bands.start, -1)
        return spectrogram.predict_bands(energies.clamp_(min=0))

    return scorer


def _blocks(
    table: torch.Tensor, negligible: float
) -> Iterator[tuple[slice, slice, npt.NDArray[np.intp], torch.Tensor]]:
    """Cut the table into blocks of bands and frames, each with the rows that matter there: most parts are small."""
    _, n_bands, n_frames = table.shape
    for low, first in itertools.product(range(0, n_bands, BLOCK[0]), range(0, n_frames, BLOCK[1])):
        bands, frames = slice(low, min(low + BLOCK[0], n_bands)), slice(first, min(first + BLOCK[1], n_frames))
        block = table[:, bands, frames].flatten(1)
        size = block.abs().amax(dim=1)
        active = np.flatnonzero((size > negligible * size.max()).numpy())
        yield bands, frames, active, block[active].contiguous()


def _spectra(spectrogram: WindowedSpectrogram, parts: Parts) -> tuple[Local | None, list[Local]]:
    """Give D_0 (None for silence) and every D_j, each cut to the frames in which it sounds."""
    offs = parts.offs
    constant = None
    if offs is not None:
        spectrum = spectrogram.stft(torch.from_numpy(offs.sum(axis=0, keepdims=True)))[0]
        constant = Local(slice(0, spectrum.shape[-1]), spectrum)
    spectra = []
    for part in range(parts.k):
        sound = parts.sounds[part] if offs is None else parts.sounds[part] - offs[part]
        spectra.append(_cut(spectrogram.stft(torch.from_numpy(sound[None]))[0]))
    return constant, spectra


def _cut(spectrum: torch.Tensor) -> Local:
    active = torch.nonzero((spectrum != 0).any(dim=0))[:, 0]
    frames = slice(int(active[0]), int(active[-1]) + 1) if len(active) else slice(0, 1)
    return Local(frames, spectrum[:, frames].clone(memory_format=torch.contiguous_format))


def _energy(spectrogram: WindowedSpectrogram, a: Local, b: Local) -> torch.Tensor:
    """Band energies F · Re(A B*), shape (n_bands, n_frames of the whole)."""
    frames, product = a.times(b)
    bands = spectrogram.bands(product[None])[0]
    whole = bands.new_zeros(len(bands), spectrogram.n_frames)
    whole[:, frames] = bands
    return whole


def _neighbours(own: list[torch.Tensor], cross_energy: float) -> Iterator[tuple[int, int]]:
    """List the pairs whose cross-energy may exceed the limit: Σ sqrt(B_jj B_ll) > limit · sqrt(ΣB_jj ΣB_ll)."""
    roots = torch.stack(own).flatten(1).clamp(min=0).sqrt()  # (k, n_bands · n_frames)
    bound = roots @ roots.T
    size = bound.diagonal().sqrt()
    close: npt.NDArray[np.bool_] = (bound > cross_energy * size[:, None] * size).numpy()
    for one, other in zip(*np.nonzero(np.triu(close, k=1)), strict=True):
        yield int(one), int(other)
