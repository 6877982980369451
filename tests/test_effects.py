"""The linear level: what it finds where the truth is known, and the Shapley value written again over all orders."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.explainers.effects import Effects, load_effects
from otoscope.explainers.level_one import box, to_arrays, to_table
from otoscope.explainers.linear import Level, fit_level, folds_by_recording, held_out, least_squares
from otoscope.explainers.shares import Ints, r2_shares
from otoscope.explainers.targets import resolve_target

NAMES = ("melodiousness", "articulation", "minorness")


def drawn(n: int = 240, d: int = 3, *, seed: int = 0, mixed: float = 0.6) -> tuple[Floats, Ints]:
    """Correlated features (n, d) of spans, three of each recording."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, d)) @ (np.eye(d) + mixed * rng.normal(size=(d, d)))
    return own * rng.uniform(0.01, 100, d) + rng.normal(size=d), np.arange(n) // 3


def r2_plain(x: Floats, y: Floats, subset: tuple[int, ...]) -> float:
    """R² of some columns, by scikit-learn."""
    from sklearn.linear_model import LinearRegression

    if not subset:
        return 0.0
    chosen = x[:, list(subset)]
    return float(LinearRegression().fit(chosen, y).score(chosen, y))


def shares_by_all_orders(x: Floats, y: Floats) -> Floats:
    """Mean gain in R² of each feature over all orders in which the features may come in."""
    d = x.shape[1]
    shares = np.zeros(d)
    for order in permutations(range(d)):
        for place, feature in enumerate(order):
            before = order[:place]
            shares[feature] += r2_plain(x, y, (*before, feature)) - r2_plain(x, y, before)
    return shares / factorial(d)


@pytest.mark.parametrize(("d", "seed"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_the_shares_are_the_mean_gain_over_all_orders(d: int, seed: int) -> None:
    x, recordings = drawn(d=d, seed=seed)
    y = x @ np.random.default_rng(seed).normal(size=d) / x.std() + np.random.default_rng(9).normal(size=len(x))
    shares, _ = r2_shares(x, y[:, None], recordings, n_resamples=5)
    np.testing.assert_allclose(shares[0], shares_by_all_orders(x, y), atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), d=st.integers(1, 7), level=st.floats(0, 5))
def test_the_shares_add_up_to_r2_and_are_never_negative_on_their_sum(seed: int, d: int, level: float) -> None:
    x, recordings = drawn(120, d, seed=seed)
    rng = np.random.default_rng(seed)
    y = x @ (rng.normal(size=d) / x.std(axis=0)) + level * rng.normal(size=len(x))
    shares, intervals = r2_shares(x, y[:, None], recordings, n_resamples=20)
    assert shares.sum() == pytest.approx(r2_plain(x, y, tuple(range(d))), abs=1e-6)
    assert (shares > -1e-9).all()  # more features never explain less
    assert (intervals[..., 0] <= intervals[..., 1]).all()


def test_uncorrelated_features_get_their_squared_correlations() -> None:
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(300, 4)) - 0.0)[0]
    x = np.linalg.qr(x - x.mean(axis=0))[0]  # orthogonal and centred
    y = x @ [3.0, 0.0, -1.0, 2.0] + 0.1 * rng.normal(size=300)
    shares, _ = r2_shares(x, y[:, None], np.arange(300), n_resamples=5)
    np.testing.assert_allclose(shares[0], [np.corrcoef(one, y)[0, 1] ** 2 for one in x.T], atol=1e-7)


def test_copies_share_alike_and_a_feature_that_does_not_vary_gets_nothing() -> None:
    x, recordings = drawn(d=2)
    y = x[:, 0] + 0.1 * x[:, 0].std() * np.random.default_rng(1).normal(size=len(x))
    twice = np.column_stack([x[:, 0], x[:, 0], x[:, 1], np.full(len(x), 3.7)])
    shares, _ = r2_shares(twice, y[:, None], recordings, n_resamples=20)
    assert shares[0, 0] == pytest.approx(shares[0, 1], abs=1e-6)
    assert shares[0, 0] > 0.4
    assert abs(shares[0, 3]) < 1e-12
    weights, bias = least_squares(twice, y[:, None])
    assert weights[0, 0] == pytest.approx(weights[1, 0])
    assert weights[3, 0] == 0
    assert np.isfinite(bias).all()


