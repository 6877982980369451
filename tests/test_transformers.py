"""Models of transformers: its own pipeline's scores, tokens where the sound is, and every method explains them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.adapters import vendor_frontends
from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import Hearing
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import CamLayer
from otoscope.adapters.transformers_model import TransformersModel, from_folder
from otoscope.adapters.vendor_frontends import FAMILIES, LIMIT, difference
from otoscope.adapters.vendor_layers import token_field
from otoscope.adapters.windows import Windowed
from otoscope.explainers.explain import explain
from otoscope.explainers.gradcam import class_activation_map, find_layer
from otoscope.explainers.methods import Settings
from otoscope.explainers.targets import Target
from tests.builders import Float32, Floats, music
from tests.hf_models import LABELS, build

transformers: Any = pytest.importorskip("transformers")

RATE = 16_000
FIVE = ("audio-spectrogram-transformer", "wav2vec2", "hubert", "wavlm", "whisper")
KIN = ("data2vec-audio", "sew", "unispeech", "unispeech-sat", "wav2vec2-conformer")
SOUND = music(seconds=1.5, rate=RATE)
SETTINGS = {
    "lime": Settings(calls=128, n_parts=8),
    "occlusion": Settings(parts="grid", n_parts=6),
    "gradcam": Settings(n_parts=8),
    "saliency": Settings(n_parts=8),
    "smoothgrad": Settings(n_parts=8, n_draws=2),
    "integrated_gradients": Settings(n_parts=8),
}

Models = Callable[..., TransformersModel]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks on a busy machine: threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of small models, built once for each configuration."""
    built: dict[str, Path] = {}

    def folder(family: str, **config: Any) -> Path:
        key = json.dumps([family, config])
        if key not in built:
            built[key] = build(tmp_path_factory.mktemp(family), family, **config)
        return built[key]

    return folder


@pytest.fixture(scope="module")
def models(folders: Callable[..., Path]) -> Models:
    """Models of these folders, loaded once."""
    loaded: dict[Path, TransformersModel] = {}

    def model(family: str, **config: Any) -> TransformersModel:
        folder = folders(family, **config)
        if folder not in loaded:
            loaded[folder] = from_folder(folder, Loading())
        return loaded[folder]

    return model


@cache
def vendor(folder: Path) -> Any:
    return transformers.pipeline("audio-classification", model=str(folder), device="cpu")


def pipeline(folder: Path, sound: Float32) -> Floats:
    """Scores of transformers' own pipeline in the order of the classes."""
    pipe = vendor(folder)
    scores = {answer["label"]: answer["score"] for answer in pipe(sound, top_k=None)}
    return np.array([scores[pipe.model.config.id2label[i]] for i in range(len(scores))])


@pytest.mark.parametrize("family", [*FIVE, *KIN])
def test_scores_are_those_of_transformers_own_pipeline(
    family: str, models: Models, folders: Callable[..., Path]
) -> None:
    model = models(family)
    assert model.labels == LABELS
    for seconds in (1.5, 5.0) if family in FIVE else (1.5,):
        sound = music(seconds=seconds, rate=RATE, seed=1)
        heard = sound[: model.max_samples]  # the pipeline cuts what the AST does not hear, we take windows
        np.testing.assert_allclose(model.predict(heard[None])[0], pipeline(folders(family), sound), atol=1e-4)


@pytest.mark.parametrize("family", FIVE)
def test_scores_of_real_recordings_are_the_pipelines(
    family: str, models: Models, folders: Callable[..., Path], music: Path
) -> None:
    model = models(family)
    for name in ("speech", "ragtime"):
        sound = load_audio(music / f"{name}.ogg").at(RATE).cut(1.0, 1.9).samples
        np.testing.assert_allclose(model.predict(sound[None])[0], pipeline(folders(family), sound), atol=1e-4)


