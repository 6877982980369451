"""What the computed descriptors are worth: trials on pairs of sounds, agreement with listeners, and their scale.

Three questions, each a function on plain arrays and a table:

`trials`
    Does each feature rise where it must (`otoscope.mer_models.trial_sounds`)? Margins are in units of the scale on
    which real music spans 0 to 1.
`agreement`
    Does it correlate with valence and arousal with the sign that Chowdhury et al. (2019) found? Theirs are *annotated*
    features and emotions of film music (Soundtracks, valence and energy); where the interval excludes their sign, the
    sign does not carry over. Intervals are Fisher's, at 95 %.
`limits`
    Which raw values are the 1st and 99th percentile of real music? Each folder counts the same. These numbers are
    copied into `descriptors.LIMITS`, so that no score depends on what else was heard.

Run ``python -m otoscope.mer_models.descriptor_trials --emotify FOLDER --recordings FOLDER …`` for all three.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import load_audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Float32, Floats
from otoscope.mer_models.data import Clip
from otoscope.mer_models.descriptors import FEATURES, RATE, Descriptors
from otoscope.mer_models.trial_sounds import Pair, pairs

SPAN = 10 * RATE  # samples
SUFFIXES = (".flac", ".ogg", ".wav")

# Chowdhury et al. (2019): correlation of annotations with valence and energy, in the order of FEATURES.
PUBLISHED = ((0.88, -0.36), (-0.52, 0.84), (-0.70, 0.72), (0.56, 0.25), (-0.87, 0.49), (0.85, -0.36), (-0.52, -0.25))


def margins(model: Descriptors, trial: Pair) -> Floats:
    """How much more of its feature the first of a pair has, one score for each timbre, (n_timbres,)."""
    column = FEATURES.index(trial.feature)
    sounds = np.stack([sound for timbre in trial.timbres for sound in trial.sounds(timbre)])
    scores = model.predict(sounds)[:, column].reshape(-1, 2)  # (n_timbres, more and less)
    return np.asarray(scores[:, 0] - scores[:, 1])


def trials(model: Descriptors, *, seeds: Sequence[int] = (0, 1, 2)) -> str:
    """Lay out a table: feature, pair, how many trials were won, smallest and median margin."""
    won: dict[tuple[str, str], list[Floats]] = {}
    for seed in seeds:
        for trial in pairs(seed):
            won.setdefault((trial.feature, trial.name.split(",")[0]), []).append(margins(model, trial))
    lines = ["| feature | pair | won | smallest | median |", "|---|---|---|---|---|"]
    for (feature, name), found in won.items():
        every = np.concatenate(found)
        count = f"{(every > 0).sum()} of {len(every)}"
        lines.append(f"| {feature} | {name} | {count} | {every.min():+.2f} | {np.median(every):+.2f} |")
    return "\n".join(lines)


def interval(r: float, n: int) -> tuple[float, float]:
    """95 % interval of a correlation over n items, by Fisher's transform.

    >>> [round(end, 2) for end in interval(0.0, 400)]
    [-0.1, 0.1]
    """
    reach = 1.959964 / np.sqrt(n - 3)
    low, high = np.tanh(np.arctanh(r) + np.array([-reach, reach]))
    return float(low), float(high)


def verdict(published: float, low: float, high: float) -> str:
    """Say whether an interval confirms the sign of a published correlation.

    >>> verdict(-0.5, -0.3, -0.1), verdict(-0.5, -0.1, 0.1), verdict(-0.5, 0.1, 0.2)
    ('holds', 'undecided', 'contradicts')
    """
    if low <= 0 <= high:
        return "undecided"
    return "holds" if (low > 0) == (published > 0) else "contradicts"


def agreement(scores: Floats, valence: Floats, arousal: Floats) -> str:
    """Lay out a table of correlations with intervals.

    Parameters
    ----------
    scores : ndarray, shape (n, 7)
    valence, arousal : ndarray, shape (n,)
    """
    lines = ["| feature | with | published | here | 95 % | sign |", "|---|---|---|---|---|---|"]
    for column, feature in enumerate(FEATURES):
        for name, ratings, published in zip(("valence", "arousal"), (valence, arousal), PUBLISHED[column], strict=True):
            r = float(np.corrcoef(scores[:, column], ratings)[0, 1])
            low, high = interval(r, len(ratings))
            told = verdict(published, low, high)
            lines.append(f"| {feature} | {name} | {published:+.2f} | {r:+.2f} | {low:+.2f} to {high:+.2f} | {told} |")
    return "\n".join(lines)


def spans(path: Path) -> Float32:
    """Cut a recording into spans of ten seconds (n, n_samples), one after the other; a shorter one is one span."""
    samples = load_audio(path, whole=True).at(RATE).samples
    n = len(samples) // SPAN
    return samples[None] if n == 0 else samples[: n * SPAN].reshape(n, SPAN)


def describe(paths: Sequence[Path], score: Callable[[Float32], Floats]) -> Floats:
    """Mean of the features over the spans of each recording, (n_recordings, 7)."""
    return np.array([score(spans(path)).mean(axis=0) for path in paths])


def limits(groups: Sequence[Floats]) -> tuple[tuple[float, float], ...]:
    """1st and 99th percentile of raw features, (n, 7) for each group; each group counts the same."""
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups])
    ends = np.quantile(values, [0.01, 0.99], axis=0, weights=weights, method="inverted_cdf")
    return tuple((float(f"{low:.3g}"), float(f"{high:.3g}")) for low, high in ends.T)


def recordings(folder: Path) -> list[Path]:
    """List the recordings of a folder, by name."""
    found = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if not found:
        raise OtoscopeError(f"{folder}: holds no recordings ({', '.join(SUFFIXES)}); name another folder")
    return found


def rated(clips: Sequence[Clip], model: Descriptors) -> str:
    """Lay out the table of `agreement` for clips with valence and arousal."""
    known = [clip for clip in clips if clip.valence is not None and clip.arousal is not None]
    ratings = np.array([(clip.valence, clip.arousal) for clip in known], dtype=np.float64)
    return agreement(describe([clip.path for clip in known], model.predict), ratings[:, 0], ratings[:, 1])


def main() -> None:
    """Print all tables."""
    from otoscope.mer_models.emotify import read_emotify

    parser = argparse.ArgumentParser(description="try the mid-level descriptors")
    parser.add_argument("--emotify", type=Path, help="folder of Emotify")
    parser.add_argument("--recordings", type=Path, nargs="*", default=[], help="folders of recordings for the scale")
    options = parser.parse_args()
    model = Descriptors()
    print(trials(model))
    if options.emotify:
        print(rated(read_emotify(options.emotify), model))
    if options.recordings:
        print(limits([describe(recordings(folder), model.raw) for folder in options.recordings]))


if __name__ == "__main__":
    main()
