"""Planted causes: whatever a model was made to hear, the explanation must lie on it.

`python -m tests.planted_table` prints the figures.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from tests.planted import CAUSES, Cause, energy_share, explained, place, share, shuffled

ENOUGH = 0.8
N_SHUFFLES = 5


@lru_cache
def planted(make: Callable[[], Cause]) -> Cause:
    return make()


def cases(method: str) -> list[Any]:
    found = []
    for make in CAUSES:
        for settings in getattr(make(), method):
            name = f"{make.__name__}-{'-'.join(str(value) for value in settings.values())}"
            found.append(pytest.param(make, settings, id=name))
    return found


def shares(make: Any, method: str, settings: dict[str, Any], record: Callable[[str, object], None]) -> Any:
    """Share of the attribution on the cue, that of the energy, and those of shuffled weights."""
    cause = planted(make)
    explanation = explained(cause, method, settings)
    found = share(explanation.map, cause)
    energy = energy_share(explanation.parts, cause)
    record("attribution", round(found, 3))
    record("energy", round(energy, 3))
    return found, energy, [share(shuffled(explanation, seed), cause) for seed in range(N_SHUFFLES)]


@pytest.mark.parametrize(("make", "settings"), cases("lime"))
def test_lime_finds_the_cause(make: Any, settings: dict[str, Any], record_property: Any) -> None:
    found, energy, chance = shares(make, "lime", settings, record_property)
    assert found >= ENOUGH
    assert found > energy
    assert np.mean(chance) < ENOUGH - 0.2


@pytest.mark.parametrize(("make", "settings"), cases("occlusion"))
def test_occlusion_finds_the_cause(make: Any, settings: dict[str, Any], record_property: Any) -> None:
    found, energy, chance = shares(make, "occlusion", settings, record_property)
    assert found >= ENOUGH
    assert found > energy
    assert np.mean(chance) < ENOUGH - 0.2


@pytest.mark.parametrize("make", CAUSES)
def test_grad_cam_finds_the_cause(make: Any, record_property: Any) -> None:
    found, energy, chance = shares(make, "gradcam", {}, record_property)
    assert found >= ENOUGH
    assert found > energy
    assert np.mean(chance) < ENOUGH - 0.2


@pytest.mark.parametrize("method", ["lime", "occlusion"])
@pytest.mark.parametrize("make", CAUSES)
def test_the_default_parts_find_more_of_the_cause_than_its_energy(make: Any, method: str, record_property: Any) -> None:
    found, energy, chance = shares(make, method, {"parts": "superpixels"}, record_property)
    assert found > energy
    assert found > max(chance)


@pytest.mark.parametrize("make", CAUSES)
def test_the_causes_are_what_they_say(make: Any) -> None:
    """The model's score hangs on its cue and on nothing else: the ground under all other tests here."""
    cause = planted(make)
    model = cause.model()
    spectrum = np.fft.rfft(cause.samples)
    frequencies = np.arange(len(spectrum)) / cause.audio.seconds
    score = model.predict(cause.samples[None])[0, 0]
    without = []
    for cue in cause.cues:
        quiet = cause.samples.copy()
        for start, end, low, high in cue:
            gone = np.fft.irfft(np.where((frequencies >= low) & (frequencies < high), spectrum, 0), n=len(quiet))
            here = slice(round(start * cause.audio.rate), round(end * cause.audio.rate))
            quiet[here] -= gone[here].astype(np.float32)
        without.append(model.predict(quiet[None])[0, 0])
    assert min(cause.sign * (score - other) for other in without) > 0.2  # each cue is needed
    where = place([box for cue in cause.cues for box in cue])
    assert 0 < where.mean() < 0.4


def test_a_share_is_measured_by_hand() -> None:
    cause = planted(CAUSES[0])
    attribution = np.zeros((108, 40))
    attribution[50, 25] = 3  # 2.5 s: on the cue
    attribution[50, 5] = 1
    attribution[60, 5] = -10  # the other sign does not count
    assert share(attribution, cause) == pytest.approx(0.75)
