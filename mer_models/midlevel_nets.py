"""A2E, A2Mid2E and Joint: emotion from sound, and emotion from seven perceptual features heard in the sound.

After S. Chowdhury, A. Vall, V. Haunschmid and G. Widmer, "Towards Explainable Music Emotion Recognition: The Route via
Mid-level Features" (ISMIR 2019). Ten seconds of sound become a log-frequency spectrogram, 313 frames × 149 bands; nine
convolutions and an average over all places (`otoscope.mer_models.midlevel_layers`) make 256 numbers of it. What follows
is the *design*:

========  ============================================================  ====================
a2e       linear 256 → 8 emotions                                       4,986,440 parameters
a2mid     linear 256 → 7 mid-level features                             4,986,183
a2mid2e   a2mid, trained alone, then a linear map 7 → 8 found apart     4,986,247
joint     linear 256 → 7 → 8, both levels trained at once               4,986,247
========  ============================================================  ====================

(1,048,576 fewer where the last convolution is 1×1, as in the institute's later code.) Nothing non-linear stands between
the seven and the eight, so an emotion is Σ_j w_j·m_j + b exactly, and w_j·m_j is the *effect* of feature j;
`bottleneck` gives the mid-level model, w and b of an emotion model. Both are models of the same weights: which level
answers is ``answer`` in their cards. Scores are ratings times 0.1, as the paper scales them.

What the paper leaves open is a setting; our choices: frames every 706 samples, centred (31.25 a second at 22,050 Hz;
the institute's later code has 704, not centred), the filters, logarithm and symmetric window of madmom, which that code
uses. The front end compresses magnitudes, not powers, and nothing non-linear comes before it.

Shapes: input (n, 1, n_frames, n_bands); midlevel (n, 7); emotion (n, 8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from otoscope.adapters.camlayers import tapped
from otoscope.adapters.card import Card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.frontend import FrontEnd
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import BATCH_SIZE, CamLayer, Floats
from otoscope.adapters.network import NetworkModel, from_network
from otoscope.adapters.spectra import Stft
from otoscope.adapters.torch_model import fill, read_state
from otoscope.mer_models.midlevel_layers import LABELS, Level, MidlevelNet, Settings, map_sizes, places, too_small

RATE = 22050
N_SAMPLES = 10 * RATE
LAYOUT = ("items", "channels", "frames", "bands")
SETTINGS = (Settings,)
FRONT_END = FrontEnd(
    rate=RATE,
    stft=Stft(2048, 706, window="hann_symmetric"),
    filterbank="log",
    n_bands=24,
    fmin=20.0,
    fmax=16000.0,
    exponent=1,
    compression="log1p",
)
HEARING = Hearing(RATE, N_SAMPLES, front_end=FRONT_END, layout=LAYOUT)


def layers(model: NetworkModel) -> tuple[CamLayer, ...]:
    """List the layers fit for class activation maps, the deepest first: the activations behind each convolution."""
    network, front_end = model.network, model.hearing.front_end
    if not isinstance(network, MidlevelNet) or front_end is None:
        raise OtoscopeError(f"need a MidlevelNet behind a front end, got {type(network).__name__}")
    edges, hop = front_end.edges, front_end.stft.hop_length / front_end.rate
    sizes, found, n_bands = np.arange(len(edges)), [], len(edges) - 1
    for number, (first, step) in enumerate(places(network.settings), start=1):
        relu = network.features.get_submodule(f"relu{number}")
        n_rows = map_sizes(network.settings, n_bands)[number - 1]
        rows = np.interp(first + 0.5 - step / 2 + step * np.arange(n_rows + 1), sizes, edges)
        frames = ((first - step / 2) * hop, step * hop)
        found.append(tapped(f"relu{number}", relu, _turned, _turned_back, band_edges=rows, frames=frames))
    return tuple(reversed(found))


def _turned(x: torch.Tensor) -> torch.Tensor:
    """Turn (n, n_channels, n_frames, n_rows) into (n, n_channels, n_rows, n_frames)."""
    return x.transpose(2, 3)


def _turned_back(_output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.transpose(2, 3)


def model(
    network: MidlevelNet,
    *,
    answer: Level = "emotion",
    hearing: Hearing = HEARING,
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
) -> NetworkModel:
    """Put one level of a network behind the predict interface.

    Raises
    ------
    OtoscopeError
        If its design has no such level.
    """
    if answer not in network.settings.levels:
        raise OtoscopeError(f"design {network.settings.design} has no level {answer!r}; take another design or level")
    return NetworkModel(
        network,
        hearing,
        labels=LABELS[answer],
        output="regression",
        returns="scores",
        answer=answer,
        layers=layers,
        device=device,
        batch_size=batch_size,
    )


def bottleneck(emotion: NetworkModel) -> tuple[NetworkModel, Floats, Floats]:
    """Open an emotion model: what it hears on the lower level, and how it reads that.

    Parameters
    ----------
    emotion : NetworkModel
        Of design joint or a2mid2e.

    Returns
    -------
    midlevel : NetworkModel
        The mid-level model, of the same weights.
    weights : ndarray, shape (8, 7)
    biases : ndarray, shape (8,)
        Scores are ``midlevel scores @ weights.T + biases``.

    Raises
    ------
    OtoscopeError
        If there is no lower level in it.
    """
    network = emotion.network
    if not isinstance(network, MidlevelNet) or network.midlevel is None or network.emotion is None:
        raise OtoscopeError("this model has no mid-level features inside; take one of design joint or a2mid2e")
    head = network.emotion
    lower = model(
        network, answer="midlevel", hearing=emotion.hearing, device=emotion.device, batch_size=emotion.batch_size
    )
    weights, biases = (tensor.detach().cpu().double().numpy() for tensor in (head.weight, head.bias))
    return lower, weights, biases


def card_input(hearing: Hearing) -> dict[str, Any]:
    """Write the section ``[input]`` of a card."""
    heard = _stated(hearing.settings())
    heard["layout"] = list(LAYOUT)
    heard["front_end"].pop("rate")
    return heard


def _stated(table: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not set, which TOML cannot say."""
    return {k: _stated(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}


def from_card(card: Card, loading: Loading) -> NetworkModel:
    """Load one level of a network from its model card.

    Raises
    ------
    OtoscopeError
        Naming the fault and the remedy.
    """
    card.refuse("returns", "pool")
    settings, about = card.settings(Settings), card.model
    level = next((level for level in settings.levels if level == about.answer), None)
    if level is None:
        raise OtoscopeError(f"[model] answer must be {' or '.join(settings.levels)}, got {about.answer!r}")
    if card.labels != LABELS[level]:
        raise OtoscopeError(f"[model] labels must be {', '.join(LABELS[level])}, for they are what {level} answers")
    if about.output != "regression":
        raise OtoscopeError(f'[model] output must be "regression", got {about.output!r}')
    hearing = card.hearing
    if hearing.front_end is None or hearing.n_samples is None or hearing.layout != LAYOUT:
        raise OtoscopeError(f"[input] needs n_samples, a front end, and layout = {', '.join(LAYOUT)}")
    n_frames = hearing.front_end.n_frames or hearing.front_end.stft.n_frames(hearing.n_samples)
    n_bands = len(hearing.front_end.centres)
    if too_small(settings, n_frames, n_bands):
        raise OtoscopeError(f"[input] makes {n_frames} × {n_bands} cells, too few to outlast the pooling")
    network = MidlevelNet(settings)
    fill(network, read_state(card.weights, loading), card.weights)
    return from_network(card, loading, network, returns="scores", layers=layers)
