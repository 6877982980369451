"""Zooming in: pieces go where the attribution is, and the parts still add up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.spectra import Stft
from otoscope.explainers.explain import explain
from otoscope.explainers.localisation import mass_inside
from otoscope.explainers.makers import make_parts
from otoscope.explainers.methods import Settings
from otoscope.explainers.zoom import cut_by_weight
from tests.builders import RATE, music
from tests.scenes import planned

SOUND = Audio(music(seconds=1.5), RATE, "music")
PARTS = make_parts(SOUND, Stft(512, 256), n_parts=24)


@given(seed=st.integers(0, 1000), n_parts=st.integers(2, 40))
def test_pieces_add_up_and_are_no_more_than_allowed(seed: int, n_parts: int) -> None:
    weights = np.random.default_rng(seed).normal(size=PARTS.k) ** 3
    got = cut_by_weight(PARTS, weights, None, n_parts)
    assert 1 <= got.k <= n_parts
    assert np.unique(got.labels).tolist() == list(range(got.k))
    np.testing.assert_allclose(got.sounds.sum(axis=0), SOUND.samples, atol=1e-5)


def test_pieces_go_where_the_attribution_is() -> None:
    weights = np.full(PARTS.k, 0.01)
    strong = int(np.argmax(np.bincount(PARTS.labels.ravel())))
    weights[strong] = 1.0
    got = cut_by_weight(PARTS, weights, None, 24)
    inside = np.unique(got.labels[PARTS.labels == strong])
    assert len(inside) >= 12
    for piece in inside:
        assert (PARTS.labels[got.labels == piece] == strong).all()


def test_a_part_that_has_it_all_is_cut_and_not_lost_in_the_rest() -> None:
    weights = np.zeros(PARTS.k)
    strong = int(np.argmax(np.bincount(PARTS.labels.ravel())))
    weights[strong] = -1.0
    got = cut_by_weight(PARTS, weights, np.zeros(PARTS.k), 24)
    assert got.k == 24
    assert len(np.unique(got.labels[PARTS.labels == strong])) == 23


def test_what_may_be_chance_is_not_cut() -> None:
    weights = np.full(PARTS.k, 0.01)
    weights[:2] = 1.0
    se = np.full(PARTS.k, 1e-3)
    se[1] = 0.8
    got = cut_by_weight(PARTS, weights, se, 24)
    assert len(np.unique(got.labels[PARTS.labels == 0])) > 4
    assert len(np.unique(got.labels[PARTS.labels == 1])) == 1


def test_an_even_explanation_is_left_as_it_is() -> None:
    got = cut_by_weight(PARTS, np.ones(PARTS.k), None, PARTS.k)
    np.testing.assert_array_equal(
        np.unique(np.stack([got.labels, PARTS.labels]).reshape(2, -1), axis=1).shape, (2, PARTS.k)
    )


def test_every_part_holds_about_as_much_as_any_other() -> None:
    weights = np.random.default_rng(4).exponential(size=PARTS.k) ** 2
    n_parts = 24
    got = cut_by_weight(PARTS, weights, None, n_parts)
    held = []
    for piece in range(got.k):
        inside = np.unique(PARTS.labels[got.labels == piece])
        pieces = len(np.unique(got.labels[PARTS.labels == inside[0]])) if len(inside) == 1 else 1
        held.append(weights[inside].sum() / pieces)
    assert max(held) < 3.5 * weights.sum() / got.k


def test_nothing_is_cut_where_there_is_nothing() -> None:
    assert cut_by_weight(PARTS, np.zeros(PARTS.k), None, 24) is PARTS


@pytest.mark.parametrize("index", [2, 8])
def test_a_small_cue_in_a_large_part_is_found(index: int) -> None:
    """Scenes whose cue shares a superpixel with louder music."""
    scene = planned(index)
    shares = []
    for zoom in (0, 2):
        settings = Settings(calls=1024, zoom=zoom, gates="none")
        got = explain(scene.model, scene.audio, target="yes", settings=settings)
        shares.append(mass_inside(got.map, scene.region, sign=scene.sign))
    assert shares[1] > 0.8
    assert shares[1] > shares[0] + 0.1


def explained(seed: int = 0, **settings: Any) -> Any:
    scene = planned(0)
    own: dict[str, Any] = {"calls": 512, "gates": "none", **settings}
    chosen = Settings(**own)
    return explain(scene.model, scene.audio, target="yes", settings=chosen, seed=seed)


def test_the_parts_do_not_depend_on_the_seed() -> None:
    one, other = explained(seed=1), explained(seed=2)
    np.testing.assert_array_equal(one.parts.labels, other.parts.labels)
    assert not np.array_equal(one.weights, other.weights)


def test_named_parts_and_no_zoom_are_left_whole() -> None:
    plain = explained(zoom=0)
    named = explained(parts="superpixels")
    np.testing.assert_array_equal(plain.parts.labels, named.parts.labels)
    assert not np.array_equal(explained().parts.labels, plain.parts.labels)
    assert not np.array_equal(explained(parts="superpixels", zoom=1).parts.labels, plain.parts.labels)


def test_the_looks_are_part_of_the_budget() -> None:
    got = explained()
    assert got.n_calls <= 512 + 4 + 1
    assert len(got.masks) == 256
