"""`explain`: the way from a model and a recording to an `Explanation`, the same for every method.

1. Choose the span: as long as the longer of 10 s and the model's window, or the whole of a shorter recording; in a
   longer recording the stretch that scores highest for the target.
2. Ask the method for its weights.
3. Choose the evidence, play it and everything else to the model again, and lay the weights on seconds × hertz.
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import BATCH_SIZE, Model
from otoscope.adapters.resampling import resampled
from otoscope.adapters.spectra import Stft, to_sound, unfilter
from otoscope.adapters.windows import Windowed
from otoscope.explainers.budget import peak_memory
from otoscope.explainers.effects import TwoLevel
from otoscope.explainers.evidence import choose_evidence, evidence_parts
from otoscope.explainers.explanation import Explanation, Outcome, RoundTrip, Score, WindowScore, spread
from otoscope.explainers.gates import open_gates
from otoscope.explainers.makers import undivided
from otoscope.explainers.methods import Method, Request, Settings, all_methods, changed, find_method
from otoscope.explainers.parts import Bools, Parts
from otoscope.explainers.routes import Progress, quiet
from otoscope.explainers.span import choose_span
from otoscope.explainers.stems import hashes, span_stems
from otoscope.explainers.targets import default_scale, on_scale

MOST = 0.95  # of the energy: evidence that is nearly everything proves nothing
PACKAGES = ("otoscope", "torch", "captum", "lime", "librosa", "numpy", "scikit-image", "scikit-learn")


def explain(
    model: Model,
    audio: Audio,
    *,
    method: str = "lime",
    target: str | int = "top",
    start: float | None = None,
    duration: float | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    name: str | None = None,
    two_level: TwoLevel | None = None,
    progress: Progress = quiet,
) -> Explanation:
    """Explain what a model heard in a recording.

    Parameters
    ----------
    model : Model
        Anything with the predict interface; see `otoscope.load_model` and `otoscope.wrap`.
    audio : Audio
    method : str
        One of ``otoscope methods``.
    target : str or int
        Label, index, ``top`` or contrast ``A-B``.
    start, duration : float, optional
        Span in seconds; chosen where None.
    settings : Settings, optional
        Part maker, number of calls, off value, scale …
    seed : int
        The same seed gives the same bytes.
    batch_size : int
        Most perturbed recordings in memory at once.
    name : str, optional
        What to call the model.
    two_level : TwoLevel, optional
        The mid-level model and the effects of its features, which the method ``two_level`` needs.
    progress : callable
        Told (done, total) calls.

    Returns
    -------
    Explanation

    Raises
    ------
    OtoscopeError
        If anything asked for does not exist or does not fit the model.
    """
    began = time.perf_counter()
    settings = settings or Settings()
    if not isinstance(audio, Audio):
        raise OtoscopeError(f"got {type(audio).__name__} for a recording; give what load_audio returns, or an Audio")
    if not 0 <= seed < 2**32 or batch_size < 1:
        raise OtoscopeError(f"seed must lie in 0 … 2**32 - 1 and batch_size be at least 1, got {seed} and {batch_size}")
    entry = find_method(method)
    refuse_unused(settings, method, entry)
    if entry.needs_two_level != (two_level is not None):
        raise OtoscopeError(f"{method} {'needs' if two_level is None else 'takes no'} two_level=TwoLevel(…)")
    whole_audio = audio.at(model.rate)
    span, windowed, chosen_target, searched = choose_span(model, whole_audio, target, start, duration, settings)
    excerpt = whole_audio.cut(span.start, span.duration)
    scale = settings.scale or default_scale(model.output)
    request = Request(
        windowed,
        undivided(
            excerpt,
            parts_stft(windowed),
            off=settings.off,
            seed=seed,
            start=span.start,
            stems=span_stems(settings.stems, audio, model.rate, span),
        ),
        chosen_target,
        scale,
        settings,
        seed,
        batch_size,
        progress,
        audio.cut(span.start, span.duration),
        two_level,
    )
    request.value(np.full((1, len(model.labels)), 0.5))  # a scale that does not fit is found before the work
    outcome = entry.run(request)
    chosen = choose_evidence(outcome.weights, outcome.se)
    evidence, complement = render(outcome, chosen, windowed, settings)
    round_trip, windows = play_again(request, outcome.parts, evidence, complement)
    gates = open_gates(request, entry, outcome, round_trip)
    notes = (*audio.notes(), *windowed.notes(), *outcome.notes, *_evidence_notes(outcome, chosen))
    return Explanation(
        method=method,
        model=name or type(model).__name__,
        fingerprint=model.fingerprint,
        labels=model.labels,
        output=model.output,
        target=chosen_target,
        scale=scale,
        units=outcome.units or ("log-odds" if scale == "log_odds" else "score"),
        span=span,
        parts=outcome.parts,
        names=outcome.names,
        weights=outcome.weights,
        se=outcome.se,
        interval=outcome.interval,
        groups=outcome.groups,
        map=spread(outcome) if outcome.map is None else outcome.map,
        native=outcome.native,
        chosen=chosen,
        evidence=Audio(evidence, outcome.parts.audio.rate, "evidence"),
        complement=Audio(complement, outcome.parts.audio.rate, "complement"),
        round_trip=round_trip,
        windows=windows,
        fidelity=outcome.fidelity,
        gates=gates.figures,
        curves=gates.curves,
        masks=outcome.masks,
        scores=outcome.scores,
        n_calls=outcome.n_calls + searched + 4 + gates.n_calls,
        seconds=time.perf_counter() - began,
        memory=peak_memory(),
        seed=seed,
        settings={**asdict(settings), **asked(target, start, duration, two_level, settings.stems)},
        route=outcome.route,
        versions=versions(),
        audio_sha256=audio.sha256,
        notes=notes,
    )


def asked(
    target: str | int,
    start: float | None,
    duration: float | None,
    two_level: TwoLevel | None = None,
    stems: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Tell what was asked for besides the settings, as it is kept with the result."""
    plain: dict[str, Any] = {"target": str(target), "start": start, "duration": duration}
    if stems:
        plain["stems_sha256"] = hashes(stems)
    if two_level is None:
        return plain
    return {**plain, "midlevel": two_level.midlevel.fingerprint, "corpus": two_level.effects.corpus}


