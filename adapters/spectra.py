"""Spectra: the short-time Fourier transform, decibels, and the way back to sound.

Conventions: waveforms are ``(…, n_samples)``, spectra ``(…, n_bins, n_frames)`` with frequencies from low to high,
``n_bins = n_fft // 2 + 1``. Frame t is centred on sample ``t · hop_length`` (edges are padded with zeros), as in
librosa. `Stft` works on torch tensors, so that autograd can cross it; what is not part of a model works on arrays.

The way back: a filtered spectrogram (mel, log-frequency) has fewer bands than the STFT has bins. `unfilter` finds bin
energies that would give these bands, by the pseudo-inverse of the filterbank or by non-negative least squares, and
`to_sound` gives them a phase: that of the recording where there is one, Griffin-Lim's where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from otoscope.adapters.compiled import load_librosa
from otoscope.adapters.errors import OtoscopeError

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


Window = Literal["hann", "hann_symmetric", "hamming", "povey", "rectangular"]


@dataclass(frozen=True)
class Stft:
    """A short-time Fourier transform; by default librosa's, padded with zeros.

    Attributes
    ----------
    n_fft, hop_length : int
        In samples.
    win_length : int, optional
        In samples, centred in `n_fft`; `n_fft` where None.
    center : bool
        Whether frame t is centred on sample ``t · hop_length`` (padded), or starts there.
    window : {"hann", "hann_symmetric", "hamming", "povey", "rectangular"}
        Hann is periodic, as in librosa and torch; the symmetric one and Povey's (its power .85) are Kaldi's.
    pad_mode : {"constant", "reflect"}
        What lies beyond the edges of a centred transform.
    frame : {"n_fft", "window"}
        Without centring: whether frames are as long as `n_fft` (librosa, torch) or as the window (Kaldi, TensorFlow,
        scipy), which decides how many there are.
    remove_dc : bool
        Subtract the mean of each frame (Kaldi).
    preemphasis : float
        Within each frame, x[i] − preemphasis · x[i − 1] (Kaldi: .97). Like `remove_dc` linear, so the transform is.
    """

    n_fft: int = 2048
    hop_length: int = 512
    win_length: int | None = None
    center: bool = True
    window: Window = "hann"
    pad_mode: Literal["constant", "reflect"] = "constant"
    frame: Literal["n_fft", "window"] = "n_fft"
    remove_dc: bool = False
    preemphasis: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no transform can be made of."""
        if not 0 < self.hop_length <= self.length <= self.n_fft:
            raise OtoscopeError(
                f"need 0 < hop_length ≤ win_length ≤ n_fft, got {self.hop_length}, {self.length}, {self.n_fft}"
            )
        if self.center and (self.frame == "window" or self.remove_dc or self.preemphasis):
            raise OtoscopeError('frame = "window", remove_dc and preemphasis work without centring; use center = false')

    @property
    def length(self) -> int:
        """Length of the window in samples."""
        return self.win_length or self.n_fft

    @property
    def n_bins(self) -> int:
        """Number of frequency bins."""
        return self.n_fft // 2 + 1

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a waveform of `n_samples`."""
        if self.center:
            return 1 + n_samples // self.hop_length
        return max(0, 1 + (n_samples - self._frame_length) // self.hop_length)

    @property
    def _frame_length(self) -> int:
        return self.length if self.frame == "window" or self._framewise else self.n_fft

    @property
    def _framewise(self) -> bool:
        return self.remove_dc or self.preemphasis != 0

    def frequencies(self, rate: int) -> Floats:
        """Bin centres in hertz, shape (n_bins,)."""
        return np.asarray(np.arange(self.n_bins) * (rate / self.n_fft), dtype=np.float64)

    def times(self, n_frames: int, rate: int) -> Floats:
        """Frame centres in seconds, shape (n_frames,)."""
        first = 0 if self.center else self._frame_length / 2
        return (np.arange(n_frames) * self.hop_length + first) / rate

    def weights(self, like: torch.Tensor) -> torch.Tensor:
        """Window of shape (win_length,), of the dtype and on the device of `like`."""
        periodic = self.window in ("hann", "hamming")
        hann = torch.hann_window(self.length, periodic=periodic, dtype=like.dtype, device=like.device)
        if self.window == "rectangular":
            return torch.ones_like(hann)
        if self.window == "hamming":
            return 0.08 + 0.92 * hann
        return hann.pow(0.85) if self.window == "povey" else hann

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform (…, n_samples) to complex (…, n_bins, n_frames)."""
        if self._framewise:
            return self._by_frames(waveforms)
        if self.frame == "window":  # torch centres a short window in n_fft samples
            left = (self.n_fft - self.length) // 2
            waveforms = torch.nn.functional.pad(waveforms, (left, self.n_fft - self.length - left))
        return torch.stft(
            waveforms,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.weights(waveforms),
            center=self.center,
            pad_mode=self.pad_mode,
            return_complex=True,
        )

    def _by_frames(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Cut frames as long as the window, treat each, transform."""
        frames = waveforms.unfold(-1, self.length, self.hop_length)  # (…, n_frames, win_length)
        if self.remove_dc:
            frames = frames - frames.mean(dim=-1, keepdim=True)
        if self.preemphasis:
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            frames = frames - self.preemphasis * before
        spectra: torch.Tensor = torch.fft.rfft(frames * self.weights(waveforms), n=self.n_fft)
        return spectra.transpose(-1, -2)

    def inverse(self, spectra: torch.Tensor, n_samples: int) -> torch.Tensor:
        """Transform complex (…, n_bins, n_frames) back to (…, n_samples); needs `center`.

        Where long windows overlap by half, the last one alone covers the end; the samples that it hardly weighs, which
        torch refuses to divide by, are left silent.
        """
        window = self.weights(spectra.real)
        faint = int((window[self.length // 2 :].square() < 1e-11).sum())
        length = min(n_samples, (spectra.shape[-1] - 1) * self.hop_length + self.length // 2 - faint)
        sounds = torch.istft(
            spectra, self.n_fft, self.hop_length, self.win_length, window, center=self.center, length=length
        )
        return torch.nn.functional.pad(sounds, (0, n_samples - length)) if length < n_samples else sounds

    def inverse_local(self, spectrum: torch.Tensor, first: int, envelope: torch.Tensor, n_samples: int) -> torch.Tensor:
        """Transform a stretch of frames back, as if all other frames of the whole were zero; needs `center`.

        Parameters
        ----------
        spectrum : Tensor, complex, shape (n_bins, n_local)
            Frames ``first`` … ``first + n_local − 1`` of the whole.
        first : int
        envelope : Tensor
            From `envelope`, for all frames of the whole.
        n_samples : int

        Returns
        -------
        Tensor, shape (n_samples,)
        """
        window = self._padded_window(spectrum.real)
        frames = torch.fft.irfft(spectrum.T.contiguous(), n=self.n_fft) * window  # (n_local, n_fft)
        whole = torch.zeros_like(envelope)
        for position, frame in enumerate(frames, start=first):
            whole[position * self.hop_length :][: self.n_fft] += frame
        whole /= envelope
        return torch.nn.functional.pad(whole, (0, self.n_fft))[self.n_fft // 2 :][:n_samples]

    def envelope(self, n_frames: int) -> torch.Tensor:
        """Sum of the squared windows of all frames, for `inverse_local`."""
        square = self._padded_window(torch.zeros(1)).square()
        total = square.new_zeros((n_frames - 1) * self.hop_length + self.n_fft)
        for position in range(n_frames):
            total[position * self.hop_length :][: self.n_fft] += square
        return total.clamp(min=1e-11)

    def _padded_window(self, like: torch.Tensor) -> torch.Tensor:
        """Window centred in n_fft samples."""
        window = self.weights(like)
        left = (self.n_fft - len(window)) // 2
        return torch.nn.functional.pad(window, (left, self.n_fft - len(window) - left))


def decibels(power: torch.Tensor, *, reference: float = 1.0, floor: float = -80.0) -> torch.Tensor:
    """Power in decibels above a fixed reference, never below `floor`.

    The reference never depends on the clip: with the clip's own maximum as reference, removing one part would change
    the level of all the others.
    """
    return 10.0 * torch.log10(torch.clamp(power / reference, min=10.0 ** (floor / 10)))


def unfilter(bands: Floats, filterbank: Float32, *, method: Literal["pinv", "nnls"] = "pinv") -> Floats:
    """Find non-negative bin energies that give these bands.

    Parameters
    ----------
    bands : ndarray, shape (n_bands, n_frames)
        ``filterbank @ |S|**exponent``, linear (not in decibels).
    filterbank : ndarray, shape (n_bands, n_bins)
    method : "pinv" or "nnls"
        The minimum-norm solution clipped at zero (fast), or non-negative least squares (exact where a solution exists).

    Returns
    -------
    ndarray, shape (n_bins, n_frames)
        ``|S|**exponent``.
    """
    if bands.shape[0] != filterbank.shape[0]:
        raise OtoscopeError(f"got bands of shape {bands.shape} for a filterbank of shape {filterbank.shape}")
    if method == "pinv":
        return np.maximum(0.0, np.linalg.pinv(filterbank.astype(np.float64)) @ bands)
    return _nonnegative(bands, filterbank.astype(np.float64))


def _nonnegative(bands: Floats, filterbank: Floats, *, n_iter: int = 1000, tolerance: float = 1e-4) -> Floats:
    """Solve non-negative least squares by multiplicative updates (Lee & Seung, 2001) from a flat start.

    Their divergence updates come within `tolerance` of an exact solution in about a tenth of the steps of the Euclidean
    ones, which follow where there is none. (librosa's solver starts at the clipped pseudo-inverse and stays there.)
    """
    from scipy.sparse import csr_matrix

    filters, tiny = csr_matrix(filterbank), 1e-300
    back = csr_matrix(filterbank.T)
    reach = np.asarray(back @ np.ones((len(filterbank), 1)))  # (n_bins, 1)
    projected = np.asarray(back @ bands)
    energies: Floats = projected / np.maximum(np.asarray(back @ (filters @ np.ones_like(reach))), tiny)
    goal = tolerance * np.linalg.norm(bands, axis=0)
    for step in range(n_iter):
        given = np.asarray(filters @ energies)
        if (np.linalg.norm(given - bands, axis=0) <= goal).all():
            break
        if step < n_iter // 2:
            energies *= np.asarray(back @ (bands / np.maximum(given, tiny))) / np.maximum(reach, tiny)
        else:
            energies *= projected / np.maximum(np.asarray(back @ given), tiny)
    return energies


def to_sound(
    magnitude: Floats, stft: Stft, n_samples: int, *, phase_of: Float32 | None = None, n_iter: int = 32, seed: int = 0
) -> Float32:
    """Give a magnitude spectrogram a phase and turn it into sound.

    Parameters
    ----------
    magnitude : ndarray, shape (n_bins, n_frames)
    stft : Stft
    n_samples : int
    phase_of : ndarray, shape (n_samples,), optional
        The recording whose phase is borrowed; Griffin-Lim (Perraudin et al., 2013) finds one where None.
    n_iter, seed : int
        Of Griffin-Lim.

    Returns
    -------
    ndarray of float32, shape (n_samples,)
    """
    if phase_of is None:
        librosa = load_librosa()
        sound = librosa.griffinlim(
            magnitude.astype(np.float32),
            n_iter=n_iter,
            n_fft=stft.n_fft,
            hop_length=stft.hop_length,
            win_length=stft.win_length,
            center=stft.center,
            length=n_samples,
            random_state=seed,
        )
        return np.asarray(sound, dtype=np.float32)
    original = stft.forward(torch.from_numpy(np.array(phase_of, dtype=np.float32)))  # (n_bins, n_frames)
    unit = torch.polar(torch.ones_like(original.real), original.angle())
    spectrum = torch.from_numpy(magnitude.astype(np.float32)) * unit
    return np.asarray(stft.inverse(spectrum, n_samples), dtype=np.float32)
