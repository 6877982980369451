"""The harmonics CNN: four emotions, heard through twelve pitch classes.

After H. Fong, V. Kumar and K. Sudhir, "A Theory-Based Explainable Deep Learning Architecture for Music Emotion"
(Marketing Science 44(1), 2025; arXiv 2408.07113). Consonance is a matter of shared harmonics, so the first layer may
look at harmonics only. Six seconds of sound become a mel spectrogram in decibels, x (n_mels, n_frames). Filter c of
pitch class p sees the bands M_p that lie nearest to the partials h·f0 of that pitch class in every octave ("mel
blinders"), and is as tall as the spectrogram and one frame wide:

    y[p, c, t] = ReLU( BN( b[p, c] + Σ_{k in M_p} w[p, c, k] · x[k, t] ) )

then average pooling over time, dropout, concatenation of the 12 × 32 channels, max pooling over what is left of time,
dropout, and a linear layer to four logits: the quadrants of valence and arousal.

What the paper leaves open is a setting here (`otoscope.mer_models.blinders.Settings`). Our choices: 22,050 Hz, Slaney
mel bands, octaves 1–8, 8 harmonics, one frame wide, and decibels above a *fixed* reference, about the energy that a
sine at full scale leaves in one of the equally wide bands below 1 kHz: (n_fft / 4)² · 2 / 25.9 Hz ≈ 8·10⁴. With the
clip's own maximum as reference, removing one part of a recording would change all the others. Each band is brought to
zero mean and unit spread by statistics of the training set, kept as buffers. The parameter count is the paper's:
100,996.

`SECOND` is the form that is shipped as ``harmonics-2``: the same filters, of which only the weights behind the blinders
are stored; then mean, standard deviation and peak of each channel over all frames rather than the greatest of a few
averages (arousal lies in how a channel moves as much as in how strong it is), and a hidden layer before the logits.

Shapes: compressed bands (n, n_mels, n_frames) in decibels; activations (n, 12 · n_channels, n_frames), pitch class by
pitch class from C to B; logits (n, 4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from otoscope.adapters import pitch
from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import BATCH_SIZE, CamLayer
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.spectra import Stft
from otoscope.mer_models.blinders import PitchFilters, Settings, blinders

SETTINGS = (Settings,)
LABELS = ("exuberance", "anxiety", "sadness", "contentment")  # Q1 V+A+, Q2 V-A+, Q3 V-A-, Q4 V+A-
RATE = 22050
N_SAMPLES = 6 * RATE
SECOND = Settings(pool=8, dropout=0.1, head_dropout=0.4, pooling="statistics", hidden=64, compact=True)
SPREAD_FLOOR = 1e-5  # keeps the square root of a silent channel's variance differentiable
FRONT_END = FrontEnd(rate=RATE, stft=Stft(4096, 512), filterbank="mel", n_bands=256, reference=8e4, floor=-80.0)


class PeakPool(nn.Module):
    """The greatest of the averages over `pool` frames: (n, width, n_frames) to (n, width)."""

    def __init__(self, pool: int, dropout: float) -> None:
        super().__init__()
        self.average = nn.AvgPool1d(pool)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool activations."""
        pooled: torch.Tensor = self.dropout(self.average(x)).amax(dim=-1)
        return pooled