def refuse_unused(settings: Settings, name: str, entry: Method) -> None:
    """Raise an error for a setting that would reach nothing."""
    for option in changed(settings):
        if option not in entry.uses:
            users = ", ".join(other for other, one in all_methods().items() if option in one.uses)
            raise OtoscopeError(f"{option} means nothing to {name}; it is a setting of {users}")


def parts_stft(model: Windowed) -> Stft:
    """Give the model's own STFT grid where it declares one, else 2048/512."""
    if model.spectrogram is not None:
        own = model.spectrogram.front_end.stft
        return Stft(own.n_fft, own.hop_length)
    return Stft()


def render(outcome: Outcome, chosen: Bools, model: Windowed, settings: Settings) -> tuple[Any, Any]:
    """Render evidence and complement, each (n_samples,)."""
    parts = outcome.parts
    mask = evidence_parts(outcome.groups, chosen, parts.k).astype(np.float32)
    if settings.render == "mask" or model.spectrogram is None:
        evidence, complement = parts.compose(np.stack([mask, 1 - mask]))
        return evidence, complement
    front_end = model.spectrogram.front_end
    sounds = []
    for one in (mask, 1 - mask):
        share = sum(one[part] * parts.share(part) for part in range(parts.k))
        bands = front_end.weights @ (np.asarray(share) ** front_end.exponent * parts.power ** (front_end.exponent / 2))
        energies = unfilter(bands.astype(np.float64), front_end.weights, method=settings.render)
        magnitude = energies ** (1 / front_end.exponent)
        sounds.append(to_sound(magnitude, parts.stft, len(parts.audio.samples), phase_of=parts.audio.samples))
    return sounds[0], sounds[1]


def play_again(
    request: Request, parts: Parts, evidence: Any, complement: Any
) -> tuple[RoundTrip, tuple[WindowScore, ...]]:
    """Ask the model what it hears in the recording, window by window, the evidence, everything else, and all off."""
    model, recording = request.model, request.whole.audio.samples[None]
    each = model.each(recording)[0]  # (n_windows, n_classes)
    off = parts.compose(np.zeros((1, parts.k)))[0]
    played = [resampled(sound[None], parts.audio.rate, request.model) for sound in (evidence, complement, off)]
    scores = np.concatenate([each.mean(axis=0)[None], *map(model.predict, played)])
    values = request.value(scores)
    plain = on_scale(scores, request.target, request.model.output, "score")
    tops = [request.model.labels[i] for i in scores.argmax(axis=1)]
    rows = zip(plain, values, tops, scores.tolist(), strict=True)
    trip = RoundTrip(*(Score(float(score), float(value), top, tuple(row)) for score, value, top, row in rows))
    start, of_windows = request.whole.start, on_scale(each, request.target, model.output, "score")
    windows = (
        WindowScore(start + place.start, start + place.start + place.duration, float(score))
        for place, score in zip(model.spans(), of_windows, strict=True)
    )
    return trip, tuple(windows)


def _evidence_notes(outcome: Outcome, chosen: Bools) -> tuple[str, ...]:
    """Say where the round trip tells little: nothing is evidence, or nearly everything is."""
    if not outcome.parts.power.any():
        return ("the span is digital silence; choose another by --start, or a target by --target",)
    if not chosen.any():
        return ("no part clearly speaks for the target, so the evidence is empty",)
    share = float(outcome.parts.energy @ evidence_parts(outcome.groups, chosen, outcome.parts.k))
    if share < MOST:
        return ()
    return (f"the evidence holds {share:.0%} of the energy, so that it keeps the class says little",)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
