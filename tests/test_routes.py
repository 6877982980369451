"""Routes: the bands route gives the answers of the waveform route."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from otoscope.adapters.errors import OtoscopeError
from otoscope.explainers import routes
from otoscope.explainers.makers import cut
from otoscope.explainers.neighbourhoods import make_masks
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import bands_scorer, score_masks, waveform_scorer
from otoscope.explainers.surrogate import fit
from otoscope.explainers.targets import Target, on_scale
from tests import reference
from tests.builders import RATE, WAYS, Function, front_end, loudness, music, noise, request, torch_model

SAMPLES = music(seconds=1.2)


def asked(off: Any = "silence", *, domain: str = "stft", maker: str = "superpixels", **settings: Any) -> Any:
    """Make a windowed model and parts of the recording."""
    model = torch_model(**settings)
    one = request(model, SAMPLES)
    whole = one.whole.with_(off=off)
    if domain == "bands":
        whole = whole.with_(filters=model.hearing.front_end.weights if model.hearing.front_end else None)
    return one.model, cut(whole, maker, 16)


def masks_for(parts: Parts, calls: int = 64) -> Any:
    return make_masks("design", parts.k, max(calls, 4 * parts.k), 0)


@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
@pytest.mark.parametrize(("maker", "domain"), WAYS)
def test_both_routes_give_the_same_scores_and_ranks(maker: str, domain: str, off: str) -> None:
    model, parts = asked(off, domain=domain, maker=maker)
    masks = masks_for(parts)
    waveform = score_masks(model, parts, masks, route="waveform")
    bands = score_masks(model, parts, masks, route="bands")
    assert (waveform.route, bands.route) == ("waveform", "bands")
    assert waveform.difference is None
    assert bands.difference is not None
    assert bands.difference < 1e-3
    assert np.abs(bands.scores - waveform.scores).max() < 1e-3
    assert waveform.n_calls == len(masks)
    assert bands.n_calls == len(masks) + 32
    if parts.k > 3:
        weights = [
            fit(masks, on_scale(one.scores, Target(0, None, "calm"), "softmax", "log_odds"), "design").weights
            for one in (waveform, bands)
        ]
        assert spearmanr(*weights).statistic > 0.99


@pytest.mark.parametrize("n_samples", [4000, 3000, 16_000])
@pytest.mark.parametrize("off", ["silence", "mean"])
def test_both_routes_agree_over_windows_and_padding(n_samples: int, off: str) -> None:
    model, parts = asked(off, n_samples=n_samples)
    got = score_masks(model, parts, masks_for(parts), route="bands")
    expected = score_masks(model, parts, masks_for(parts), route="waveform")
    assert got.route == "bands"
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-3)


@pytest.mark.parametrize(
    "hears",
    [
        {"compression": "decibels", "reference": 1.0},
        {"compression": "log", "floor": 1e-4},
        {"filterbank": "log", "n_bands": 8},
        {"filterbank": "none"},
        {"center": False},
        {"n_fft": 400, "hop": 160},
    ],
    ids=str,
)
def test_both_routes_agree_behind_other_front_ends(hears: dict[str, Any]) -> None:
    from otoscope.adapters.frontend import FrontEnd
    from otoscope.adapters.spectra import Stft

    if "center" in hears:
        heard = FrontEnd(RATE, Stft(512, 256, center=False), n_bands=24, compression="log1p", reference=10.0)
    else:
        heard = front_end(**hears)
    model, parts = asked(front_end=heard)
    got = score_masks(model, parts, masks_for(parts))
    assert got.route == "bands"
    assert got.difference is not None
    assert got.difference < 1e-3
    expected = waveform_scorer(model, parts)(masks_for(parts))
    np.testing.assert_allclose(got.scores, expected, atol=2e-3)


@pytest.mark.parametrize("off", ["silence", "mean"])
def test_bands_of_a_mix_are_those_of_its_sound(off: str) -> None:
    """The products of parts against an STFT of the composed sound."""
    model, parts = asked(off)
    masks = np.random.default_rng(0).integers(0, 2, size=(6, parts.k)).astype(np.uint8)
    seen: list[torch.Tensor] = []
    spectrogram = model.spectrogram

    def listen(bands: torch.Tensor) -> Any:
        seen.append(bands.clone())
        return np.zeros((len(bands), 3))

    spectrogram.predict_bands = listen
    bands_scorer(spectrogram, parts)(masks)
    for mask, got in zip(masks, seen[0].numpy(), strict=True):
        sound = parts.compose(mask[None])[0]
        expected = reference.band_energies(sound, front_end().weights, n_fft=512, hop=256)
        assert np.abs(got - expected).max() < 2e-3 * expected.max()


def test_auto_takes_bands_where_they_are_offered_and_worth_it() -> None:
    model, parts = asked()
    assert score_masks(model, parts, masks_for(parts)).route == "bands"
    assert score_masks(model, parts, masks_for(parts)[:31]).route == "waveform"


def test_a_difference_above_the_tolerance_goes_back_to_the_waveform(monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = asked()
    masks = masks_for(parts)
    monkeypatch.setattr(routes, "TOLERANCE", -1.0)
    got = score_masks(model, parts, masks)
    assert got.route == "waveform"
    assert got.difference is not None
    assert got.difference >= 0
    assert got.n_calls == len(masks) + 16 * (1 + len(routes.LIMITS))
    np.testing.assert_allclose(got.scores, waveform_scorer(model, parts)(masks), atol=1e-6)


def test_a_model_that_hears_far_below_its_loudest_cell_takes_the_finer_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decibels with a range of 100 dB and a steep network: leaving out faint cross-energies would show."""
    model, parts = asked(front_end=front_end(compression="decibels", floor=-120.0, top=100.0))
    masks = masks_for(parts)
    both = [bands_scorer(model.spectrogram, parts, limits)(masks) for limits in routes.LIMITS]
    away = [float(np.abs(scores - waveform_scorer(model, parts)(masks)).max()) for scores in both]
    assert away[1] < away[0] / 2
    monkeypatch.setattr(routes, "TOLERANCE", (away[0] + away[1]) / 2)
    got = score_masks(model, parts, masks)
    assert got.route == "bands"
    np.testing.assert_allclose(got.scores, both[1], atol=1e-9)


