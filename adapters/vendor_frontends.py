"""How the families of transformers hear, in torch: the front ends of the vendors' feature extractors once more.

The feature extractors of transformers are numpy: autograd cannot cross them. Each family here is declared a second time
as a `Hearing`, with every setting read from the extractor that the model's folder describes:

* AST: Kaldi's filterbank (Gong et al., 2021). Frames of 25 ms every 10 ms, their mean removed, pre-emphasis .97, a
  symmetric Hann window, mel bands from 20 Hz that are straight in mel, ln; cut or filled up with zeros to `max_length`
  frames, then (x − mean) / (2 std). The logarithm of a quiet band beside a loud one shows how exact the transform is
  (in single precision up to 7e-4, in double, as the vendor's, 1e-7), so it is done in double precision.
* Whisper (Radford et al., 2022): padded with silence to 30 s, Slaney's mel bands, log10, never more than 8 below the
  loudest cell, (x + 4) / 4.
* wav2vec 2.0, HuBERT, WavLM and their kin: the waveform, where the extractor says so at zero mean and unit spread.

That the second way is the same as the first is not believed but measured: `difference` plays the eight probe sounds to
both. Above `LIMIT`, and for families nobody has declared here, the model hears through its vendor's own extractor
(`Vendor`): it answers as always, but offers neither gradients nor a spectrogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer, probe_sounds
from otoscope.adapters.spectra import Stft
from otoscope.adapters.vendor_layers import ast_layers, token_field, waveform_layers, whisper_layers

LIMIT = 1e-3  # of inputs around 1
PROBE_SECONDS = 2
# Written into both vendors' code, and in no configuration.
AST_WINDOW, AST_HOP, AST_FFT = 400, 160, 512
AST_FMIN, AST_FLOOR, AST_PREEMPHASIS = 20.0, 1.192092955078125e-07, 0.97
WHISPER_FMAX, WHISPER_FLOOR, WHISPER_TOP = 8000.0, 1e-10, 8.0


@dataclass(frozen=True)
class DoubleStft(Stft):
    """A transform in double precision whose results are single."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Transform (…, n_samples) to complex (…, n_bins, n_frames)."""
        exact = waveforms if waveforms.device.type == "mps" else waveforms.double()  # Apple's have no doubles
        return super().forward(exact).to(waveforms.dtype.to_complex())


@dataclass(frozen=True)
class Family:
    """What is known of a family.

    Attributes
    ----------
    hear : callable
        From the vendor's extractor to a `Hearing`.
    layers : callable
        From the network and its hearing to the `CamLayer` tuple, the best first.
    shortest : callable
        From the network's configuration to the fewest samples it hears.
    """

    hear: Callable[[Any], Hearing]
    layers: Callable[[nn.Module, Hearing], tuple[CamLayer, ...]]
    shortest: Callable[[Any], int]


@dataclass(frozen=True)
class Way:
    """How one model is heard.

    Attributes
    ----------
    hearing : Hearing
    family : Family or None
        None where the vendor's own extractor is used.
    difference : float or None
        Largest difference of the input in torch from the vendor's, on the probe sounds.
    reason : str or None
        Why the vendor's own extractor is used.
    """

    hearing: Hearing
    family: Family | None
    difference: float | None
    reason: str | None

    @property
    def note(self) -> str:
        """What a reader must know of it, in one sentence."""
        if self.reason is not None:
            return f"{self.reason}; it hears through the vendor's own, without gradients"
        if self.difference == 0:
            return "the front end in torch equals the vendor's"
        return f"the front end in torch differs from the vendor's by at most {self.difference:.1g}"


def find_way(model_type: str, extractor: Any) -> Way:
    """Declare how a model hears, measure it against the vendor, and fall back to the vendor where they differ.

    Parameters
    ----------
    model_type : str
        As in ``config.json``.
    extractor : transformers.FeatureExtractionMixin
    """
    rate = int(extractor.sampling_rate)
    family = FAMILIES.get(model_type)
    if family is None:
        return Way(Hearing(rate), None, None, f"no front end in torch is known for {model_type} models")
    try:
        hearing = family.hear(extractor)
    except (OtoscopeError, AttributeError, TypeError) as error:  # another family's extractor, strange settings
        return Way(Hearing(rate), None, None, f"the front end cannot be declared in torch ({error})")
    found = difference(hearing, extractor)
    if found <= LIMIT:
        return Way(hearing, family, found, None)
    reason = f"the front end in torch differs from the vendor's by {found:.2g}, more than {LIMIT:g}"
    return Way(Hearing(rate, max_samples=hearing.max_samples), None, found, reason)