def test_a_score_that_does_not_vary_has_no_r2_and_no_shares() -> None:
    x, recordings = drawn()
    level = fit_level(x, np.full(len(x), 0.3), recordings, NAMES)
    assert level.r2 is None
    assert not level.shares.any()
    np.testing.assert_allclose(level.weights, 0, atol=1e-12)
    assert level.bias == pytest.approx(0.3)


def test_intervals_hold_the_share_and_shrink_with_more_recordings() -> None:
    widths = []
    for n in (150, 2400):
        x, recordings = drawn(n, seed=5)
        y = x[:, 0] / x[:, 0].std() + np.random.default_rng(2).normal(size=n)
        shares, intervals = r2_shares(x, y[:, None], recordings)
        assert (intervals[0, 0, 0] < shares[0, 0]) & (shares[0, 0] < intervals[0, 0, 1])
        widths.append(float(np.diff(intervals[0, 0])[0]))
    assert widths[1] < widths[0] / 2.5  # a quarter, were it not for chance


def test_intervals_know_that_spans_of_a_recording_are_alike() -> None:
    x, _ = drawn(60, seed=5)
    y = x[:, 0] / x[:, 0].std() + np.random.default_rng(2).normal(size=60)
    many, values = np.repeat(x, 8, axis=0), np.repeat(y, 8)[:, None]
    together = r2_shares(many, values, np.repeat(np.arange(60), 8))[1]
    apart = r2_shares(many, values, np.arange(480))[1]
    assert np.diff(together[0, 0])[0] > 2 * np.diff(apart[0, 0])[0]


def test_the_bootstrap_is_that_of_drawn_recordings() -> None:
    x, recordings = drawn(60, 2, seed=3)
    y = x[:, 0] / x[:, 0].std() + np.random.default_rng(2).normal(size=60)
    _, intervals = r2_shares(x, y[:, None], recordings, n_resamples=40, seed=7)
    counts = np.random.default_rng(7).multinomial(20, np.full(20, 1 / 20), size=40)
    rows = [np.concatenate([np.flatnonzero(recordings == one) for one in np.repeat(np.arange(20), c)]) for c in counts]
    plain = np.array([shares_by_all_orders(x[row], y[row]) for row in rows])
    expected = np.percentile(plain, [2.5, 97.5], axis=0).T
    np.testing.assert_allclose(intervals[0], expected, atol=1e-6)


def test_a_linear_score_is_found_exactly() -> None:
    x, recordings = drawn()
    level = fit_level(x, x @ [0.5, -2.0, 0.0] + 4, recordings, NAMES)
    np.testing.assert_allclose(level.weights, [0.5, -2.0, 0.0], atol=1e-9)
    assert level.bias == pytest.approx(4)
    assert level.r2 == pytest.approx(1)
    assert level.r2_fitted == pytest.approx(1)
    values = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(level.effects(values), [0.5, -4, 0], atol=1e-8)
    np.testing.assert_allclose(level.centred(values), [0.5, -2, 0] * (values - x.mean(axis=0)), atol=1e-7)
    assert level.remainder(values, 0.5 - 4 + 4 + 0.25) == pytest.approx(0.25, abs=1e-7)
    np.testing.assert_allclose(level.remainders, 0, atol=1e-6)


def test_a_score_that_has_nothing_to_do_with_the_features_has_no_r2() -> None:
    x, recordings = drawn(900)
    level = fit_level(x, np.random.default_rng(4).normal(size=900), recordings, NAMES)
    assert level.r2 is not None
    assert -0.05 < level.r2 < 0.02
    assert level.r2_fitted > level.r2  # what was fitted is always flattered


def test_centred_effects_and_remainder_add_up_to_the_distance_from_the_mean() -> None:
    x, recordings = drawn()
    y = x @ [0.5, -2.0, 0.1] + np.random.default_rng(1).normal(size=len(x))
    level = fit_level(x, y, recordings, NAMES)
    for row, score in zip(x[:5], y[:5], strict=True):
        total = level.centred(row).sum() + level.remainder(row, float(score))
        assert total == pytest.approx(score - y.mean(), abs=1e-7)