def test_a_model_that_breaks_its_promise_is_found_out() -> None:
    """The declared spectrogram is not what `predict` hears."""
    model, parts = asked()
    model.model.predict = lambda x: np.repeat(loudness(x), 3, axis=1) / 3
    got = score_masks(model, parts, masks_for(parts))
    assert got.route == "waveform"
    assert got.difference is not None
    assert got.difference > routes.TOLERANCE


def test_exponent_1_has_no_bands_route() -> None:
    model, parts = asked(front_end=front_end(exponent=1))
    assert score_masks(model, parts, masks_for(parts)).route == "waveform"
    with pytest.raises(OtoscopeError, match="declares no power spectrogram, so the bands route is closed"):
        score_masks(model, parts, masks_for(parts), route="bands")


def test_a_function_has_no_bands_route() -> None:
    one = request(Function(loudness), SAMPLES)
    parts = cut(one.whole, "grid", 9)
    assert score_masks(one.model, parts, masks_for(parts)).route == "waveform"
    with pytest.raises(OtoscopeError, match="use --route waveform"):
        score_masks(one.model, parts, masks_for(parts), route="bands")
    with pytest.raises(OtoscopeError, match="unknown route 'band': did you mean 'bands'"):
        score_masks(one.model, parts, masks_for(parts), route="band")  # type: ignore[arg-type]


@pytest.mark.parametrize("route", ["waveform", "bands"])
def test_batches_change_nothing_and_progress_is_told(route: Any) -> None:
    model, parts = asked()
    masks = masks_for(parts)
    told: list[tuple[int, int]] = []
    whole = score_masks(model, parts, masks, route=route, batch_size=1000)
    got = score_masks(model, parts, masks, route=route, batch_size=20, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(got.scores, whole.scores, atol=1e-5)
    assert told == [(0, 64), (20, 64), (40, 64), (60, 64), (64, 64)]


def test_memory_is_bounded_by_the_batch() -> None:
    sizes = []

    def listen(waveforms: Any) -> Any:
        sizes.append(len(waveforms))
        return loudness(waveforms)

    one = request(Function(listen), noise(seconds=0.3))
    parts = cut(one.whole, "grid", 9)
    score_masks(one.model, parts, masks_for(parts), batch_size=8)
    assert max(sizes) == 8


@pytest.mark.parametrize("samples", [np.zeros(4000, dtype=np.float32), noise(seconds=0.06)], ids=["silence", "short"])
@pytest.mark.parametrize("off", ["silence", "mean"])
def test_silence_and_very_short_sounds_take_the_bands_route_too(samples: Any, off: Any) -> None:
    one = request(torch_model(), samples)
    parts = cut(one.whole.with_(off=off), "grid", 9)
    got = score_masks(one.model, parts, masks_for(parts), route="bands")
    assert got.difference is not None
    assert got.difference < 1e-3
