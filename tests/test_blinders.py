"""Mel blinders: which bands a pitch class may see, and that the filters see no others."""

from typing import Any

import numpy as np
import pytest
import torch

from otoscope.adapters.errors import OtoscopeError
from otoscope.mer_models.blinders import PitchFilters, Settings, blinders, selectivity
from otoscope.mer_models.harmonics import FRONT_END


def test_blinders_are_the_bands_nearest_to_partials() -> None:
    mask = blinders(FRONT_END)
    for pitch_class in range(12):
        seen = set()
        for octave in range(1, 9):
            for harmonic in range(1, 9):
                partial = harmonic * 440.0 * 2 ** ((pitch_class + 12 * (octave - 4) - 9) / 12)
                if FRONT_END.centres[0] <= partial <= FRONT_END.centres[-1]:
                    seen.add(int(np.abs(FRONT_END.centres - partial).argmin()))
        assert seen == set(np.flatnonzero(mask[pitch_class]))


def test_selectivity_counts_bands_and_sharing() -> None:
    mask = blinders(FRONT_END)
    told = selectivity(FRONT_END)
    for pitch_class in range(12):
        others = np.delete(mask, pitch_class, axis=0).any(axis=0)
        assert told.kept[pitch_class] == mask[pitch_class].sum()
        assert told.shared[pitch_class] == pytest.approx((mask[pitch_class] & others).sum() / mask[pitch_class].sum())
    assert 25 <= told.kept.min()
    assert told.kept.max() <= 32


@pytest.mark.parametrize("change", [{"octaves": (2, 6)}, {"n_harmonics": 3}, {"half_width": 80.0}])
def test_each_setting_of_the_blinders_changes_them(change: dict[str, Any]) -> None:
    assert not np.array_equal(blinders(FRONT_END), blinders(FRONT_END, settings=Settings(**change)))


def test_gathered_filters_equal_the_masked_product() -> None:
    mask = np.random.default_rng(1).random((12, 40)) < 0.3
    mask[:, 0] = True
    mask[3] = True
    filters = PitchFilters(mask, 5).double()
    with torch.no_grad():
        filters.weight.normal_()  # outside the mask too
        filters.bias.normal_()
    x = torch.randn(3, 40, 7, dtype=torch.float64)
    expected = np.zeros((3, 60, 7))
    weight, bias = filters.weight.detach().numpy(), filters.bias.detach().numpy()
    for item in range(3):
        for bank in range(12):
            for channel in range(5):
                for frame in range(7):
                    kept = x[item, mask[bank], frame].numpy()
                    expected[item, 5 * bank + channel, frame] = weight[bank, channel, mask[bank]] @ kept
                    expected[item, 5 * bank + channel, frame] += bias[bank, channel]
    np.testing.assert_allclose(filters(x).detach().numpy(), expected, atol=1e-12)


def test_weights_outside_the_mask_are_never_trained() -> None:
    filters = PitchFilters(blinders(FRONT_END), 4)
    before = filters.weight.detach().clone()
    filters(torch.randn(2, 256, 5)).square().sum().backward()
    outside, gradient = ~filters.mask[:, None].expand_as(filters.weight), filters.weight.grad
    assert gradient is not None
    assert (gradient[outside] == 0).all()
    assert (before[outside] == 0).all()
    assert (gradient[~outside] != 0).any()


@pytest.mark.parametrize(
    "change", [{"octaves": (3, 2)}, {"pool": 0}, {"dropout": 1.0}, {"n_channels": 0}, {"half_width": -1.0}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OtoscopeError, match="got"):
        Settings(**change)


def test_octaves_nobody_hears_are_refused() -> None:
    with pytest.raises(OtoscopeError, match="sees no band"):
        blinders(FRONT_END, settings=Settings(octaves=(12, 12)))
