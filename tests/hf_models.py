"""Small transformers folders with random weights: every family's architecture at a thousandth of its size.

The head's weights are drawn wide and its bias so that noise scores the same for every class: scores of different
sounds then differ as a trained model's do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

LABELS = ("calm", "tense", "sad")
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
FRAMES = 200  # of the AST: 2 s


def _ast(transformers: Any, **config: Any) -> tuple[Any, Any]:
    settings = {"num_mel_bins": 64, "max_length": FRAMES, "time_stride": 10, "frequency_stride": 8, **SMALL, **config}
    extractor = transformers.ASTFeatureExtractor(num_mel_bins=64, max_length=FRAMES, mean=-5.0, std=3.9)
    return transformers.ASTConfig(**settings), extractor


def _wav2vec(name: str) -> Callable[..., tuple[Any, Any]]:
    def build(transformers: Any, **config: Any) -> tuple[Any, Any]:
        settings = {
            "conv_dim": (16,) * 7,
            "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
            "conv_stride": (5, 2, 2, 2, 2, 2, 2),
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "classifier_proj_size": 16,
            "vocab_size": 16,
            **SMALL,
            **config,
        }
        normalises = settings.get("feat_extract_norm") == "layer"
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalises, return_attention_mask=normalises)
        return getattr(transformers, f"{name}Config")(**settings), extractor

    return build


def _whisper(transformers: Any, **config: Any) -> tuple[Any, Any]:
    settings = {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "num_mel_bins": 40,
        "classifier_proj_size": 16,
        "vocab_size": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        **config,
    }
    return transformers.WhisperConfig(**settings), transformers.WhisperFeatureExtractor(feature_size=40)


def _wav2vec_bert(transformers: Any, **config: Any) -> tuple[Any, Any]:
    settings = {"feature_projection_input_dim": 32, "add_adapter": False, "classifier_proj_size": 16, "vocab_size": 16}
    extractor = transformers.SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16, stride=2)
    return transformers.Wav2Vec2BertConfig(**{**SMALL, **settings, **config}), extractor


FAMILIES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "audio-spectrogram-transformer": _ast,
    "wav2vec2": _wav2vec("Wav2Vec2"),
    "hubert": _wav2vec("Hubert"),
    "wavlm": _wav2vec("WavLM"),
    "whisper": _whisper,
    "data2vec-audio": _wav2vec("Data2VecAudio"),
    "unispeech": _wav2vec("UniSpeech"),
    "unispeech-sat": _wav2vec("UniSpeechSat"),
    "wav2vec2-conformer": _wav2vec("Wav2Vec2Conformer"),
    "sew": _wav2vec("SEW"),
    "wav2vec2-bert": _wav2vec_bert,
}


def build(folder: Path, family: str, *, seed: int = 0, labels: tuple[str, ...] = LABELS, **config: Any) -> Path:
    """Build a model of a family with random weights and save it as its vendor would.

    Parameters
    ----------
    folder : Path
    family : str
        A key of `FAMILIES`.
    seed : int
    labels : tuple of str
    **config
        What differs in its configuration.

    Returns
    -------
    Path
        The folder.
    """
    transformers: Any = import_module("transformers")
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    about, extractor = FAMILIES[family](transformers, **names, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForAudioClassification.from_config(about)
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "parametrizations" not in name:
                torch.nn.init.normal_(weights, std=1.0 / weights[0].numel() ** 0.5)
        _centre(model.eval(), extractor)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def _centre(model: Any, extractor: Any) -> None:
    """Widen the head and let it score noise evenly."""
    head = getattr(model.classifier, "dense", model.classifier)
    noise = 0.1 * torch.randn(16_000).numpy()
    with torch.no_grad():
        head.weight *= 10
        head.bias -= model(**extractor(noise, sampling_rate=16_000, return_tensors="pt")).logits[0]
