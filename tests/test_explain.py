"""`explain` end to end: the span, the map, the evidence, the round trip, and what is said on the way."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.explainers import grid
from otoscope.explainers.evidence import choose_evidence
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation, Outcome, spread
from otoscope.explainers.makers import make_parts
from otoscope.explainers.methods import Settings, all_methods
from tests import reference
from tests.builders import (
    RATE,
    SELF_MADE,
    SOUNDS,
    Function,
    TinyImageNet,
    front_end,
    loudness,
    music,
    noise,
    tone,
    torch_model,
)

SAMPLES = music(seconds=1.5)
METHODS = sorted(name for name, entry in all_methods().items() if not entry.needs_two_level)  # test_two_level
FAST: dict[str, dict[str, Any]] = {
    "lime": {"calls": 64, "n_parts": 12},
    "occlusion": {"parts": "grid", "n_parts": 9},
    "ablation": {"n_parts": 12},
    "gradcam": {"n_parts": 12},
    "saliency": {"n_parts": 12},
    "smoothgrad": {"n_parts": 12, "n_draws": 4},
    "integrated_gradients": {"n_parts": 12},
    "guided_gradcam": {"n_parts": 12},
    "kernelshap": {"calls": 64, "n_parts": 12},
    "shapley": {"n_parts": 6},
    "rise": {"calls": 64, "n_parts": 9},
}

RELATIVE = ("gradcam", "saliency", "smoothgrad", "guided_gradcam")


def models() -> dict[str, Any]:
    return {
        "softmax": torch_model(),
        "sigmoid": torch_model(output="sigmoid"),
        "regression": torch_model(output="regression"),
        "windows": torch_model(n_samples=4000),
        "padded": torch_model(n_samples=16_000),
        "image": torch_model(TinyImageNet(3)),
        "other rate": torch_model(front_end=front_end(rate=11_025)),
        "callable": wrap(lambda x: np.concatenate([loudness(x), 1 - loudness(x)], axis=1), rate=RATE),
    }


def explained(model: Any, method: str = "lime", samples: Any = SAMPLES, **settings: Any) -> Explanation:
    asked: dict[str, Any] = {"target": 0}
    asked |= {
        key: settings.pop(key) for key in ("target", "seed", "start", "duration", "batch_size") if key in settings
    }
    own = Settings(**(FAST[method] | settings))
    return explain(model, Audio(samples, RATE, "clip"), method=method, settings=own, **asked)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", models())
def test_every_method_explains_every_kind_of_model(name: str, method: str) -> None:
    model = models()[name]
    if all_methods()[method].white_box and name == "callable":
        with pytest.raises(OtoscopeError, match="offers no gradients"):
            explained(model, method)
        return
    got = explained(model, method)
    assert (got.method, got.fingerprint, got.labels, got.output) == (
        method,
        model.fingerprint,
        model.labels,
        model.output,
    )
    assert got.target.name == model.labels[0]
    assert len(got.weights) == len(got.names) == len(got.energy)
    assert np.isfinite(got.weights).all()
    assert got.weights.any()
    assert got.map.shape == (108, 15)
    assert len(got.times) == 15
    assert got.map.sum() == pytest.approx(got.weights.sum(), abs=1e-6 * np.abs(got.weights).sum())
    assert got.span.start == 0
    assert got.span.duration == pytest.approx(1.5, abs=1e-3)
    assert got.heard.sum() == (grid.band_centres() < model.rate / 2).sum()
    assert not got.map[~got.heard][1:].any()  # the band that holds Nyquist may be half heard
    own = "score" if name == "regression" else "log-odds"
    assert got.units == ("relative" if method in RELATIVE else own)
    assert (got.gap is None) == (method in RELATIVE)
    assert (got.se is not None) == (method in ("lime", "kernelshap", "rise"))
    assert got.n_calls > 4
    assert got.seconds > 0
    assert got.audio_sha256 == Audio(SAMPLES, RATE).sha256
    assert {"otoscope", "torch", "numpy", "python"} <= set(got.versions)
    for sound in (got.evidence, got.complement, got.audio):
        assert len(sound.samples) == len(got.audio.samples)
        assert sound.rate == model.rate


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_arrays(method: str) -> None:
    model = torch_model()
    one, two = explained(model, method, seed=3), explained(model, method, seed=3)
    for name in ("weights", "map", "se", "masks", "scores", "chosen"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.evidence.samples, two.evidence.samples)
    assert one.round_trip == two.round_trip


def test_another_seed_asks_other_questions() -> None:
    one, two = (explained(torch_model(), seed=seed) for seed in (0, 1))
    assert one.masks is not None
    assert two.masks is not None
    assert not np.array_equal(one.masks, two.masks)


def test_the_order_of_explanations_does_not_matter() -> None:
    model = torch_model()
    first = explained(model, seed=0)
    np.random.default_rng(9).normal()
    explained(model, seed=7)
    np.testing.assert_array_equal(explained(model, seed=0).weights, first.weights)


def test_the_round_trip_is_the_models_own_answer() -> None:
    model = torch_model()
    got = explained(model)
    sounds = [SAMPLES, got.evidence.samples, got.complement.samples, np.zeros_like(SAMPLES)]
    scores = model.predict(np.stack(sounds))
    trip = got.round_trip
    for answer, row in zip((trip.original, trip.evidence, trip.complement, trip.off), scores, strict=True):
        assert answer.score == pytest.approx(row[0], abs=1e-6)
        assert answer.scaled == pytest.approx(np.log(row[0] / (1 - row[0])), abs=1e-4)
        assert answer.top == model.labels[row.argmax()]
    assert got.score == trip.original
    assert got.score_off == trip.off
    assert got.gap == pytest.approx(trip.original.scaled - trip.off.scaled - got.weights.sum())


def test_evidence_and_complement_are_the_recording_together() -> None:
    for method in METHODS:
        got = explained(torch_model(), method)
        np.testing.assert_allclose(got.evidence.samples + got.complement.samples, SAMPLES, atol=1e-5)
        chosen = got.parts.sounds[got.chosen] if got.groups is None else None
        if chosen is not None:
            np.testing.assert_allclose(got.evidence.samples, chosen.sum(axis=0), atol=1e-5)


@given(
    weights=st.lists(st.floats(-5, 5).map(lambda w: round(w, 3)), min_size=1, max_size=12),
    errors=st.lists(st.floats(0, 2), min_size=12, max_size=12),
    with_errors=st.booleans(),
)
def test_evidence_is_the_strongest_sure_parts_until_80_percent(
    weights: list[float], errors: list[float], with_errors: bool
) -> None:
    w = np.array(weights)
    se = np.array(errors[: len(w)]) if with_errors else None
    positive = sum(x for x in weights if x > 0)
    sure = [i for i in range(len(w)) if w[i] > 0 and (se is None or w[i] > 2 * se[i])]
    expected, reached = set(), 0.0
    for i in sorted(sure, key=lambda i: (-w[i], i)):
        if reached >= 0.8 * positive - 1e-9:
            break
        expected.add(i)
        reached += w[i]
    assert set(np.flatnonzero(choose_evidence(w, se))) == expected


def test_no_clear_evidence_is_said() -> None:
    got = explained(Function(lambda x: 1 - loudness(x)), calls=64)
    assert not got.chosen.any()
    assert "no part clearly speaks for the target, so the evidence is empty" in got.notes
    assert not got.evidence.samples.any()


@pytest.mark.parametrize("maker", ["grid", "superpixels", "hpss"])
@pytest.mark.parametrize("kind", ["music", "silence"])
def test_weights_are_spread_by_energy_and_by_area_where_there_is_none(maker: str, kind: str) -> None:
    from otoscope.adapters.spectra import Stft

    samples = SOUNDS[kind]()[:2000]
    parts = make_parts(Audio(samples, RATE), Stft(128, 64), maker=maker, n_parts=6)
    weights = np.random.default_rng(0).normal(size=parts.k)
    expected = reference.spread(
        weights.tolist(), [parts.share(part) for part in range(parts.k)], parts.power, RATE, len(samples), 128, 64
    )
    got = spread(Outcome(parts, weights, 0))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.sum() == pytest.approx(weights.sum(), abs=1e-6)


def test_overlapping_groups_are_spread_over_all_their_parts() -> None:
    from otoscope.adapters.spectra import Stft

    parts = make_parts(Audio(SAMPLES[:2000], RATE), Stft(128, 64), maker="grid", n_parts=9)
    groups = np.random.default_rng(0).integers(0, 2, size=(4, parts.k)).astype(bool)
    weights = np.array([1.0, -2.0, 3.0, 0.5])
    shares = [np.sum([parts.share(int(part)) for part in np.flatnonzero(row)], axis=0) for row in groups]
    expected = reference.spread(weights.tolist(), shares, parts.power, RATE, 2000, 128, 64)
    np.testing.assert_allclose(spread(Outcome(parts, weights, 0, groups=groups)), expected, atol=1e-6)


@pytest.mark.parametrize("end", [12.0, 11.337, 10.001, 25.4999])
@pytest.mark.parametrize("cue", [0.0, 0.6, 1.0])
def test_the_span_is_the_stretch_that_scores_highest(end: float, cue: float) -> None:
    """A cue at the beginning, within, or at the very end of a recording longer than ten seconds."""
    samples = noise(seconds=end, level=0.001)
    at = cue * (end - 1)
    samples += tone(700.0, seconds=end, start=max(at, 1e-3), stop=at + 1)[: len(samples)]
    got = explained(Function(loudness), "occlusion", samples, n_parts=4)
    assert got.span.duration == pytest.approx(10, abs=1e-3)
    assert got.span.start <= at + 0.05
    assert got.span.start + got.span.duration >= at + 0.95
    assert got.span.start + got.span.duration <= end + 1e-6
    assert got.times[0] == pytest.approx(got.span.start + 0.05)
    assert len(got.audio.samples) == 10 * RATE


def test_a_long_window_makes_a_long_span() -> None:
    got = explained(Function(loudness, n_samples=12 * RATE), "occlusion", noise(seconds=15), n_parts=4)
    assert got.span.duration == 12
    assert len(got.audio.samples) == 12 * RATE


def test_top_is_resolved_on_the_span() -> None:
    model = torch_model()
    got = explained(model, "occlusion", target="top")
    assert got.target.index == model.predict(SAMPLES[None])[0].argmax()


def test_a_span_can_be_chosen() -> None:
    got = explained(torch_model(), "occlusion", start=0.4, duration=0.5)
    assert (got.span.start, got.span.duration) == (0.4, 0.5)
    np.testing.assert_array_equal(got.audio.samples, SAMPLES[3200:7200])
    assert got.times[0] == pytest.approx(0.45)
    rest = explained(torch_model(), "occlusion", start=0.4)
    assert rest.span.duration == pytest.approx(1.1)
    searched = explained(torch_model(), "occlusion", duration=0.5)
    assert searched.span.duration == 0.5


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ({"start": 1.6}, r"clip: a span cannot start at 1\.6 s; the recording lasts 1\.50 s"),
        ({"start": -1}, "clip: a span cannot start at -1 s"),
        ({"start": 1.0, "duration": 0.7}, r"clip: a span of 0\.7 s from 1 s on does not fit"),
        ({"start": 1.0, "duration": 0.01}, r"a span of 0\.01 s cannot be explained; give 0\.05 to"),
        ({"duration": 100_000.0}, "a span of 100000 s cannot be explained"),
        ({"duration": 2.0}, r"clip: lasts 1\.50 s, less than the duration of 2 s"),
        ({"duration": 0.01}, r"a span of 0\.01 s cannot be explained"),
        ({"start": float("nan")}, "a span cannot start at nan s"),
    ],
)
def test_impossible_spans_are_refused(span: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        explained(torch_model(), "occlusion", **span)


UNUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gradcam", {"calls": 512}, "calls means nothing to gradcam; it is a setting of lime"),
    ("gradcam", {"half_width": 20.0}, "half_width means nothing to gradcam; it is a setting of occlusion"),
    ("occlusion", {"neighbourhood": "random"}, "neighbourhood means nothing to occlusion; it is a setting of lime"),
    ("occlusion", {"layer": "conv"}, "layer means nothing to occlusion; it is a setting of gradcam"),
    ("lime", {"notes": ("A4",)}, "notes means nothing to lime; it is a setting of occlusion"),
]


@pytest.mark.parametrize(("method", "settings", "reason"), UNUSED)
def test_settings_that_would_reach_nothing_are_refused(method: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        explained(torch_model(), method, **settings)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("lime", {"parts": "grid"}),
    ("lime", {"n_parts": 6}),
    ("lime", {"off": "mean"}),
    ("lime", {"off": "noise"}),
    ("lime", {"scale": "score"}),
    ("lime", {"clip": 0.45}),
    ("lime", {"calls": 128}),
    ("lime", {"neighbourhood": "random"}),
    ("lime", {"neighbourhood": "exhaustive", "n_parts": 5}),
    ("lime", {"domain": "bands"}),
    ("lime", {"route": "waveform"}),
    ("occlusion", {"parts": "harmonic", "n_parts": 64, "combs": "disjoint"}),
    ("occlusion", {"parts": None, "n_parts": 64, "notes": ("A3", "A4")}),
    ("occlusion", {"off": "mean"}),
    ("occlusion", {"scale": "score"}),
    ("ablation", {"parts": "grid"}),
    ("ablation", {"domain": "bands"}),
    ("ablation", {"route": "bands"}),
    ("kernelshap", {"calls": 128}),
    ("kernelshap", {"domain": "bands"}),
    ("kernelshap", {"route": "waveform"}),
    ("shapley", {"n_parts": 4}),
    ("shapley", {"domain": "bands"}),
    ("shapley", {"route": "waveform"}),
    ("rise", {"calls": 128}),
    ("rise", {"parts": "superpixels"}),
    ("rise", {"domain": "bands"}),
    ("rise", {"route": "waveform"}),
    ("gradcam", {"parts": "grid"}),
    ("gradcam", {"n_parts": 5}),
    ("saliency", {"off": "mean"}),
    ("saliency", {"scale": "score"}),
    ("smoothgrad", {"n_draws": 5}),
    ("smoothgrad", {"noise": 0.3}),
    ("integrated_gradients", {"n_steps": 5}),
    ("integrated_gradients", {"off": "noise"}),
    ("integrated_gradients", {"scale": "score"}),
    ("guided_gradcam", {"off": "mean"}),
]


@pytest.mark.parametrize(("method", "settings"), CHANGES, ids=str)
def test_every_setting_changes_something(method: str, settings: dict[str, Any]) -> None:
    plain, other = explained(torch_model(), method), explained(torch_model(), method, **settings)
    assert not np.array_equal(plain.weights, other.weights)
    assert other.settings != plain.settings
    assert {key: other.settings[key] for key in settings} == settings


@pytest.mark.parametrize("setting", [{"half_width": 20.0}, {"n_harmonics": 2}, {"octaves": (4, 5)}])
def test_every_setting_of_the_combs_changes_something(setting: dict[str, Any]) -> None:
    plain = explained(torch_model(), "occlusion", parts=None, n_parts=64)
    other = explained(torch_model(), "occlusion", parts=None, n_parts=64, **setting)
    assert not np.allclose(plain.weights, other.weights)


@pytest.mark.parametrize("render", ["pinv", "nnls"])
def test_evidence_can_be_rendered_from_the_models_own_bands(render: Any) -> None:
    model = torch_model(front_end=front_end(n_fft=512, hop=128, n_bands=60))
    masked = explained(model, domain="bands")
    got = explained(model, domain="bands", render=render)
    np.testing.assert_array_equal(got.weights, masked.weights)
    assert not np.array_equal(got.evidence.samples, masked.evidence.samples)
    assert np.isfinite(got.evidence.samples).all()
    assert np.corrcoef(got.evidence.samples, masked.evidence.samples)[0, 1] > 0.7
    assert np.std(got.evidence.samples) == pytest.approx(np.std(masked.evidence.samples), rel=0.3)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (Function(loudness), {"domain": "bands"}, "declares no spectrogram; use --domain stft"),
        (torch_model(), {"render": "pinv"}, "use them with --domain bands"),
        (torch_model(), {"domain": "mel"}, "unknown domain 'mel'"),
        (torch_model(), {"domain": "bands", "parts": "hpss"}, "hpss parts are cut from the STFT"),
        (torch_model(output="regression"), {"scale": "log_odds"}, "log-odds exist for probabilities only"),
        (torch_model(), {"parts": "grid", "n_parts": 36}, "64 calls are too few for 36 parts"),
        (torch_model(), {"target": "clam"}, "unknown target 'clam': did you mean 'calm'"),
        (torch_model(output="regression"), {"target": "top"}, "'top' means nothing for several values"),
        (Function(lambda x: loudness(x)[:, 0]), {}, r"scores of shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        explained(model, samples=noise(seconds=1.5), **settings)


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(OtoscopeError, match="unknown method 'limes': did you mean 'lime'"):
        explain(torch_model(), Audio(SAMPLES, RATE), method="limes")


@pytest.mark.parametrize("method", METHODS)
def test_silence_is_explained_and_it_is_said(method: str) -> None:
    got = explained(torch_model(), method, np.zeros(RATE, dtype=np.float32))
    assert "the recording is digital silence" in got.notes
    assert np.isfinite(got.weights).all()
    assert np.isfinite(got.map).all()
    assert got.map.sum() == pytest.approx(got.weights.sum(), abs=1e-9)
    if method != "gradcam":
        np.testing.assert_allclose(got.weights, 0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_clipped_audio_is_explained_and_it_is_said(method: str) -> None:
    got = explained(torch_model(), method, np.clip(20 * SAMPLES, -1, 1))
    assert any("the recording is clipped" in note for note in got.notes)
    assert np.isfinite(got.weights).all()


def test_padding_is_said() -> None:
    assert "padded with 0.50 s of silence to the model's window" in explained(torch_model(n_samples=16_000)).notes


def test_clipped_probabilities_are_said() -> None:
    got = explained(Function(lambda x: (loudness(x) > 0.62).astype(float)))
    assert got.fidelity["clipped"] == 1
    assert "100% of the scores were clipped before the logarithm" in got.notes


@pytest.mark.parametrize("maker", SELF_MADE)
def test_lime_explains_with_every_part_maker(maker: str) -> None:
    got = explained(torch_model(), parts=maker, n_parts=16)
    few = got.parts.k <= 4  # all combinations, too few to compare the routes on
    assert got.route == ("waveform" if few else "bands")
    assert got.settings["parts"] == maker
    assert got.fidelity["r2"] is not None


def test_the_strongest_and_the_shortest() -> None:
    got = explained(torch_model(), "occlusion")
    sizes = np.abs(got.weights)[got.strongest(4)]
    assert sizes[0] == np.abs(got.weights).max()
    assert (np.diff(sizes) <= 0).all()
    short = explained(torch_model(), "occlusion", noise(seconds=0.06))
    assert short.map.shape == (108, 1)


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    explain(
        Function(loudness),
        Audio(SAMPLES, RATE),
        settings=Settings(**FAST["lime"]),
        progress=lambda *now: told.append(now),
        batch_size=10,
    )
    assert told[0] == (0, 64)
    assert told[-1] == (64, 64)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": "loud"}, "unknown scale"),
        ({"clip": float("nan")}, "clip must lie"),
        ({"calls": 10**12}, "calls must lie"),
        ({"half_width": 1e9}, "half_width must lie"),
        ({"n_harmonics": 10**6}, "n_harmonics must lie"),
        ({"octaves": (8, 1)}, "octaves are the first and the last"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OtoscopeError, match=words):
        Settings(**settings)


def test_what_is_no_recording_or_no_seed_is_refused() -> None:
    model = wrap(lambda x: np.abs(x).mean(1, keepdims=True), rate=8000, output="regression")
    with pytest.raises(OtoscopeError, match="load_audio"):
        explain(model, "song.ogg")  # type: ignore[arg-type]
    with pytest.raises(OtoscopeError, match="seed"):
        explain(model, Audio(np.ones(8000, dtype=np.float32), 8000), seed=-1)