@pytest.mark.parametrize(
    ("problem", "output"),
    [
        ("single_label_classification", "softmax"),
        ("multi_label_classification", "sigmoid"),
        ("regression", "regression"),
    ],
)
def test_the_kind_of_problem_decides_the_activation(
    problem: str, output: str, models: Models, folders: Callable[..., Path]
) -> None:
    model = models("wav2vec2", problem_type=problem)
    assert model.output == output
    expected = pipeline(folders("wav2vec2", problem_type=problem), SOUND)
    np.testing.assert_allclose(model.predict(SOUND[None])[0], expected, atol=1e-4)


@pytest.mark.parametrize("family", [*FIVE, *KIN])
def test_the_front_end_in_torch_is_the_vendors(family: str, models: Models) -> None:
    model = models(family)
    assert model.front_end_difference is not None
    assert model.front_end_difference <= 1e-5 < LIMIT
    assert model.notes[-1].startswith(
        ("the front end in torch differs from the vendor's by at most", "the front end in")
    )
    assert model.gradients is model
    assert (model.spectrogram is not None) == (family in ("audio-spectrogram-transformer", "whisper"))


# The AST's own 128 bands are finer than its bins; that is how it was trained.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize(
    ("family", "name", "settings"),
    [
        ("audio-spectrogram-transformer", "AST", {"num_mel_bins": 32, "max_length": 50, "mean": 1.0, "std": 0.5}),
        ("audio-spectrogram-transformer", "AST", {"num_mel_bins": 80, "do_normalize": False}),
        ("wav2vec2", "Wav2Vec2", {"do_normalize": True, "sampling_rate": 8000}),
        ("wav2vec2", "Wav2Vec2", {"do_normalize": False}),
        ("whisper", "Whisper", {"feature_size": 128, "chunk_length": 5, "hop_length": 200, "n_fft": 512}),
    ],
)
def test_settings_are_the_extractors_not_assumed(family: str, name: str, settings: dict[str, Any]) -> None:
    extractor = getattr(transformers, f"{name}FeatureExtractor")(**settings)
    hearing = FAMILIES[family].hear(extractor)
    assert difference(hearing, extractor) < 1e-5
    other = FAMILIES[family].hear(getattr(transformers, f"{name}FeatureExtractor")())
    assert hearing != other


def test_dither_is_left_out(tmp_path: Path) -> None:
    folder = build(tmp_path, "whisper")
    edit(folder / "preprocessor_config.json", dither=0.01)
    model = from_folder(folder, Loading())
    assert any("dither" in note for note in model.notes)
    np.testing.assert_array_equal(model.predict(SOUND[None]), model.predict(SOUND[None]))


def edit(file: Path, **changes: Any) -> None:
    table = json.loads(file.read_text())
    file.write_text(json.dumps({**table, **changes}))