def difference(hearing: Hearing, extractor: Any) -> float:
    """Largest difference between our input and the vendor's on the eight probe sounds; inf where shapes differ."""
    n_samples = min(PROBE_SECONDS * hearing.rate, hearing.max_samples or PROBE_SECONDS * hearing.rate)
    sounds = probe_sounds(hearing.rate, n_samples)
    name = extractor.model_input_names[0]
    largest = 0.0
    for sound in sounds:
        theirs = vendor_features(extractor, sound)[name]
        ours = hearing(torch.from_numpy(sound[None]))
        if ours.shape != theirs.shape:
            return float("inf")
        largest = max(largest, float((ours - theirs).abs().max()))
    return largest if np.isfinite(largest) else float("inf")


def vendor_features(extractor: Any, sound: np.ndarray) -> dict[str, torch.Tensor]:
    """Ask the vendor's extractor as its pipeline does, for one waveform (n_samples,)."""
    return dict(extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="pt"))


class Vendor(nn.Module):
    """A network behind its vendor's own extractor: waveforms (n, n_samples) to logits (n, n_classes), no gradients.

    Parameters
    ----------
    model : torch.nn.Module
    extractor : transformers.FeatureExtractionMixin
    """

    def __init__(self, model: nn.Module, extractor: Any) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor

    def forward(self, waveforms: torch.Tensor) -> Any:
        """Extract item by item, as the pipeline does, and answer for all at once."""
        sounds = waveforms.detach().cpu().numpy()
        try:
            items = [vendor_features(self.extractor, sound) for sound in sounds]
            heard = {name: torch.cat([item[name] for item in items]).to(waveforms.device) for name in items[0]}
            return self.model(**heard)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise OtoscopeError(f"the vendor's code refuses {sounds.shape[-1]} samples ({reason})") from None


def _hear_ast(extractor: Any) -> Hearing:
    rate, n_frames = extractor.sampling_rate, extractor.max_length
    mean, std = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)
    stft = DoubleStft(
        AST_FFT,
        AST_HOP,
        AST_WINDOW,
        center=False,
        window="hann_symmetric",
        frame="window",
        remove_dc=True,
        preemphasis=AST_PREEMPHASIS,
    )
    front_end = FrontEnd(
        rate=rate,
        stft=stft,
        n_bands=extractor.num_mel_bins,
        fmin=AST_FMIN,
        mel_scale="kaldi",
        norm="none",
        compression="ln",
        clamp=True,
        floor=AST_FLOOR,
        n_frames=n_frames,
        mean=mean,
        std=std,
    )
    longest = AST_WINDOW + (n_frames - 1) * AST_HOP
    return Hearing(rate, max_samples=longest, front_end=front_end, layout=("items", "frames", "bands"))


def _hear_whisper(extractor: Any) -> Hearing:
    rate, n_samples = extractor.sampling_rate, extractor.n_samples
    front_end = FrontEnd(
        rate=rate,
        stft=Stft(extractor.n_fft, extractor.hop_length, pad_mode="reflect"),
        n_bands=extractor.feature_size,
        fmax=WHISPER_FMAX,
        compression="log",
        clamp=True,
        floor=WHISPER_FLOOR,
        n_frames=n_samples // extractor.hop_length,
        top=WHISPER_TOP,
        mean=-4.0,
        std=4.0,
    )
    return Hearing(rate, max_samples=n_samples, pad_to=n_samples, front_end=front_end)


def _hear_waveform(extractor: Any) -> Hearing:
    """Any length is heard whole: attention over all of it, as in the vendor's pipeline."""
    return Hearing(extractor.sampling_rate, normalise="standard" if extractor.do_normalize else "none")


_WAVEFORM = Family(_hear_waveform, waveform_layers, lambda config: token_field(config)[0])
WAVEFORM_TYPES = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "sew",
    "unispeech",
    "unispeech-sat",
    "wav2vec2-conformer",
)
FAMILIES: dict[str, Family] = {
    "audio-spectrogram-transformer": Family(_hear_ast, ast_layers, lambda _config: AST_WINDOW),
    "whisper": Family(_hear_whisper, whisper_layers, lambda _config: 1),
    **dict.fromkeys(WAVEFORM_TYPES, _WAVEFORM),
}
