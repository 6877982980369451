"""Part makers: ways of taking a recording apart, by name.

`SUMMARIES` says what there is; ``superpixels`` is ``felzenszwalb``, the default.

Segments are found on a picture of the recording: decibels below its loudest cell (0 to −80, scaled to 1 … 0), frames
against *rows*, 24 to an octave. A row is never narrower than one STFT bin, so no segment is lost on the way back to
bins. At most `n_parts` parts are made: the smallest segments merge with their most similar neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.adapters.audio import Audio
from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pitch import C0
from otoscope.adapters.plugins import points, registered, told
from otoscope.adapters.spectra import Float32, Stft
from otoscope.explainers.merge import merge_smallest
from otoscope.explainers.parts import Labels, Off, Parts, named

Maker = Callable[[Parts, int], Parts]
MAKERS: dict[str, Maker] = {}

SUMMARIES = {
    "superpixels": "felzenszwalb, the default",
    "felzenszwalb": "graph-based segments (Felzenszwalb & Huttenlocher, 2004)",
    "slic": "compact segments (Achanta et al., 2012)",
    "quickshift": "mode-seeking segments (Vedaldi & Soatto, 2008)",
    "watershed": "basins of the gradient",
    "grid": "rectangles, time × log frequency",
    "harmonic": "twelve pitch classes; combs of partials for occlusion",
    "hpss": "harmonic and percussive (Fitzgerald, 2010; Driedger et al., 2014)",
    "nmf": "up to eight sounds that come again (Lee & Seung, 1999; Févotte & Idier, 2011)",
    "events": "from onset to onset, over all frequencies",
    "pitch": "the notes of a melody, bands that follow it (pYIN: Mauch & Dixon, 2014)",
    "stems": "stems given as files (--stems), and what they leave open",
}
STFT_ONLY = frozenset({"harmonic", "hpss", "nmf", "events", "pitch", "stems"})
GROUP = "otoscope.parts"
N_PARTS = 64
ROWS_PER_OCTAVE = 24
DYNAMIC_RANGE = 80.0


def maker(name: str) -> Callable[[Maker], Maker]:
    """Register a part maker: a function (whole, n_parts) -> Parts."""

    def register(function: Maker) -> Maker:
        MAKERS[name] = function
        return function

    return register


def find_maker(name: str) -> Maker:
    """Find a part maker by name, ours or a plug-in's."""
    return registered(name, MAKERS, GROUP, "part maker")


def maker_summaries() -> dict[str, str]:
    """Say in one line what each part maker does; plug-ins are not imported for it."""
    return {**{name: told(point) for name, point in points(GROUP).items()}, **SUMMARIES}


def make_parts(
    audio: Audio, stft: Stft, *, maker: str = "superpixels", n_parts: int = N_PARTS, off: Off = "silence", seed: int = 0
) -> Parts:
    """Take a recording apart.

    Parameters
    ----------
    audio : Audio
    stft : Stft
        Gives `n_fft` and `hop_length` of the grid the parts live on.
    maker : str
        Name of a part maker.
    n_parts : int
        Most parts to make.
    off : {"silence", "mean", "noise"}
    seed : int
        Of the noise.

    Raises
    ------
    OtoscopeError
        If the maker is unknown or `n_parts` is not positive.
    """
    return cut(undivided(audio, stft, off=off, seed=seed), maker, n_parts)