@pytest.mark.parametrize("family", FIVE)
def test_answers_repeat_and_do_not_hang_on_their_neighbours(family: str, tmp_path: Path) -> None:
    hostile: dict[str, Any] = {}
    if family != "audio-spectrogram-transformer":
        hostile = {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_min_masks": 2}
        hostile |= {"encoder_layerdrop": 0.9} if family == "whisper" else {"layerdrop": 0.9, "hidden_dropout": 0.5}
    model = from_folder(build(tmp_path, family, **hostile), Loading())
    network: Any = model.network
    network.train()
    several = np.stack([music(seconds=1.2, rate=RATE, seed=seed) for seed in range(5)])
    together = model.predict(several)
    np.testing.assert_array_equal(together, model.predict(several))
    alone = np.concatenate([model.predict(one[None]) for one in several])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert network.training
    assert np.ptp(together, axis=0).max() > 0.01  # they do hear something


# Where the tokens lie.


def seen(model: TransformersModel, layer: CamLayer, sound: Floats) -> torch.Tensor:
    """Look at what a tap shows, (n_channels, [n_rows,] n_frames)."""
    got: list[torch.Tensor] = []
    handle = layer.module.register_forward_hook(lambda _m, _i, output: got.append(output.detach()[0].double()))
    try:
        with torch.no_grad(), layer.watch():
            model.logits(torch.from_numpy(sound[None].astype(np.float32)))
    finally:
        handle.remove()
    assert len(got) == 1
    return got[0]


def ground(model: TransformersModel) -> tuple[Floats, Floats]:
    """Noise for the model to stand on, and its samples' times in seconds."""
    n_samples = min(2 * RATE, model.max_samples or 2 * RATE)
    return 0.1 * np.random.default_rng(0).standard_normal(n_samples), np.arange(n_samples) / RATE


@pytest.mark.parametrize("family", [*FIVE, "sew"])
def test_an_impulse_lands_in_its_cell(family: str, models: Models) -> None:
    model = models(family)
    noise, time = ground(model)
    burst = 0.5 * np.random.default_rng(1).standard_normal(len(time))
    assert model.layers()[0].name.endswith(
        {"audio-spectrogram-transformer": ".1", "whisper": "layers.1"}.get(family, ".2")
    )
    for layer in model.layers():
        assert layer.frames is not None
        first, step = layer.frames
        before = seen(model, layer, noise)
        off = []
        for at in (0.314, 0.62, 0.77, 1.2, 1.55, 1.713):
            impulse = noise + (np.abs(time - at) < 0.002) * burst
            moved = (seen(model, layer, impulse) - before).square().sum(0)
            moved = moved.sum(0) if moved.ndim == 2 else moved
            heard = moved[: int((time[-1] - first) / step)]  # a louder loudest cell lifts Whisper's padding
            off.append(int(heard.argmax()) + 0.5 - (at - first) / step)
        assert np.abs(off).max() <= 1.0, (layer.name, off)
        assert abs(np.mean(off)) <= 0.5, (layer.name, off)


@pytest.mark.parametrize("stride", [16, 8])
def test_a_tone_lands_in_its_row(stride: int, models: Models) -> None:
    """Exactly where patches lie side by side; where they overlap, a tone is in two of them."""
    ast = "audio-spectrogram-transformer"
    model = models(ast, frequency_stride=16, time_stride=16) if stride == 16 else models(ast)
    noise, time = ground(model)
    for layer in model.layers():
        edges = layer.band_edges
        assert edges is not None
        assert len(edges) == {16: 5, 8: 8}[stride]
        assert edges[0] < 40
        assert edges[-1] == RATE / 2
        before = seen(model, layer, noise)
        off = []
        for frequency in (150, 500, 950, 1500, 2600, 3500, 5000, 6500):
            moved = (seen(model, layer, noise + 0.5 * np.sin(2 * np.pi * frequency * time)) - before).square()
            off.append(int(moved.sum((0, 2)).argmax()) - int(np.searchsorted(edges, frequency) - 1))
        assert np.abs(off).max() <= (stride == 8), (layer.name, off)
        assert abs(np.mean(off)) < 0.5


def test_an_impulse_and_a_tone_burst_share_one_cell_of_the_ast(models: Models) -> None:
    model = models("audio-spectrogram-transformer")
    noise, time = ground(model)
    layer = model.layers()[0]
    edges, frames = layer.band_edges, layer.frames
    assert edges is not None
    assert frames is not None
    before = seen(model, layer, noise)
    for at, frequency in ((0.4, 4000), (1.3, 1500), (1.6, 6000)):
        burst = (np.abs(time - at) < 0.05) * np.sin(2 * np.pi * frequency * time)
        moved = (seen(model, layer, noise + burst) - before).square().sum(0)
        row, frame = divmod(int(moved.argmax()), moved.shape[1])
        assert edges[max(0, row - 1)] <= frequency <= edges[min(row + 2, len(edges) - 1)]
        assert abs(frame + 0.5 - (at - frames[0]) / frames[1]) <= 1


def test_what_a_token_of_wav2vec_sees_is_25_ms_every_20() -> None:
    assert token_field(transformers.Wav2Vec2Config()) == (400, 320)


def oracle(model: TransformersModel, name: str, tokens: slice) -> Floats:
    """Grad-CAM by hand: Σ_c α_c A_c with α_c the mean gradient over the tokens."""
    network: Any = model.network
    kept: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        tensor = (output[0] if isinstance(output, tuple) else output).detach().requires_grad_()
        kept.append(tensor)
        return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

    handle = network.get_submodule(name).register_forward_hook(keep, prepend=True)
    try:
        score = model.logits(torch.from_numpy(SOUND[None]))[0, 1]
    finally:
        handle.remove()
    gradient = torch.autograd.grad(score, kept[0])[0][0, tokens]
    return np.asarray((kept[0][0, tokens] @ gradient.mean(0)).detach().double().numpy())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("family", FIVE)
def test_maps_are_autograds_on_the_tokens(family: str, weighted: bool, models: Models) -> None:
    ast = family == "audio-spectrogram-transformer"
    model = models(family) if ast or not weighted else models(family, use_weighted_layer_sum=True)
    for layer in model.layers()[:2]:
        expected = oracle(model, layer.name, slice(2 if ast else 0, None))
        got = class_activation_map(Windowed(model, len(SOUND)), SOUND, Target(1, None, "tense"), layer).cells
        assert got.shape == ((1, 7, 19) if ast else (1, 1, len(expected)))
        assert np.abs(expected).max() > 1e-6
        np.testing.assert_allclose(got.ravel(), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("family", FIVE)
def test_a_tap_changes_nothing(family: str, models: Models) -> None:
    """Tokens come back in their order, special ones included."""
    model = models(family)
    network: Any = model.network
    for layer in model.layers():
        got: list[torch.Tensor] = []
        handle = network.get_submodule(layer.name).register_forward_hook(
            lambda _m, _i, output, got=got: got.append(output[0] if isinstance(output, tuple) else output)
        )
        try:
            plain = model.predict(SOUND[None])
            with layer.watch():
                np.testing.assert_array_equal(model.predict(SOUND[None]), plain)
        finally:
            handle.remove()
        assert torch.equal(*got)


# Explanations.


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("family", FIVE)
def test_every_method_explains_every_family(family: str, method: str, models: Models) -> None:
    model = models(family)
    hooks = count_hooks(model)
    got = explain(model, Audio(SOUND, RATE, "clip"), method=method, target="tense", settings=SETTINGS[method])
    assert np.abs(got.weights).max() > 0
    assert np.isfinite(got.map).all()
    assert got.map.shape == (108, 15)
    assert any("vendor's" in note for note in got.notes)
    assert count_hooks(model) == hooks


def count_hooks(model: TransformersModel) -> int:
    network: Any = model.network
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules())


@pytest.mark.parametrize("family", ["audio-spectrogram-transformer", "whisper"])
@pytest.mark.parametrize("off", ["silence", "noise"])
def test_the_bands_route_gives_the_same_scores(family: str, off: Any, models: Models) -> None:
    sound = music(seconds=2.6, rate=RATE)  # two windows of the AST
    settings = Settings(calls=64, n_parts=8, route="bands", off=off)
    got = explain(models(family), Audio(sound, RATE, "clip"), method="lime", settings=settings)
    assert got.route == "bands"
    apart = got.fidelity["route_difference"]
    assert apart is not None
    assert got.scores is not None
    assert 0 < apart < 0.01
    assert np.ptp(got.scores[:, 0]) > 0.01


@pytest.mark.parametrize("family", ["wav2vec2", "audio-spectrogram-transformer"])
def test_layers_are_chosen_by_name_and_hooks_removed_after_a_failure(family: str, models: Models) -> None:
    model = models(family)
    windowed = Windowed(model, len(SOUND))
    first = model.layers()[-1]
    assert find_layer(windowed, first.name).name == first.name
    hooks = count_hooks(model)
    with pytest.raises(RuntimeError, match="on the way"), first.watch():
        raise RuntimeError("on the way")
    assert count_hooks(model) == hooks


def test_fresh_weights_answer_otherwise_and_the_same_seed_the_same(models: Models) -> None:
    model = models("audio-spectrogram-transformer")
    fresh = model.randomised(3)
    assert fresh.fingerprint == model.randomised(3).fingerprint != model.randomised(4).fingerprint
    assert np.abs(fresh.predict(SOUND[None]) - model.predict(SOUND[None])).max() > 1e-3
    assert [layer.name for layer in fresh.layers()] == [layer.name for layer in model.layers()]


@pytest.mark.parametrize(("family", "shortest"), [("wav2vec2", 400), ("audio-spectrogram-transformer", 400)])
def test_too_short_a_sound_is_told(family: str, shortest: int, models: Models) -> None:
    model = models(family)
    assert np.isfinite(model.predict(SOUND[None, :shortest])).all()
    with pytest.raises(OtoscopeError, match=r"hears at least 400 samples \(0.025 s\), got 399"):
        model.predict(SOUND[None, : shortest - 1])


def test_long_spans_are_heard_in_windows(models: Models) -> None:
    assert models("audio-spectrogram-transformer").max_samples == 400 + 199 * 160
    assert models("whisper").max_samples == 30 * RATE
    assert models("wavlm").max_samples is None
    assert len(Windowed(models("audio-spectrogram-transformer"), 5 * RATE).starts) == 3


def test_padding_is_silence_behind_and_cuts_nothing_heard() -> None:
    hearing = Hearing(RATE, max_samples=5, pad_to=6)
    assert hearing(torch.ones(1, 4)).tolist() == [[1, 1, 1, 1, 0, 0]]
    with pytest.raises(OtoscopeError, match="pad_to = 4 would cut off"):
        Hearing(RATE, max_samples=5, pad_to=4)


# Through the vendor's own extractor.


def refused_gradients(model: TransformersModel, match: str) -> None:
    assert model.gradients is None
    assert model.spectrogram is None
    with pytest.raises(OtoscopeError, match=match):
        explain(model, Audio(SOUND, RATE, "clip"), method="gradcam")
    got = explain(model, Audio(SOUND, RATE, "clip"), method="occlusion", settings=SETTINGS["occlusion"])
    assert np.abs(got.weights).max() > 0
    assert any("vendor's own" in note for note in got.notes)


def test_an_unknown_family_answers_through_the_vendors_extractor(models: Models, folders: Callable[..., Path]) -> None:
    model = models("wav2vec2-bert")
    expected = pipeline(folders("wav2vec2-bert"), SOUND)
    np.testing.assert_allclose(model.predict(SOUND[None])[0], expected, atol=1e-4)
    refused_gradients(
        model, "no front end in torch is known for wav2vec2-bert models, so gradcam cannot explain it; use"
    )
    assert model.front_end_difference is None
    assert len(model.fingerprint) == 64
    with pytest.raises(OtoscopeError, match="the vendor's code refuses 10 samples"):
        model.predict(SOUND[None, :10])


@pytest.mark.parametrize(("constant", "value"), [("AST_PREEMPHASIS", 0.96), ("AST_FMIN", 30.0), ("AST_HOP", 170)])
def test_above_the_limit_the_vendors_extractor_is_used(
    constant: str, value: float, folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_frontends, constant, value)
    folder = folders("audio-spectrogram-transformer")
    model = from_folder(folder, Loading())
    assert model.front_end_difference is not None
    assert model.front_end_difference > LIMIT
    np.testing.assert_allclose(model.predict(SOUND[None])[0], pipeline(folder, SOUND), atol=1e-4)
    refused_gradients(model, r"the front end in torch differs from the vendor's by \S+, more than 0.001, so gradcam")


def test_a_vendor_that_changes_its_mind_is_noticed(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("transformers.models.wav2vec2.feature_extraction_wav2vec2")
    monkeypatch.setattr(
        module.Wav2Vec2FeatureExtractor,
        "zero_mean_unit_var_norm",
        staticmethod(lambda input_values, **_: [x * 3 for x in input_values]),
    )
    model = from_folder(folders("wav2vec2", feat_extract_norm="layer"), Loading())
    assert model.no_gradients is not None
    assert "more than 0.001" in model.no_gradients


def test_shapes_that_differ_are_infinitely_far_apart() -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    assert difference(Hearing(RATE, pad_to=RATE * 3), extractor) == float("inf")
