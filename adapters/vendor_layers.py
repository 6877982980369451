"""Where the tokens of transformers lie in seconds and hertz: their layers for class activation maps.

Tokens come as (n, n_tokens, dim). Each layer of the encoder is tapped (`otoscope.adapters.camlayers.tapped`) in the
layout (n, dim, n_frames), that of the AST in (n, dim, n_rows, n_frames), rows from low to high frequency, its class and
distillation tokens set aside and put back. Where a token lies follows from strides and sizes:

* wav2vec 2.0 and its kin: token t sees `seen` samples from t · `step` on, both from the convolutions (400 and 320, or
  25 ms every 20 ms); its cell is the `step` samples around the middle of what it sees.
* Whisper: token t is centred on frame 2t, for the second convolution has stride 2 and looks one frame to either side.
* AST: patches of `patch_size` bands × frames; a cell is one stride in either direction around the patch's middle, and
  the lowest and the highest row reach as far as their patches see.

The best layer comes first: the last one, for its gradient is nearest to the score. The head of the AST reads its two
special tokens only, so behind its last layer the gradient on all others is zero; its best layer is the last but one.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import nn

from otoscope.adapters.camlayers import tapped
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.model import CamLayer

AST_SPECIAL = 2  # tokens in front: class and distillation
ENCODER_LAYERS = re.compile(r"(?:^|\.)(?:encoder|audio_spectrogram_transformer)\.layers?\.\d+$")


def _encoder(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the layers of the encoder, the first first."""
    return [(name, module) for name, module in network.named_modules() if ENCODER_LAYERS.search(name)]


def ast_layers(network: nn.Module, hearing: Hearing) -> tuple[CamLayer, ...]:
    """Layers whose tokens are patches of frequency × time."""
    front_end = hearing.front_end
    if front_end is None:
        return ()
    config: Any = network.config
    size, step, row_step = config.patch_size, config.time_stride, config.frequency_stride
    n_rows = (config.num_mel_bins - size) // row_step + 1
    corners = row_step * np.arange(n_rows + 1) + (size - row_step) / 2  # in bands
    corners[0], corners[-1] = 0, (n_rows - 1) * row_step + size
    edges = np.interp(corners, np.arange(len(front_end.edges)), front_end.edges)
    hop, window = front_end.stft.hop_length, front_end.stft.length
    middle = ((size - 1) / 2 * hop + window / 2) / hearing.rate  # of the first patch
    seconds = step * hop / hearing.rate

    def arrange(tokens: torch.Tensor) -> torch.Tensor:
        patches: torch.Tensor = tokens[:, AST_SPECIAL:].unflatten(1, (n_rows, -1))
        return patches.permute(0, 3, 1, 2)  # (n, dim, n_rows, n_frames)

    def restore(tokens: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        return torch.cat([tokens[:, :AST_SPECIAL], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)

    inputs = [(name, module) for name, module in network.named_modules() if name.endswith(".embeddings")]
    places = [*inputs, *_encoder(network)[:-1]]
    frames = (middle - seconds / 2, seconds)
    return tuple(
        tapped(name, module, arrange, restore, band_edges=edges, frames=frames) for name, module in reversed(places)
    )


def token_field(config: Any) -> tuple[int, int]:
    """Count the samples that one token sees, and those from one to the next, from the convolutions' sizes and strides.

    SEW then takes the mean of `squeeze_factor` tokens.
    """
    seen, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        seen += (kernel - 1) * step
        step *= stride
    squeeze = getattr(config, "squeeze_factor", 1)
    return seen + (squeeze - 1) * step, step * squeeze


def waveform_layers(network: nn.Module, hearing: Hearing) -> tuple[CamLayer, ...]:
    """Layers of the networks that hear the waveform through strided convolutions."""
    seen, step = token_field(network.config)
    return _token_layers(network, ((seen - step) / 2 / hearing.rate, step / hearing.rate))


def whisper_layers(network: nn.Module, hearing: Hearing) -> tuple[CamLayer, ...]:
    """Layers of Whisper's encoder, whose tokens are two frames long."""
    if hearing.front_end is None:
        return ()
    step = 2 * hearing.front_end.stft.hop_length / hearing.rate
    return _token_layers(network, (-step / 2, step))


def _token_layers(network: nn.Module, frames: tuple[float, float]) -> tuple[CamLayer, ...]:
    """Layers whose tokens lie along time."""

    def arrange(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.transpose(1, 2)  # (n, dim, n_frames)

    def restore(_tokens: torch.Tensor, arranged: torch.Tensor) -> torch.Tensor:
        return arranged.transpose(1, 2)

    return tuple(tapped(name, module, arrange, restore, frames=frames) for name, module in reversed(_encoder(network)))
