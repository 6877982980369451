"""One run of ``otoscope match``: an ad and contents followed by one model, the nearest places written down.

``DIR/match.csv`` lists the places, ``match.json`` also every distance of every content and what the best is worth, and
``match.png`` draws them; the sound of the places lies, on request, in ``DIR/clips/``, as recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from otoscope.adapters.audio import write_wav
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.model import Model
from otoscope.adapters.registry import name_of
from otoscope.adapters.stream import Recording
from otoscope.adapters.whole_file import whole_file
from otoscope.console import bar
from otoscope.emotion import Document, Following, about, followed, heard, rounded, write_csv, write_json
from otoscope.explainers.store import slug, whole_or_nothing
from otoscope.mer_models.emotion_figures import draw_match
from otoscope.mer_models.likeness import Measure, check_measure
from otoscope.mer_models.match import Match, Null, match
from otoscope.mer_models.timeline import Timeline, check_step, plane, window_samples

HEADER = ("rank", "recording", "start_s", "end_s", "distance", "share")


def check_room(ad: Recording, contents: Sequence[Recording]) -> None:
    """Refuse an ad that is longer than a content.

    Raises
    ------
    OtoscopeError
    """
    for content in contents:
        if ad.seconds > content.seconds + 1e-3:
            raise OtoscopeError(
                f"{ad.path}: lasts {ad.seconds:.2f} s, longer than {content.path} with {content.seconds:.2f} s; "
                "give a shorter ad, or leave this content out"
            )


def matched(
    ad: Recording,
    contents: Sequence[Recording],
    model: Model,
    wish: Following,
    *,
    measure: Measure,
    top: int,
    n_stand_ins: int,
    clips: bool,
) -> Document:
    """Follow an ad and contents, rank the places, write the results.

    Parameters
    ----------
    ad : Recording
    contents : sequence of Recording
    model : Model
    wish : Following
    measure : Measure
    top, n_stand_ins : int
        Most places; random stretches that the best is judged by.
    clips : bool
        Whether the places are written as sound.

    Returns
    -------
    dict
        As written.

    Raises
    ------
    OtoscopeError
        If the measure means nothing for the model, or the window or step do not fit.
    """
    check_measure(
        measure, model.output, has_plane=plane(np.zeros((1, len(model.labels))), model.labels, model.output) is not None
    )
    # One window for all: a model that hears any length hears the ad's.
    window = window_samples(model, wish.window, ad.seconds) / model.rate
    for recording in contents:
        check_step(wish.step, window=window, seconds=recording.seconds, n_classes=len(model.labels))
    wish = replace(wish, window=window)
    sought = followed(model, ad, wish, tail=False)
    courses = [followed(model, content, wish, tail=False) for content in contents]
    with bar("random stretches") as progress:
        found = match(
            sought, courses, measure=measure, top=top, n_stand_ins=n_stand_ins, seed=wish.seed, progress=progress
        )
    return _write(ad, contents, sought, courses, found, model, wish, measure=measure, clips=clips)


def _write(
    ad: Recording,
    contents: Sequence[Recording],
    sought: Timeline,
    courses: Sequence[Timeline],
    found: Match,
    model: Model,
    wish: Following,
    *,
    measure: Measure,
    clips: bool,
) -> Document:
    rows = [
        (rank, contents[p.content].name, *(rounded(v) for v in (p.start, p.end, p.distance, p.share)))
        for rank, p in enumerate(found.places, start=1)
    ]
    names = [
        f"{rank:02d}-{slug(Path(contents[place.content].name).stem)}-{place.start:.2f}s.wav" if clips else None
        for rank, place in enumerate(found.places, start=1)
    ]
    document = {
        "schema": "otoscope/match/1",
        "ad": heard(ad, sought),
        "contents": [
            {**heard(content, course), "distances": [rounded(d) for d in curve]}
            for content, course, curve in zip(contents, courses, found.curves, strict=True)
        ],
        **about(model, wish, sought),
        "measure": measure.name,
        "places": [
            {**dict(zip(HEADER, row, strict=True)), "content": place.content, "clip": name and f"clips/{name}"}
            for row, place, name in zip(rows, found.places, names, strict=True)
        ],
        "null": {**_null(found.null), "seed": wish.seed},
    }
    wish.out.mkdir(parents=True, exist_ok=True)
    if clips:
        _write_clips(wish.out / "clips", contents, found, names)
    title = f"{ad.name} in {len(contents)} content{'s' * (len(contents) > 1)} · {name_of(wish.model)} · {measure.name}"
    with whole_file(wish.out / "match.png") as partial:
        draw_match(sought, courses, found, partial, title=title)
    with whole_file(wish.out / "match.csv") as partial:
        write_csv(partial, HEADER, rows)
    with whole_file(wish.out / "match.json") as partial:
        write_json(partial, document)
    return document


def _null(null: Null) -> Document:
    quantiles = np.quantile(null.stand_ins, (0.05, 0.5, 0.95)) if len(null.stand_ins) else [None] * 3
    return {
        "places": null.n_places,
        "places_quantiles": [rounded(value) for value in (null.low, null.median, null.high)],
        "stand_ins": len(null.stand_ins),
        "stand_ins_quantiles": [None if value is None else rounded(value) for value in quantiles],
        "percentile": None if null.percentile is None else rounded(null.percentile),
    }


def _write_clips(folder: Path, contents: Sequence[Recording], found: Match, names: Sequence[str | None]) -> None:
    with whole_or_nothing(folder) as partial:
        for place, name in zip(found.places, names, strict=True):
            content = contents[place.content]
            write_wav(partial / str(name), content.clip(place.start, place.end - place.start), content.rate)
