"""What the mid-level descriptors are worth: each rises where it must, and agrees with listeners where it did before."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Floats
from otoscope.mer_models.demo_recording import midi
from otoscope.mer_models.descriptor_trials import agreement, limits, margins, recordings, spans, trials, verdict
from otoscope.mer_models.descriptors import FEATURES, RATE, midlevel
from otoscope.mer_models.emotify import read_emotify
from otoscope.mer_models.render import render
from otoscope.mer_models.trial_sounds import PITCHED, Pair, minor_pairs, pairs, rhythm_pairs
from tests.builders import DATA
from tests.songs import needs_data

FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
needs_font = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not FONT.is_file(), reason="needs fluidsynth and timgm6mb-soundfont"
)
model = midlevel()


def column(scores: Floats, feature: str) -> Floats:
    return np.asarray(scores[:, FEATURES.index(feature)])


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair.feature}: {pair.name}")
def test_each_feature_rises_where_it_must(pair: Pair) -> None:
    quick = Pair(pair.feature, pair.name, pair.more, pair.less, pair.timbres[-2:], pair.other)
    assert (margins(model, quick) > 0.03).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rhythm_does_not_depend_on_the_draw(seed: int) -> None:
    for pair in rhythm_pairs(seed):
        assert (margins(model, pair) > 0.2).all(), pair.name


@pytest.mark.parametrize("timbre", PITCHED[:3])
def test_minor_is_minor_in_every_timbre(timbre: str) -> None:
    for pair in minor_pairs()[::4]:
        more, less = pair.sounds(timbre)
        assert np.diff(column(model.predict(np.stack([less, more])), "minorness"))[0] > 0.2, pair.name


@needs_font
def test_a_rendered_piano_says_the_same(tmp_path: Path) -> None:
    first = {pair.feature: pair for pair in reversed(pairs()) if pair.feature != "melodiousness"}  # drums are no piano
    assert len(first) == 6
    scores = {f"{name}-{side}": midi(getattr(pair, side)) for name, pair in first.items() for side in ("more", "less")}
    paths = render(scores, FONT, cache=tmp_path)
    for feature in first:
        less, more = (load_audio(paths[f"{feature}-{side}"]).samples[: 10 * RATE] for side in ("less", "more"))
        assert np.diff(column(model.predict(np.stack([less, more])), feature))[0] > 0.1, feature


def test_limits_are_percentiles_in_which_each_group_counts_the_same() -> None:
    few, many = np.tile(np.arange(100.0)[:, None], 7), np.tile(np.arange(200.0, 300, 0.1)[:, None], 7)
    low, high = limits([few, many])[0]
    assert low == pytest.approx(1, abs=1.1)  # of the few, though they are a tenth
    assert high == pytest.approx(298, abs=1.1)


def test_verdicts_follow_the_published_signs() -> None:
    rng = np.random.default_rng(1)
    valence, arousal = rng.standard_normal((2, 500))
    scores = np.outer(valence, [1, 1, -1, 0, -1, 1, -1]) + np.outer(arousal, [-1, 1, 1, 0, 1, -1, 1])
    scores += 0.1 * rng.standard_normal(scores.shape)
    rows = [line.split(" | ") for line in agreement(scores, valence, arousal).splitlines()[2:]]
    told = {(row[0].strip("| "), row[1]): row[-1].strip("| ") for row in rows}
    assert told["melodiousness", "valence"] == "holds"
    assert told["articulation", "valence"] == "contradicts"
    assert told["minorness", "arousal"] == "contradicts"
    assert told["rhythmic_stability", "valence"] == "undecided"
    assert verdict(0.3, 0.1, 0.2) == "holds"


def test_recordings_are_cut_into_spans_and_an_empty_folder_is_refused(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "b.flac", np.zeros(25 * RATE), RATE)
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * RATE), RATE)
    found = recordings(tmp_path)
    assert [path.name for path in found] == ["a.wav", "b.flac"]
    assert [spans(path).shape for path in found] == [(1, 3 * RATE), (2, 10 * RATE)]
    with pytest.raises(OtoscopeError, match="holds no recordings"):
        recordings(tmp_path / "none")


def test_the_table_counts_what_was_won(monkeypatch: pytest.MonkeyPatch) -> None:
    from otoscope.mer_models import descriptor_trials

    few = [pair for pair in pairs() if pair.feature in ("dissonance", "rhythmic_stability")]
    few.append(Pair("dissonance", "turned round", few[-1].less, few[-1].more, ("organ",)))
    monkeypatch.setattr(descriptor_trials, "pairs", lambda _seed: few)
    lines = trials(model, seeds=(0,)).splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["2 of 2", "2 of 2", "5 of 5", "0 of 1"]


@needs_data
def test_what_holds_on_emotify_still_holds() -> None:
    clips = read_emotify(DATA / "emotify")[::5]
    scores = np.concatenate([model.predict(spans(clip.path)[1:2]) for clip in clips])
    valence, arousal = (np.array([getattr(clip, name) for clip in clips]) for name in ("valence", "arousal"))
    r = {name: [float(np.corrcoef(column(scores, name), y)[0, 1]) for y in (valence, arousal)] for name in FEATURES}
    assert r["minorness"][0] < -0.1
    assert r["tonal_stability"][0] > 0
    assert r["melodiousness"][1] < -0.3
    for feature in ("articulation", "rhythmic_complexity", "rhythmic_stability", "dissonance"):
        assert r[feature][1] > 0, feature
