"""Does Grad-CAM show consonance? Maps and sound of the same windows, for networks that should and should not.

Fong, Kumar and Sudhir (2025) read Grad-CAM maps of the harmonics CNN as consonance: *brightness*, the mean of the
rectified map scaled to 0–1, should be high for Q4 (contentment) and low for Q2 (anxiety). Here the claim is put to the
test. Every held-out window of six seconds has a map for the class that the network calls, and a consonance from frame
to frame (`otoscope.mer_models.peaks`). `look` notes for each window its brightness, its mean consonance, and how well
the map's *course*, the sum of the rectified map over its rows, follows consonance in time (Spearman's rank
correlation). `otoscope.brightness_summary` makes figures with intervals of it.

Every measure is turned so that more means more consonant (roughness counts negative). Loudness may make both the map
and the consonance (faint sounds have fewer audible partials), so each correlation is given once more with loudness held
constant: the partial correlation of ranks. What else may confound them (density of notes, register) is not held
constant. Frames more than 60 dB below the loudest of their window are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import CamLayer, Floats
from otoscope.explainers.gradcam import activation_maps, brightness
from otoscope.mer_models import peaks
from otoscope.mer_models.corpus import Ints, cut
from otoscope.mer_models.data import Clip
from otoscope.mer_models.render import Progress, quiet

if TYPE_CHECKING:
    import torch

    from otoscope.adapters.network import NetworkModel

Networks = Mapping[str, Sequence[tuple["NetworkModel", Sequence[Clip]]]]

SIGNS = {"hutchinson_knopoff": -1.0, "sethares": -1.0, "harmonicity": 1.0, "composite": 1.0}
QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
UNKNOWN = -1
AUDIBLE = 1e-6**peaks.LOUDNESS  # share of the loudest frame
BATCH_SIZE = 4  # windows; more do not stay in reach of a CPU's caches
LEAST_FRAMES = 8


@dataclass(frozen=True, eq=False)
class Looks:
    """What was seen of the windows that one network was shown.

    Attributes
    ----------
    song, clip : ndarray of str, shape (n,)
    called, true : ndarray of int, shape (n,)
        Quadrants from 0; -1 where unknown.
    brightness, loudness : ndarray, shape (n,)
    consonance : ndarray, shape (n, n_measures)
        Means over frames, weighted by loudness; the columns are those of `SIGNS`.
    within, within_given_loudness : ndarray, shape (n, n_measures)
        Rank correlations of map and consonance over frames; NaN where not defined.
    """

    song: npt.NDArray[np.str_]
    clip: npt.NDArray[np.str_]
    called: Ints
    true: Ints
    brightness: Floats
    loudness: Floats
    consonance: Floats
    within: Floats
    within_given_loudness: Floats


def look(networks: Networks, *, progress: Progress = quiet) -> dict[str, Looks]:
    """Compute maps and consonance of all windows.

    Parameters
    ----------
    networks : mapping
        Name to folds; each fold is a model of the four quadrants with a layer for Grad-CAM, and the clips that it did
        not learn from.
    progress : callable
        Told how far it is.

    Raises
    ------
    OtoscopeError
        If a model does not fit.
    """
    heard: dict[tuple[str, int, int], list[peaks.Consonance]] = {}  # the same clips are shown to several networks
    found = {}
    for name, folds in networks.items():
        rows: list[tuple[Any, ...]] = []
        n_clips, done = sum(len(clips) for _, clips in folds), 0
        for model, clips in folds:
            layer = _layer(name, model)
            for clip in clips:
                rows += _clip(model, layer, clip, heard)
                done += 1
                if done % 100 == 0 or done == n_clips:
                    progress(f"{name}: looked at {done} of {n_clips} clips")
        if not rows:
            raise OtoscopeError(f"{name}: was shown no clips; give each network some that it did not learn from")
        found[name] = Looks(*(np.array(column) for column in zip(*rows, strict=True)))
    return found


def _layer(name: str, model: NetworkModel) -> CamLayer:
    if model.n_samples is None or model.gradients is None or len(model.labels) != len(QUADRANTS):
        raise OtoscopeError(f"{name}: need a torch network of windows of one length with four labels, Q1 to Q4")
    layers = model.layers()
    if not layers:
        raise OtoscopeError(f"{name}: this network has no layer with a time axis for Grad-CAM to look at")
    return layers[0]


def _clip(
    model: NetworkModel, layer: CamLayer, clip: Clip, heard: dict[tuple[str, int, int], list[peaks.Consonance]]
) -> list[tuple[Any, ...]]:
    """Rows of `Looks` for the windows of a clip."""
    n_samples = model.n_samples or 0  # checked by _layer
    waveforms = cut(clip, rate=model.rate, n_samples=n_samples)
    key = (str(clip.path), model.rate, n_samples)
    if key not in heard:
        heard[key] = [peaks.measure(window, rate=model.rate) for window in waveforms]
    called, maps = called_maps(model, waveforms, layer)
    true = UNKNOWN if clip.quadrant is None else clip.quadrant
    rows = []
    for cells, sound, quadrant in zip(maps, heard[key], called.tolist(), strict=True):
        course = np.interp(_frame_times(sound, model), _map_times(layer, cells.shape[1], model), rectified(cells))
        plain, partial = follow(course, sound)
        means = [sign * sound.mean(measure) for measure, sign in SIGNS.items()]
        loudness = float(sound.loudness.mean())
        rows.append((clip.song, str(clip.path), quadrant, true, brightness(cells), loudness, means, plain, partial))
    return rows


def called_maps(model: NetworkModel, waveforms: npt.NDArray[np.float32], layer: CamLayer) -> tuple[Ints, Floats]:
    """Call the quadrants (n,) of waveforms (n, n_samples), and compute the map (n, n_rows, n_frames) of each call."""
    called: list[Ints] = []

    def chosen(logits: torch.Tensor) -> torch.Tensor:
        values, indices = logits.max(dim=1)
        called.append(indices.cpu().numpy())
        return values

    batches = [waveforms[start : start + BATCH_SIZE] for start in range(0, len(waveforms), BATCH_SIZE)]
    maps = [activation_maps(model, batch, chosen, layer, device=model.device) for batch in batches]
    return np.concatenate(called), np.concatenate(maps)


def rectified(cells: Floats) -> Floats:
    """Course (n_frames,) of a map (n_rows, n_frames): the sum of what is positive."""
    return np.asarray(np.maximum(cells, 0).sum(axis=0))


def _frame_times(sound: peaks.Consonance, model: NetworkModel) -> Floats:
    """Centres in seconds of the frames that were measured."""
    return np.asarray((np.arange(len(sound.loudness)) * peaks.HOP_LENGTH + peaks.N_FFT / 2) / model.rate)


def _map_times(layer: CamLayer, n_frames: int, model: NetworkModel) -> Floats:
    """Centres in seconds of the frames of a map."""
    first, step = layer.frames or (0.0, (model.n_samples or 0) / model.rate / n_frames)
    return np.asarray(first + step * (np.arange(n_frames) + 0.5))


def follow(course: Floats, sound: peaks.Consonance) -> tuple[Floats, Floats]:
    """Rank correlations of a map's course (n_frames,) with each measure: plain, and with loudness held constant."""
    audible = sound.loudness > AUDIBLE * sound.loudness.max()
    if np.count_nonzero(audible) < LEAST_FRAMES:
        nothing = np.full(len(SIGNS), np.nan)
        return nothing, nothing
    turned = [sign * getattr(sound, measure) for measure, sign in SIGNS.items()]
    return rank_correlations(np.array([course, sound.loudness, *turned])[:, audible])


def rank_correlations(rows: Floats) -> tuple[Floats, Floats]:
    """Correlate the ranks of the first row with those of the third and later ones, (n_rows - 2,).

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n)

    Returns
    -------
    plain, partial : ndarray, shape (n_rows - 2,)
        As it is, and with the second row held constant; NaN where a row is constant.
    """
    from scipy.stats import rankdata

    ranks = rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    unit = ranks / np.where(size > 0, size, np.nan)
    r = unit @ unit.T
    with_control = np.nan_to_num(r[1])  # a constant control explains nothing
    plain = r[0, 2:]
    rest = np.sqrt(np.maximum((1 - with_control[0] ** 2) * (1 - with_control[2:] ** 2), 0))
    partial = (plain - with_control[0] * with_control[2:]) / np.where(rest > 1e-6, rest, np.nan)
    return plain, partial