def undivided(
    audio: Audio, stft: Stft, *, off: Off = "silence", seed: int = 0, start: float = 0.0, stems: tuple[Audio, ...] = ()
) -> Parts:
    """Take a recording as one part."""
    # Exact on the way back, whatever the model's own edges and hop are.
    centred = Stft(stft.n_fft, min(stft.hop_length, stft.n_fft // 2))
    labels = np.zeros((centred.n_bins, centred.n_frames(len(audio.samples))), dtype=np.intp)
    return Parts(audio, centred, labels, ("everything",), off=off, seed=seed, start=start, stems=stems)


def cut(whole: Parts, maker: str, n_parts: int) -> Parts:
    """Take an undivided recording apart by a named maker."""
    make = find_maker(maker)
    if n_parts < 1:
        raise OtoscopeError(f"need at least one part, got n_parts={n_parts}")
    if whole.filters is not None and maker in STFT_ONLY:
        raise OtoscopeError(f"{maker} parts are cut from the STFT; use --domain stft")
    return make(whole, n_parts)


def rows(whole: Parts) -> Labels:
    """Row of each STFT bin, shape (n_bins,): 24 to an octave, none narrower than a bin."""
    octaves = np.log2(np.maximum(whole.stft.frequencies(whole.audio.rate), 1e-9) / (2 * C0))
    return np.unique(np.maximum(0, np.floor(ROWS_PER_OCTAVE * octaves)), return_inverse=True)[1]


def picture(whole: Parts) -> Float32:
    """Draw the recording as a picture, shape (n_rows, n_frames), 0 (quiet) to 1 (loudest)."""
    if whole.filters is not None:
        power = whole.filters @ whole.power
    else:
        row = rows(whole)
        power = np.zeros((row.max() + 1, whole.power.shape[1]), dtype=np.float32)
        np.add.at(power, row, whole.power)
        power /= np.bincount(row)[:, None]
    loudest = power.max()
    if loudest == 0:
        return np.zeros(power.shape, dtype=np.float32)
    level = 10 * np.log10(np.maximum(power / loudest, 10 ** (-DYNAMIC_RANGE / 10)))
    return np.asarray(1 + level / DYNAMIC_RANGE, dtype=np.float32)


def from_rows(whole: Parts, segments: Labels, kind: str) -> Parts:
    """Lay segments (n_rows, n_frames) on the STFT bins and name them."""
    segments = np.unique(segments, return_inverse=True)[1].reshape(segments.shape)
    if whole.filters is None:
        return _with_labels(whole, segments[rows(whole)], kind)
    shares = soft_masks(segments, whole.filters)
    nameless = whole.with_(labels=shares.argmax(axis=0), shares=shares, names=("",) * len(shares))
    names = named(kind, nameless.extents)
    return nameless.with_(names=(*names[:-1], "remainder") if len(shares) > segments.max() + 1 else names)


def soft_masks(segments: Labels, filters: Float32) -> Float32:
    """STFT masks (Fᵀ m_k)/(Fᵀ 1) of segments of a filtered spectrogram; what no band covers is a last part.

    Parameters
    ----------
    segments : ndarray of int, shape (n_bands, n_frames)
    filters : ndarray, shape (n_bands, n_bins)

    Returns
    -------
    ndarray of float32, shape (k, n_bins, n_frames)
        Adding up to 1.
    """
    k = int(segments.max()) + 1
    cover = filters.sum(axis=0)  # (n_bins,)
    covered = cover > 1e-6 * cover.max()
    response = np.where(covered, filters / np.where(covered, cover, 1), 0).astype(np.float32).T  # (n_bins, n_bands)
    shares = np.stack([response @ (segments == part).astype(np.float32) for part in range(k)])
    if covered.all():
        return shares
    remainder = np.repeat((~covered)[:, None], segments.shape[1], axis=1).astype(np.float32)
    return np.concatenate([shares, remainder[None]])


def _with_labels(whole: Parts, labels: Labels, kind: str) -> Parts:
    nameless = whole.with_(labels=labels, names=("",) * (int(labels.max()) + 1))
    return nameless.with_(names=named(kind, nameless.extents))


def _most(whole: Parts, n_parts: int) -> int:
    """Segments to make: one less where what no band covers will be a part of its own."""
    return n_parts if whole.filters is None else max(1, n_parts - 1)


def _superpixels(segment: Callable[[Float32, int], npt.NDArray[Any]]) -> Maker:
    def make(whole: Parts, n_parts: int) -> Parts:
        image = picture(whole)
        most = _most(whole, n_parts)
        segments = np.asarray(segment(image, most), dtype=np.intp)
        return from_rows(whole, merge_smallest(segments, image, most), "part")

    return make


def _felzenszwalb(image: Float32, _: int) -> npt.NDArray[Any]:
    from skimage.segmentation import felzenszwalb

    # The published preset of Chowdhury et al., 2019.
    return np.asarray(felzenszwalb(image, scale=25, min_size=40, channel_axis=None))


def _slic(image: Float32, n_parts: int) -> npt.NDArray[Any]:
    from skimage.segmentation import slic

    return np.asarray(slic(image, n_segments=n_parts, compactness=0.1, sigma=1, channel_axis=None, start_label=0))


def _quickshift(image: Float32, _: int) -> npt.NDArray[Any]:
    from skimage.segmentation import quickshift

    return np.asarray(
        quickshift(np.repeat(image[..., None], 3, axis=2), kernel_size=3, max_dist=12, convert2lab=False, rng=0)
    )


def _watershed(image: Float32, n_parts: int) -> npt.NDArray[Any]:
    from skimage.filters import gaussian, sobel
    from skimage.segmentation import watershed

    return np.asarray(watershed(sobel(gaussian(image, sigma=2)), markers=4 * n_parts))


MAKERS["superpixels"] = MAKERS["felzenszwalb"] = _superpixels(_felzenszwalb)
MAKERS["slic"] = _superpixels(_slic)
MAKERS["quickshift"] = _superpixels(_quickshift)
MAKERS["watershed"] = _superpixels(_watershed)


@maker("grid")
def grid(whole: Parts, n_parts: int) -> Parts:
    """Rectangles: as many columns as rows, of equal duration and equal width in log frequency."""
    side = max(1, int(np.sqrt(_most(whole, n_parts))))
    n_rows = int(rows(whole).max()) + 1 if whole.filters is None else len(whole.filters)
    n_frames = whole.labels.shape[1]
    bands = np.arange(n_rows) * side // n_rows
    columns = np.arange(n_frames) * side // n_frames
    return from_rows(whole, columns[None, :] * side + bands[:, None], "cell")


@maker("hpss")
def hpss(whole: Parts, n_parts: int) -> Parts:
    """Harmonic and percussive sound, by soft masks that add up to 1."""
    if n_parts < 2:
        return whole
    librosa = load_librosa()
    magnitude = np.sqrt(whole.power)
    kernel = tuple(min(31, 2 * length - 1) for length in reversed(magnitude.shape))  # scipy errs where it is wider
    harmonic, percussive = librosa.decompose.hpss(magnitude, kernel_size=kernel, mask=True)
    shares = np.stack([harmonic, percussive]).astype(np.float32)
    shares[1] = 1 - shares[0]
    labels = shares.argmax(axis=0)
    return whole.with_(labels=labels, names=("harmonic", "percussive"), shares=shares)


@maker("harmonic")
def harmonic(whole: Parts, n_parts: int) -> Parts:
    """Pitch classes: each bin belongs to the nearest one; below C1 lies the remainder."""
    from otoscope.explainers.combs import pitch_class_parts

    return pitch_class_parts(whole, n_parts)


@maker("nmf")
def nmf(whole: Parts, n_parts: int) -> Parts:
    """Components of a factorisation: what sounds alike at several times."""
    from otoscope.explainers.nmf import nmf_parts

    return nmf_parts(whole, n_parts)


@maker("events")
def events(whole: Parts, n_parts: int) -> Parts:
    """Stretches from onset to onset."""
    from otoscope.explainers.events import event_parts

    return event_parts(whole, n_parts)


@maker("pitch")
def pitch(whole: Parts, n_parts: int) -> Parts:
    """Cut out the notes of a melody; the remainder is everything else, and may be much."""
    from otoscope.explainers.pitch_parts import pitch_parts

    return pitch_parts(whole, n_parts)


@maker("stems")
def stems(whole: Parts, n_parts: int) -> Parts:
    """Stems that came with the recording."""
    from otoscope.explainers.stems import stem_parts

    return stem_parts(whole, n_parts)
