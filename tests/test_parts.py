"""Parts: every way of taking a recording apart gives the recording back."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.filterbanks import mel_filterbank
from otoscope.adapters.pitch import PITCH_CLASSES, note_frequency
from otoscope.adapters.spectra import Stft
from otoscope.explainers.combs import comb_parts
from otoscope.explainers.makers import MAKERS, STFT_ONLY, cut, make_parts, picture, rows, soft_masks, undivided
from otoscope.explainers.merge import merge_smallest, neighbours
from otoscope.explainers.parts import Parts
from tests import reference
from tests.builders import RATE, SELF_MADE, SOUNDS, WAYS, front_end, music, noise, tone

STFT = Stft(512, 256)


@lru_cache
def sound(name: str) -> Any:
    return SOUNDS[name]()


def whole(samples: Any, *, filtered: bool = False, **settings: Any) -> Parts:
    parts = undivided(Audio(samples, RATE), STFT, **settings)
    return parts.with_(filters=front_end().weights) if filtered else parts


def spectrum(samples: Any) -> Any:
    return reference.stft(samples, n_fft=512, hop=256)


@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize(("maker", "domain"), WAYS)
def test_all_parts_together_are_the_recording(maker: str, kind: str, domain: str, off: str) -> None:
    undivided_sound = whole(sound(kind), filtered=domain == "bands", off=off)
    for n_parts in (13, 64):
        parts = MAKERS[maker](undivided_sound, n_parts)
        np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], sound(kind), atol=1e-5)
        assert 1 <= parts.k <= n_parts
        assert parts.sounds.shape == (parts.k, len(sound(kind)))
        assert parts.labels.shape == parts.power.shape
        assert set(np.unique(parts.labels)) <= set(range(parts.k))
        assert len(set(parts.names)) == parts.k
        start, end, low, high = parts.extents.T
        assert ((start >= 0) & (start <= end) & (end <= parts.audio.seconds + 1e-9)).all()
        assert ((low >= 0) & (low <= high) & (high <= RATE / 2)).all()
        assert parts.energy.sum() == pytest.approx(0 if kind == "silence" else 1, abs=1e-5)
        if "remainder" in parts.names and maker not in ("harmonic", "pitch"):
            assert parts.energy[parts.names.index("remainder")] <= 0.05


@pytest.mark.parametrize("maker", SELF_MADE)
@settings(max_examples=12)
@given(
    n_samples=st.integers(1, 4000),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "clicks", "tones", "steps"]),
    level=st.sampled_from([1e-20, 1e-6, 0.1, 1.0]),
    n_parts=st.integers(1, 20),
)
def test_any_sound_is_the_sum_of_its_parts(
    maker: str, n_samples: int, seed: int, kind: str, level: float, n_parts: int
) -> None:
    rng = np.random.default_rng(seed)
    samples = {
        "noise": rng.standard_normal(n_samples),
        "clicks": (rng.uniform(size=n_samples) < 0.003) * 1.0,
        "tones": np.sin(np.arange(n_samples) * rng.uniform(0.05, 3)) * (np.arange(n_samples) > n_samples // 3),
        "steps": np.sign(np.sin(np.arange(n_samples) / 700)),
    }[kind]
    scaled = (level * samples).astype(np.float32)
    n_parts = max(13, n_parts) if maker == "harmonic" else n_parts
    parts = cut(undivided(Audio(scaled, RATE), Stft(512, 128)), maker, n_parts)
    np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], scaled, atol=1e-5)
    assert 1 <= parts.k <= n_parts
    assert len(set(parts.names)) == parts.k
    assert np.isfinite(parts.extents).all()
    if parts.shares is not None:
        np.testing.assert_allclose(parts.shares.sum(axis=0), 1, atol=1e-5)


def test_a_hop_too_wide_for_the_way_back_does_not_lose_sound() -> None:
    samples = music(seconds=1.0)
    for n_fft, hop in ((512, 512), (512, 400), (256, 256)):
        parts = make_parts(Audio(samples, RATE), Stft(n_fft, hop), maker="grid", n_parts=9)
        np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], samples, atol=1e-5)


def test_soft_masks_of_a_very_short_recording_are_those_of_plain_medians() -> None:
    """Where its filter is wider than the sound, the median filter of scipy reads beyond its memory."""
    for _ in range(20):
        np.full(10_000, np.nan, dtype=np.float32)
        parts = MAKERS["hpss"](whole(sound("very short")), 2)
        assert parts.shares is not None
        magnitude = np.sqrt(parts.power)
        assert magnitude.shape[1] == 2
        padded = np.pad(magnitude, ((0, 0), (1, 1)), mode="symmetric")
        smooth = np.median([padded[:, i : i + 2] for i in range(3)], axis=0)
        tall = np.pad(magnitude, ((15, 15), (0, 0)), mode="symmetric")
        sharp = np.median([tall[i : i + len(magnitude)] for i in range(31)], axis=0)
        np.testing.assert_allclose(parts.shares[0], smooth**2 / (smooth**2 + sharp**2), atol=1e-5)


@pytest.mark.parametrize("maker", SELF_MADE)
def test_parts_are_where_their_cells_are(maker: str) -> None:
    parts = MAKERS[maker](whole(sound("music")), 20)
    for part in range(0, parts.k, 5):
        expected = reference.istft(
            spectrum(sound("music")) * parts.share(part), len(sound("music")), n_fft=512, hop=256
        )
        np.testing.assert_allclose(parts.sounds[part], expected, atol=1e-5)
        bins, frames = np.nonzero(parts.share(part))
        step, width = 256 / RATE, RATE / 512
        start, end, low, high = parts.extents[part]
        assert start == pytest.approx(max(0, (frames.min() - 0.5) * step))
        assert end == pytest.approx(min(parts.audio.seconds, (frames.max() + 0.5) * step))
        assert low == pytest.approx(max(0, (bins.min() - 0.5) * width))
        assert high == pytest.approx(min(RATE / 2, (bins.max() + 0.5) * width))


@pytest.mark.parametrize("off", ["silence", "mean", "noise"])
def test_a_mix_is_the_sum_of_what_is_on_and_what_stands_in(off: Any) -> None:
    parts = make_parts(Audio(sound("music"), RATE), STFT, maker="grid", n_parts=16, off=off, seed=5)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, size=(3, parts.k))
    off_sounds = np.zeros_like(parts.sounds) if parts.offs is None else parts.offs
    got = parts.compose(masks)
    for row, mask in zip(got, masks, strict=True):
        expected = sum(parts.sounds[j] if on else off_sounds[j] for j, on in enumerate(mask))
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_everything_off_is_silence_by_default() -> None:
    parts = make_parts(Audio(sound("music"), RATE), STFT, n_parts=20)
    assert not parts.compose(np.zeros((1, parts.k))).any()


def test_mean_has_the_time_mean_spectrum_and_the_original_phase() -> None:
    parts = make_parts(Audio(sound("music"), RATE), STFT, maker="grid", n_parts=9, off="mean")
    off = parts.compose(np.zeros((1, parts.k)))[0]
    original = spectrum(sound("music"))
    target = np.abs(original).mean(axis=1, keepdims=True) * np.exp(1j * np.angle(original))
    np.testing.assert_allclose(off, reference.istft(target, len(off), n_fft=512, hop=256), atol=1e-5)
    steady = tone(1000.0)
    held = make_parts(Audio(steady, RATE), STFT, maker="grid", n_parts=4, off="mean")
    np.testing.assert_allclose(held.compose(np.zeros((1, held.k)))[0][1000:-1000], steady[1000:-1000], atol=0.02)


def test_noise_has_the_mean_spectrum_and_a_seeded_phase() -> None:
    def off(seed: int) -> Any:
        parts = make_parts(Audio(sound("noise"), RATE), STFT, maker="grid", n_parts=9, off="noise", seed=seed)
        return parts.compose(np.zeros((1, parts.k)))[0]

    np.testing.assert_array_equal(off(1), off(1))
    assert np.abs(np.corrcoef(off(1), off(2))[0, 1]) < 0.1
    assert np.abs(np.corrcoef(off(1), sound("noise"))[0, 1]) < 0.1
    ratio = np.abs(spectrum(off(1))).mean(axis=1) / np.abs(spectrum(sound("noise"))).mean(axis=1)
    assert np.median(ratio) == pytest.approx(0.75, abs=0.2)  # overlapping frames of random phase cancel in part


@pytest.mark.parametrize("maker", ["felzenszwalb", "slic", "watershed"])
def test_segments_follow_the_sound(maker: str) -> None:
    samples = tone(500.0, start=0.0, stop=0.4) + tone(2000.0, start=0.6) + noise(level=0.0005)
    parts = make_parts(Audio(samples, RATE), STFT, maker=maker, n_parts=30)
    early = parts.labels[round(500 * 512 / RATE), round(0.2 * RATE / 256)]
    late = parts.labels[round(2000 * 512 / RATE), round(0.8 * RATE / 256)]
    assert early != late
    assert parts.energy[early] > 0.1
    assert parts.energy[late] > 0.1


def test_pictures_go_from_0_to_1_over_80_decibels() -> None:
    image = picture(whole(sound("music")))
    assert image.shape[0] == rows(whole(sound("music"))).max() + 1
    assert image.max() == pytest.approx(1, abs=1e-6)
    assert image.min() >= -1e-6
    louder = picture(whole(2 * sound("music")))
    np.testing.assert_allclose(louder, image, atol=1e-5)
    assert not picture(whole(sound("silence"))).any()
    faint = picture(whole(tone(500.0) + 0.01 * tone(2000.0)))
    row = rows(whole(sound("music")))
    assert faint[row[round(2000 * 512 / RATE)], 15] == pytest.approx(0.5, abs=0.07)  # 40 of 80 dB down


def test_grids_are_equal_rectangles() -> None:
    parts = make_parts(Audio(noise(seconds=2), RATE), STFT, maker="grid", n_parts=16)
    assert parts.k == 16
    widths = (parts.extents[:, 1] - parts.extents[:, 0]).reshape(4, 4)
    np.testing.assert_allclose(widths, 0.5, atol=0.04)
    assert make_parts(Audio(noise(seconds=2), RATE), STFT, maker="grid", n_parts=1).k == 1


def test_hpss_separates_tones_from_clicks() -> None:
    clicks = np.zeros(RATE, dtype=np.float32)
    clicks[::2000] = 1.0
    parts = make_parts(Audio(tone(1000.0) + clicks, RATE), STFT, maker="hpss")
    harmonic, percussive = parts.sounds
    assert np.corrcoef(harmonic, tone(1000.0))[0, 1] > 0.95
    assert np.corrcoef(percussive, clicks)[0, 1] > 0.9


@pytest.mark.parametrize("note", ["C4", "F#5", "A3", "B6"])
def test_a_note_lands_in_its_pitch_class(note: str) -> None:
    samples = tone(note_frequency(note), rate=22050)
    parts = make_parts(Audio(samples, 22050), Stft(4096, 1024), maker="harmonic")
    assert parts.names == (*PITCH_CLASSES, "remainder")
    assert parts.names[int(parts.energy.argmax())] == note.rstrip("0123456789")
    assert parts.energy.max() > 0.75


@pytest.mark.parametrize(("frequency", "name"), [(49.0, "G"), (20.0, "remainder")])
def test_low_notes_count_from_c1_on(frequency: float, name: str) -> None:
    parts = make_parts(Audio(tone(frequency, rate=RATE, seconds=3), RATE), Stft(8192, 2048), maker="harmonic")
    assert parts.names[int(parts.energy.argmax())] == name


@pytest.mark.parametrize("notes", [(), ("A3",), ("A3", "E4", "C#6")])
def test_combs_are_unions_of_atoms(notes: tuple[str, ...]) -> None:
    audio = Audio(music(rate=22050), 22050)
    stft = Stft(4096, 1024)
    parts = comb_parts(undivided(audio, stft), notes=notes, half_width=40, n_harmonics=6, octaves=(2, 6))
    assert parts.groups is not None
    assert parts.group_names == (notes or PITCH_CLASSES)
    assert parts.groups.shape == (len(parts.group_names), parts.k)
    for row, members in enumerate(parts.groups):
        if notes:
            teeth = [note_frequency(notes[row]) * h for h in range(1, 7)]
        else:
            teeth = reference.series(row, (2, 6), 6)
        expected = reference.comb(stft.frequencies(22050), teeth, 40)
        got = np.isin(parts.labels[:, 0], np.flatnonzero(members))
        np.testing.assert_array_equal(got, expected)
    unclaimed = ~parts.groups.any(axis=0)
    assert [name == "remainder" for name in parts.names] == unclaimed.tolist()
    np.testing.assert_allclose(parts.compose(np.ones((1, parts.k)))[0], audio.samples, atol=1e-5)


@pytest.mark.parametrize(("half_width", "n_harmonics"), [(0, 8), (-1, 8), (50, 0)])
def test_impossible_combs_are_refused(half_width: float, n_harmonics: int) -> None:
    with pytest.raises(OtoscopeError, match="half_width > 0 and n_harmonics ≥ 1"):
        comb_parts(whole(sound("noise")), half_width=half_width, n_harmonics=n_harmonics)


@pytest.mark.parametrize("fmin", [0.0, 300.0])
def test_soft_masks_are_the_formula_and_add_up_to_one(fmin: float) -> None:
    filters = mel_filterbank(RATE, 512, n_mels=20, fmin=fmin, fmax=3500)[0]
    segments = np.random.default_rng(0).integers(0, 5, size=(20, 7))
    shares = soft_masks(segments, filters)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-6)
    covered = filters.sum(axis=0) > 1e-9
    assert len(shares) == 6  # bins outside every filter are a last part
    np.testing.assert_array_equal(shares[5], np.repeat(~covered[:, None], 7, axis=1))
    for part in range(5):
        for frame in range(7):
            chosen = (segments[:, frame] == part).astype(float)
            for b in np.flatnonzero(covered)[::9]:
                expected = sum(filters[i, b] * chosen[i] for i in range(20)) / sum(filters[i, b] for i in range(20))
                assert shares[part, b, frame] == pytest.approx(expected, abs=1e-6)


def test_parts_of_the_bands_domain_hold_what_no_band_covers() -> None:
    heard = front_end(fmin=200.0, fmax=3000.0)
    filtered = undivided(Audio(sound("music"), RATE), STFT).with_(filters=heard.weights)
    parts = MAKERS["superpixels"](filtered, 20)
    assert parts.k <= 20
    assert parts.names[-1] == "remainder"
    assert parts.shares is not None
    bins = STFT.frequencies(RATE)
    assert (parts.shares[-1][(bins < 190) | (bins > 3010)] == 1).all()
    assert not parts.shares[-1][(bins > 300) & (bins < 2800)].any()


@pytest.mark.parametrize("n_parts", [1, 2, 5, 40])
def test_merging_joins_the_smallest_with_the_most_similar_neighbour(n_parts: int) -> None:
    rng = np.random.default_rng(n_parts)
    segments = np.kron(np.arange(36).reshape(6, 6), np.ones((2, 3), dtype=int))
    image = rng.uniform(size=36)[segments]
    merged = merge_smallest(segments, image, n_parts)
    assert len(np.unique(merged)) == min(36, n_parts)
    np.testing.assert_array_equal(np.unique(merged), np.arange(len(np.unique(merged))))
    for segment in range(36):
        assert len(np.unique(merged[segments == segment])) == 1  # never torn apart


def test_merging_by_hand() -> None:
    segments = np.array([[0, 0, 0, 1, 2, 2, 2, 2]])
    image = np.array([[0.0, 0.0, 0.0, 0.8, 1.0, 1.0, 1.0, 1.0]])
    assert merge_smallest(segments, image, 2).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert neighbours(segments) == [{1}, {0, 2}, {1}]


def test_segments_that_touch_nothing_stay() -> None:
    assert merge_smallest(np.zeros((3, 3), dtype=int), np.zeros((3, 3)), 1).max() == 0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"maker": "superpixel"}, "unknown part maker 'superpixel': did you mean 'superpixels'"),
        ({"n_parts": 0}, "need at least one part, got n_parts=0"),
        ({"off": "silent"}, "unknown off value 'silent': did you mean 'silence'"),
        ({"maker": "harmonic", "n_parts": 12}, "give n_parts of 13 or more, not 12"),
    ],
)
def test_impossible_parts_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(OtoscopeError, match=reason):
        make_parts(Audio(sound("noise"), RATE), STFT, **settings)


@pytest.mark.parametrize("maker", sorted(STFT_ONLY))
def test_parts_that_need_the_stft_are_refused_in_the_bands_domain(maker: str) -> None:
    with pytest.raises(OtoscopeError, match=f"{maker} parts are cut from the STFT; use --domain stft"):
        cut(whole(sound("noise"), filtered=True), maker, 64)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 0), ()])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    parts = make_parts(Audio(sound("noise"), RATE), STFT, maker="hpss")
    with pytest.raises(OtoscopeError, match=r"for 2 parts; need \(n, 2\)"):
        parts.compose(np.ones(shape))


def test_one_part_is_the_recording_itself() -> None:
    parts = make_parts(Audio(sound("music"), RATE), STFT, n_parts=1)
    assert parts.k == 1
    np.testing.assert_allclose(parts.part(0).samples, sound("music"), atol=1e-5)


def test_extents_count_from_the_start_of_the_recording() -> None:
    early, late = (
        MAKERS["grid"](undivided(Audio(sound("music"), RATE), STFT, start=start), 9) for start in (0.0, 20.0)
    )
    np.testing.assert_allclose(late.extents - early.extents, np.tile([20, 20, 0, 0], (9, 1)))
    assert "20.0-20.5 s" in late.names[0]