def test_held_out_means_that_no_recording_is_on_both_sides() -> None:
    recordings = np.repeat(np.arange(23), 5)
    folds = folds_by_recording(recordings, n_folds=10, seed=1)
    assert len(set(folds)) == 10
    assert all(len(set(folds[recordings == one])) == 1 for one in range(23))
    assert not np.array_equal(folds, folds_by_recording(recordings, n_folds=10, seed=2))
    # Each recording has a feature of its own: within the recording it tells all, beyond it nothing.
    x = np.repeat(np.random.default_rng(0).normal(size=(30, 8)), 10, axis=0)
    y = np.repeat(np.random.default_rng(1).normal(size=30), 10)[:, None]
    _, by_recording = held_out(x, y, np.repeat(np.arange(30), 10))
    _, by_span = held_out(x, y, np.arange(300))
    assert by_span[0] > by_recording[0] + 0.1


def test_held_out_r2_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    x, recordings = drawn(90)
    y = x[:, 0] / x[:, 0].std() + np.random.default_rng(1).normal(size=90)
    residuals, _ = held_out(x, y[:, None], recordings, seed=3)
    split = PredefinedSplit(folds_by_recording(recordings, n_folds=10, seed=3))
    np.testing.assert_allclose(y - residuals[:, 0], cross_val_predict(LinearRegression(), x, y, cv=split), atol=1e-9)


def test_a_turned_sign_is_told() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=300)
    x = np.column_stack([one, one + 0.3 * rng.normal(size=300), rng.normal(size=300)])
    level = fit_level(x, 2 * x[:, 0] - x[:, 1] + x[:, 2], np.arange(300), NAMES)
    assert level.with_score[1] > 0
    assert level.weights[1] < 0
    assert level.turned == ("articulation",)
    assert fit_level(x, x[:, 0] + x[:, 2], np.arange(300), NAMES).turned == ()


def test_ranks_and_boxes() -> None:
    x, recordings = drawn()
    level = fit_level(x, x[:, 0], recordings, NAMES)
    np.testing.assert_allclose(level.ranks(x.min(axis=0) - 1), 0)
    np.testing.assert_allclose(level.ranks(x.max(axis=0) + 1), 1)
    np.testing.assert_allclose(level.ranks(np.median(x, axis=0)), 0.5, atol=0.01)


def test_boxes_are_those_of_matplotlib() -> None:
    from matplotlib.cbook import boxplot_stats

    for seed in range(5):
        values = np.random.default_rng(seed).standard_t(2, size=101)
        (expected,) = boxplot_stats(values)
        keys = ("whislo", "q1", "med", "q3", "whishi")
        np.testing.assert_allclose(box(values), [expected[key] for key in keys])


def some_level() -> Level:
    x, recordings = drawn()
    return fit_level(x, x @ [0.5, -2.0, 0.1] + np.random.default_rng(1).normal(size=len(x)), recordings, NAMES)


def test_the_table_tells_what_the_arrays_hold() -> None:
    level, values = some_level(), np.array([1.0, 2.0, 3.0])
    arrays = to_arrays(level, values, 7.0, 1)
    table = to_table(arrays)
    assert table["feature"] == "articulation"
    assert [row["name"] for row in table["features"]] == list(NAMES)
    assert [row["effect"] for row in table["features"]] == pytest.approx(level.effects(values))
    assert table["remainder"] == pytest.approx(7 - level.bias - level.effects(values).sum())
    assert table["r2"] == pytest.approx(level.r2)
    assert arrays["boxes"].shape == (4, 5)
    assert (np.diff(arrays["boxes"], axis=1) >= 0).all()
    assert all(row["share_low"] <= row["share"] <= row["share_high"] for row in table["features"])


def effects(n: int = 120, **changes: Any) -> Effects:
    x, recordings = drawn(n)
    p = 1 / (1 + np.exp(-(x[:, 0] / x[:, 0].std())))
    scores = np.column_stack([0.8 * p, 0.8 * (1 - p), np.full(n, 0.2)])
    plain: dict[str, Any] = {
        "features": x,
        "scores": scores,
        "recordings": recordings,
        "names": NAMES,
        "labels": ("calm", "tense", "sad"),
        "output": "softmax",
        "fingerprint": "a" * 64,
        "midlevel": "b" * 64,
        "corpus": "c" * 64,
        "seconds": 10.0,
        "about": "a corpus",
        "notes": ("left out: one.ogg",),
    }
    return Effects(**(plain | changes))