class StatisticsPool(nn.Module):
    """Mean, standard deviation and peak over time: (n, width, n_frames) to (n, 3 · width).

    The peak is the mean over `pool` phases of the greatest value among every `pool`-th frame: a maximum grows with the
    number of frames it is taken from, and learning sees only every `pool`-th.
    """

    def __init__(self, pool: int, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool activations."""
        x = self.dropout(x)
        mean = x.mean(dim=-1)
        spread = ((x - mean[..., None]).square().mean(dim=-1) + SPREAD_FLOOR).sqrt()
        return torch.cat([mean, spread, _peaks(x, self.pool).mean(dim=-1)], dim=1)


def _peaks(x: torch.Tensor, pool: int) -> torch.Tensor:
    """Greatest of every `pool`-th frame, (n, width, n_frames) to (n, width, pool); frames left over do not count."""
    n_left = x.shape[-1] // pool
    x = x[..., : n_left * pool]
    while n_left > 1:  # half against half: five times as fast as a maximum over strided memory
        half = n_left // 2 * pool
        x = torch.cat([torch.maximum(x[..., :half], x[..., half : 2 * half]), x[..., 2 * half :]], dim=-1)
        n_left = x.shape[-1] // pool
    return x


class HarmonicsNet(nn.Module):
    """The network behind the front end.

    Parameters
    ----------
    settings : Settings, optional
    front_end : FrontEnd
        Its band centres decide what a pitch class sees; its floor is where the bands' scale begins.
    n_classes : int
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self, settings: Settings | None = None, *, front_end: FrontEnd = FRONT_END, n_classes: int = len(LABELS)
    ) -> None:
        super().__init__()
        self.settings = settings = settings or Settings()
        self.front_end = front_end
        mask = blinders(front_end, settings=settings)
        width = len(mask) * settings.n_channels
        self.register_buffer("mean", torch.full((mask.shape[1], 1), front_end.floor / 2))
        self.register_buffer("spread", torch.full((mask.shape[1], 1), abs(front_end.floor) / 4))
        self.filters = PitchFilters(mask, settings.n_channels, compact=settings.compact)
        self.norm = nn.BatchNorm1d(width)
        self.relu = nn.ReLU()
        peak = settings.pooling == "peak"
        self.pool = (
            PeakPool(settings.pool, settings.dropout) if peak else StatisticsPool(settings.pool, settings.dropout)
        )
        self.head_dropout = nn.Dropout(settings.head_dropout)
        width = width if peak else 3 * width
        self.hidden = _hidden(width, settings) if settings.hidden else nn.Identity()
        self.linear = nn.Linear(settings.hidden or width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score compressed bands (n, n_mels, n_frames), n_frames at least `pool`, as logits (n, n_classes)."""
        logits: torch.Tensor = self.linear(self.hidden(self.pooled(x)))
        return logits

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Hear compressed bands (n, n_mels, n_frames) as what is left of time, (n, width)."""
        x = self.filters((x - self.mean) / self.spread)  # (n, 12 · n_channels, n_frames)
        heard: torch.Tensor = self.head_dropout(self.pool(self.relu(self.norm(x))))
        return heard

    def cool(self, temperature: float) -> None:
        """Divide the logits by a temperature for good: it goes into the linear layer, so nothing else has to know."""
        with torch.no_grad():
            self.linear.weight.div_(temperature)
            self.linear.bias.div_(temperature)


def _hidden(width: int, settings: Settings) -> nn.Module:
    """Make the layer between pooled activations and the last one."""
    return nn.Sequential(
        nn.Linear(width, settings.hidden),
        nn.BatchNorm1d(settings.hidden),
        nn.ReLU(),
        nn.Dropout(settings.head_dropout),
    )


def layers(model: NetworkModel) -> tuple[CamLayer, ...]:
    """Name the layer fit for class activation maps: the activations of each pitch class, per frame."""
    network = model.network
    if not isinstance(network, HarmonicsNet):
        raise OtoscopeError(f"need a HarmonicsNet, got {type(network).__name__}")
    groups = network.filters.mask.cpu().numpy()
    return (CamLayer("relu", network.relu, network.front_end.edges, groups, pitch.PITCH_CLASSES),)


def model(
    network: HarmonicsNet, *, n_samples: int = N_SAMPLES, device: str = "cpu", batch_size: int = BATCH_SIZE
) -> NetworkModel:
    """Put a network behind the predict interface."""
    return NetworkModel(
        network,
        Hearing(network.front_end.rate, n_samples, front_end=network.front_end),
        labels=LABELS,
        layers=layers,
        device=device,
        batch_size=batch_size,
    )


def card_input(front_end: FrontEnd = FRONT_END, *, n_samples: int = N_SAMPLES) -> dict[str, Any]:
    """Write the section ``[input]`` of a card."""
    stft = {"n_fft": front_end.stft.n_fft, "hop_length": front_end.stft.hop_length}
    heard = {"n_bands": front_end.n_bands, "reference": front_end.reference, "floor": front_end.floor, "stft": stft}
    return {"rate": front_end.rate, "n_samples": n_samples, "front_end": heard}


def from_card(card: Card, loading: Loading) -> NetworkModel:
    """Load a harmonics CNN from its model card.

    Raises
    ------
    OtoscopeError
        Naming the fault and the remedy.
    """
    if card.labels != LABELS:
        raise OtoscopeError(f"[model] labels must be {', '.join(LABELS)}")
    hearing, settings = card.hearing, card.settings(Settings)
    if hearing.front_end is None or hearing.n_samples is None:
        raise OtoscopeError("[input] needs n_samples and a front end; take the card that training wrote")
    network = HarmonicsNet(settings, front_end=hearing.front_end)
    if hearing.front_end.stft.n_frames(hearing.n_samples) < settings.pool:
        raise OtoscopeError(f"n_samples = {hearing.n_samples} is shorter than one pool of {settings.pool} frames")
    _load_weights(network, card.weights)
    return model(network, n_samples=hearing.n_samples, device=loading.device, batch_size=loading.batch_size)


def _load_weights(network: HarmonicsNet, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    remedy = "take the weights that belong to this card"
    mask = network.filters.mask.clone()
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise OtoscopeError(f"{path}: does not fit ({str(error).splitlines()[0]}); {remedy}") from None
    if not torch.equal(mask, network.filters.mask):
        raise OtoscopeError(f"{path}: was trained behind other blinders; {remedy}")
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise OtoscopeError(f"{path}: holds weights that are not finite; {remedy}")
