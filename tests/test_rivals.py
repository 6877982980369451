"""The rivals and the ablations: sizes as published, masks of equal size, features that mean what they say."""

import numpy as np
import pytest
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.blinders import Settings, blinders
from otoscope.mer_models.handcrafted import RHYTHM, consonance, describe_windows, names, rhythm
from otoscope.mer_models.harmonics import FRONT_END, N_SAMPLES, RATE, HarmonicsNet
from otoscope.mer_models.rivals import RIVAL_FRONT_END, SHAPES, STRIDE, HybridNet, RivalNet
from tests.builders import SOUNDS, noise, tone

MASKS = ("harmonic", "random", "regular", "all")


def parameters(network: torch.nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize("filters", SHAPES)
def test_rivals_have_five_to_ten_million_parameters(filters: str) -> None:
    network = RivalNet(filters)  # type: ignore[arg-type]
    assert 5_000_000 <= parameters(network) <= 10_000_000
    assert network.eval()(torch.zeros(2, 256, RIVAL_FRONT_END.stft.n_frames(N_SAMPLES))).shape == (2, 4)


def test_unknown_filters_are_named() -> None:
    with pytest.raises(OtoscopeError, match="unknown filters 'sqare': did you mean 'square'"):
        RivalNet("sqare")  # type: ignore[arg-type]


def test_rivals_hear_every_fourth_frame_of_the_shared_front_end() -> None:
    sound = torch.from_numpy(noise(seconds=6, rate=RATE)[None])
    torch.testing.assert_close(RIVAL_FRONT_END(sound), FRONT_END(sound)[..., ::STRIDE])


@pytest.mark.parametrize("mask", MASKS)
def test_ablations_have_the_size_of_the_harmonics_cnn(mask: str) -> None:
    assert parameters(HarmonicsNet(Settings(mask=mask))) == 100_996  # type: ignore[arg-type]


def test_masks_keep_as_many_bands_and_others() -> None:
    masks = {mask: blinders(FRONT_END, settings=Settings(mask=mask)) for mask in MASKS}  # type: ignore[arg-type]
    kept = masks["harmonic"].sum(axis=1)
    assert (masks["random"].sum(axis=1) == kept).all()
    assert (masks["regular"].sum(axis=1) == kept).all()
    assert masks["all"].all()
    overlap = (masks["harmonic"] & masks["random"]).sum() / kept.sum()
    assert overlap < 0.25  # of 28 to 32 bands in 256, an eighth by chance
    for row in masks["regular"]:
        assert set(np.diff(np.flatnonzero(row)).tolist()) <= {7, 8, 9, 10, 11}
    assert (masks["random"] == blinders(FRONT_END, settings=Settings(mask="random"))).all()
    with pytest.raises(OtoscopeError, match="unknown mask"):
        Settings(mask="harmonics")  # type: ignore[arg-type]


def test_the_hybrid_listens_to_both() -> None:
    network = HybridNet(HarmonicsNet(), np.random.default_rng(0).standard_normal((20, 7))).eval()
    x, features = torch.randn(2, 256, 64), torch.randn(2, 7)
    answers = [network(x, features), network(x + 5, features), network(x, features + 1)]
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])
    assert parameters(network) == 100_996 + 4 * 7


@pytest.mark.parametrize("sound", SOUNDS)
def test_features_are_finite_on_every_sound(sound: str) -> None:
    found = describe_windows(SOUNDS[sound]()[None], RATE)
    assert found.shape == (1, len(names()))
    assert np.isfinite(found).all()


def test_rhythm_is_that_of_clicks() -> None:
    clicks = np.zeros(6 * RATE, dtype=np.float32)
    for beat in range(12):  # 120 a minute
        start = beat * RATE // 2
        clicks[start : start + 1000] = noise(seconds=1, rate=RATE)[:1000] * np.exp(-np.arange(1000) / 200)
    regular = dict(zip(RHYTHM, rhythm(clicks, RATE), strict=True))
    steady = dict(zip(RHYTHM, rhythm(tone(440.0, seconds=6, rate=RATE), RATE), strict=True))
    assert regular["tempo"] == pytest.approx(120, rel=0.05)
    assert regular["pulse"] > 0.6
    assert regular["onsets per second"] == pytest.approx(2, abs=0.4)
    assert regular["mean onset strength"] > 3 * steady["mean onset strength"]


def test_a_cluster_is_rougher_than_a_triad() -> None:
    def chord(*pitches: int) -> float:
        time = np.arange(3 * RATE) / RATE
        partials = [440 * 2 ** ((pitch - 69) / 12) * n for pitch in pitches for n in range(1, 7)]
        return float(
            consonance(np.sum([np.sin(2 * np.pi * f * time) / 40 for f in partials], axis=0, dtype=np.float32), RATE)[0]
        )

    assert chord(60, 61, 66) > 1.5 * chord(60, 64, 67)