def test_effects_come_back_as_they_were_and_the_same_bytes_twice(tmp_path: Path) -> None:
    one = effects()
    path = one.save(tmp_path / "deep" / "x-effects.npz")
    two = load_effects(path)
    for name in ("features", "scores", "recordings"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("names", "labels", "output", "fingerprint", "midlevel", "corpus", "seconds", "about", "notes"):
        assert getattr(one, name) == getattr(two, name)
    assert path.read_bytes() == effects().save(tmp_path / "again.npz").read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["x-effects.npz"]


def test_a_level_is_fitted_on_the_scale_and_for_the_contrast_that_is_asked() -> None:
    one = effects()

    def level(target: str, scale: Any = "log_odds", **settings: Any) -> Level:
        return one.level(resolve_target(target, one.labels, one.output), scale, **settings)

    p = one.scores
    x = one.features
    contrast = np.log(p[:, 0]) - np.log(p[:, 1])
    np.testing.assert_allclose(level("calm-tense").weights, least_squares(x, contrast[:, None])[0][:, 0])
    assert level("calm-tense").r2 == pytest.approx(1, abs=1e-6)  # made so: a logistic of the first feature
    np.testing.assert_allclose(level("calm", "score").weights, least_squares(x, p[:, :1])[0][:, 0])
    assert level("calm").mean_score == pytest.approx(np.log(p[:, 0] / (1 - p[:, 0])).mean())
    assert level("sad").r2 is None
    clipped = np.clip(p[:, 0], 0.3, 0.7)
    assert level("calm", clip=0.3).mean_score == pytest.approx(np.log(clipped / (1 - clipped)).mean())
    np.testing.assert_array_equal(level("calm", seed=1).shares, level("calm", seed=2).shares)
    assert not np.array_equal(level("calm", seed=1).intervals, level("calm", seed=2).intervals)


def hostile(path: Path) -> dict[str, tuple[Any, str]]:
    """Files that are no effects."""
    good = path / "good.npz"
    effects().save(good)
    with np.load(good) as file:
        arrays = {name: file[name] for name in file.files}
    broken = arrays["features"].copy()
    broken[3, 1] = np.nan
    return {
        "text": (b"this is no zip", "holds no effects"),
        "half": (good.read_bytes()[:2000], "holds no effects"),
        "no json": ({**arrays, "json": np.array("{")}, "holds no effects"),
        "other schema": ({**arrays, "json": np.array('{"schema": "otoscope/effects/9"}')}, "otoscope/effects/9"),
        "pickled": ({**arrays, "features": np.array([{}], dtype=object)}, "holds no effects"),
        "rows missing": ({**arrays, "scores": arrays["scores"][:-1]}, r"scores have shape \(119, 3\), need \(120, 3\)"),
        "not finite": ({**arrays, "features": broken}, "features hold NaN"),
        "complex": ({**arrays, "scores": arrays["scores"] + 1j}, "holds no effects"),
    }


@pytest.mark.parametrize(
    "case", ["text", "half", "no json", "other schema", "pickled", "rows missing", "not finite", "complex"]
)
def test_a_file_that_holds_no_effects_is_one_clear_line(case: str, tmp_path: Path) -> None:
    content, fault = hostile(tmp_path)[case]
    path = tmp_path / "bad.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(OtoscopeError, match=fault) as caught:
        load_effects(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_effects_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="no such file"):
        load_effects(tmp_path / "none.npz")
    with pytest.raises(OtoscopeError, match=r"holds 99 spans of 10 s .* at least 100"):
        effects(99)
    with pytest.raises(OtoscopeError, match="one recording only"):
        effects(recordings=np.zeros(120, dtype=np.int64))
    with pytest.raises(OtoscopeError, match="output must be one of softmax, sigmoid, regression"):
        effects(output="logits")
    x = np.zeros((120, 13))
    with pytest.raises(OtoscopeError, match="up to 12 features, this one has 13"):
        effects(features=x, names=tuple("abcdefghijklm"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OtoscopeError, match="cannot be written"):
        effects().save(tmp_path / "file" / "x.npz")
