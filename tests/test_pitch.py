"""Pitch: names, partials and combs."""

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.pitch import PITCH_CLASSES, comb, note_frequency, note_name, partials
from tests import reference


@given(st.integers(12, 119))
def test_notes_are_librosas(midi: int) -> None:
    name = librosa.midi_to_note(midi, unicode=False)
    assert note_frequency(name) == pytest.approx(librosa.midi_to_hz(midi))
    assert note_name(note_frequency(name)) == name
    assert note_name(note_frequency(name) * 2 ** (0.4 / 12)) == name


def test_flats_and_case() -> None:
    assert note_frequency("Bb2") == pytest.approx(note_frequency("A#2"))
    assert note_frequency(" c4 ") == pytest.approx(261.6256, abs=1e-3)


@pytest.mark.parametrize("name", ["", "H4", "A", "A44", "4A", "A#b4"])
def test_what_is_no_note_is_refused(name: str) -> None:
    with pytest.raises(OtoscopeError, match="is not a note; write it like A4"):
        note_frequency(name)


@pytest.mark.parametrize("pitch_class", range(12))
@pytest.mark.parametrize(("octaves", "n_harmonics"), [((1, 8), 8), ((3, 3), 1), ((2, 5), 4)])
def test_partials_are_whole_multiples_of_the_notes(
    pitch_class: int, octaves: tuple[int, int], n_harmonics: int
) -> None:
    got = partials(pitch_class, octaves=octaves, n_harmonics=n_harmonics)
    expected = sorted(set(np.round(reference.series(pitch_class, octaves, n_harmonics), 6)))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (np.diff(got) > 0).all()


@given(
    pitch_class=st.integers(0, 11),
    n_fft=st.sampled_from([256, 512, 2048]),
    half_width=st.sampled_from([0.0, 10.0, 50.0, 100.0]),
    n_harmonics=st.integers(1, 9),
)
def test_combs_are_marked_tooth_by_tooth(pitch_class: int, n_fft: int, half_width: float, n_harmonics: int) -> None:
    frequencies = np.linspace(0, 4000, n_fft // 2 + 1)
    teeth = partials(pitch_class, octaves=(2, 4), n_harmonics=n_harmonics)
    expected = reference.comb(frequencies, teeth.tolist(), half_width)
    np.testing.assert_array_equal(comb(frequencies, teeth, half_width=half_width), expected)


def test_teeth_outside_the_axis_mark_nothing() -> None:
    assert not comb(np.linspace(0, 4000, 100), np.array([5000.0, 9000.0]), half_width=50).any()


def test_the_third_partial_of_c_is_a_g() -> None:
    frequencies = np.linspace(0, 11025, 4097)
    c, g = (
        comb(frequencies, partials(PITCH_CLASSES.index(name), octaves=(4, 4), n_harmonics=3), half_width=50)
        for name in ("C", "G")
    )
    assert (c & comb(frequencies, np.array([note_frequency("G5")]), half_width=50)).any()
    assert not (c & g & (frequencies < 700)).any()
