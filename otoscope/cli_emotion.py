"""Commands about emotion over time: what a model says of every window, and where contents feel like an ad."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import print_json
from otoscope.options import BATCH, DEVICE, FILES, FORCE, JSON, MODEL, NETWORK, SEED, TRUST, options

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 48  # of a line of bars, in letters
MOST_LABELS = 8

OUT = click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; made if missing.")
STEP = click.option("--step", default=1.0, show_default=True, help="Seconds from one window to the next.")
WINDOW = click.option("--window", type=float, help="Length of a window in seconds. [the model's own]")
SMOOTH = click.option("--smooth", type=float, help="Average scores over so many seconds. [not at all]")


@click.command()
@FILES
@options(
    MODEL,
    TRUST,
    NETWORK,
    STEP,
    WINDOW,
    SMOOTH,
    OUT,
    click.option("--explain", "moments", multiple=True, type=float, help="Explain the window around a second."),
    click.option("--method", "methods", multiple=True, help="How; repeatable, see `otoscope methods`. [lime]"),
    click.option("--target", "targets", multiple=True, help="Label, index, top or A-B; repeatable. [top]"),
    click.option("--parts", help="How the sound is taken apart for that: superpixels, grid, harmonic, hpss, …"),
    click.option("--calls", type=click.IntRange(min=1), help="lime: perturbed recordings to ask about."),
    DEVICE,
    BATCH,
    SEED,
    FORCE,
    JSON,
)
def timeline(
    files: tuple[Path, ...],
    moments: tuple[float, ...],
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    parts: str | None,
    calls: int | None,
    as_json: bool,
    **wished: Any,
) -> None:
    """Follow a model through recordings: scores, valence and arousal of every window.

    Writes a table (CSV), the same as JSON, and a picture of each recording; windows around the seconds named by
    --explain are explained as by `otoscope explain`.

    \b
    Example: otoscope timeline song.mp3 --step 0.5 --explain 42 --out report
    """
    from otoscope.emotion import check_moments, survey_all, timelines
    from otoscope.explainers.methods import Settings
    from otoscope.runs import Run

    how = {"method": methods, "target": targets, "parts": parts, "calls": calls}
    for name, value in how.items():
        if value and not moments:
            raise OtoscopeError(f"--{name} is about explanations; say with --explain SECONDS what to explain")
    wish, loading = _wishes(wished)
    run = Run(
        files=files,
        model=wish.model,
        methods=methods or ("lime",),
        targets=targets or ("top",),
        settings=Settings(parts=parts, calls=calls),
        out=wish.out,
        seed=wish.seed,
        batch_size=wish.batch_size,
        loading=loading,
    )
    recordings = survey_all(files, wish)
    check_moments(recordings, moments, run)
    documents, failed = timelines(recordings, _load(wish, loading), wish, moments=moments, run=run)
    if as_json:
        print_json({"timelines": documents, "failed": failed})
    else:
        for document in documents:
            _print_timeline(document)
    if failed:
        raise OtoscopeError("; ".join(f"{failure['file']}: {failure['error']}" for failure in failed))


@click.command()
@click.argument("ad", type=click.Path(path_type=Path))
@click.argument("contents", metavar="CONTENT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options(
    MODEL,
    TRUST,
    NETWORK,
    click.option(
        "--measure",
        default="euclidean",
        show_default=True,
        help="Distance of courses: euclidean, absolute, cosine, jensen_shannon, hellinger, valence_arousal, dtw.",
    ),
    click.option("--top", default=10, show_default=True, type=click.IntRange(min=1), help="Most places to list."),
    STEP,
    WINDOW,
    SMOOTH,
    OUT,
    click.option("--clips", is_flag=True, help="Write the sound of the places too."),
    click.option(
        "--random",
        "n_stand_ins",
        default=200,
        show_default=True,
        type=click.IntRange(min=0),
        help="Random stretches of the contents that the best place is judged by; 0 for none.",
    ),
    DEVICE,
    BATCH,
    SEED,
    FORCE,
    JSON,
)
def match(
    ad: Path,
    contents: tuple[Path, ...],
    measure: str,
    top: int,
    n_stand_ins: int,
    clips: bool,
    as_json: bool,
    **wished: Any,
) -> None:
    """Rank the places in CONTENT where the music's emotion resembles that of AD.

    The course of the ad's scores is laid on every place of the contents; places do not overlap. Something is always
    nearest, so the best place is judged against what random stretches of the contents find elsewhere in them.

    \b
    Example: otoscope match ad.wav film.flac series.flac --measure hellinger --clips --out report
    """
    from otoscope.emotion import survey_all
    from otoscope.matching import check_room, matched
    from otoscope.mer_models.likeness import find_measure

    chosen = find_measure(measure)
    wish, loading = _wishes(wished)
    sought, *found = survey_all((ad, *contents), wish)
    check_room(sought, found)
    model = _load(wish, loading)
    document = matched(sought, found, model, wish, measure=chosen, top=top, n_stand_ins=n_stand_ins, clips=clips)
    if as_json:
        print_json(document)
    else:
        _print_match(document, wish.out)


def _wishes(wished: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Part options into how to follow, and how to load the model."""
    from otoscope.emotion import Following

    loading = {key: wished.pop(key) for key in ("trust", "allow_network", "device")}
    return Following(model=wished.pop("model_name"), **wished), loading


def _load(wish: Any, loading: dict[str, Any]) -> Any:
    from otoscope.adapters.registry import load_model

    return load_model(wish.model, batch_size=wish.batch_size, **loading)


def _print_timeline(document: dict[str, Any]) -> None:
    windows, output = document["windows"], document["model"]["output"]
    click.echo(
        f"{document['recording']}, {document['seconds']:.2f} s, {document['model']['name']}, "
        f"{len(windows)} windows of {document['window']:g} s"
    )
    courses = {label: [window["scores"][label] for window in windows] for label in document["model"]["labels"]}
    means = {label: sum(course) / len(course) for label, course in courses.items()}
    shown = sorted(means, key=lambda label: -means[label])[:MOST_LABELS]
    lines = [(label, courses[label], None if output == "regression" else (0.0, 1.0)) for label in shown]
    if "valence" in windows[0] and "valence" not in courses:
        lines += [(axis, [window[axis] for window in windows], (-1.0, 1.0)) for axis in ("valence", "arousal")]
    width = max(len(label) for label, *_ in lines)
    click.echo(f"  {'':{width}}  {'':{min(WIDTH, len(windows))}}  mean min max")
    for label, course, scale in lines:
        sign = "" if scale == (0.0, 1.0) else "+"
        told = " ".join(f"{value:{sign}.2f}" for value in (sum(course) / len(course), min(course), max(course)))
        click.echo(f"  {label:{width}}  {bars(course, scale)}  {told}")
    if len(courses) > len(shown):
        click.echo(f"  … and {len(courses) - len(shown)} labels more, in the files")
    for note in document["notes"]:
        click.echo(f"  note  {note}")
    for link in document["explained"]:
        told = ", ".join(f"{result['method']} {result['target']} {result['score']:.3f}" for result in link["results"])
        click.echo(f"  explained {link['start']:.2f}-{link['end']:.2f} s: {told}; {link['report']}")
    click.echo(f"  written to {document['folder']}")


def bars(values: Sequence[float], scale: tuple[float, float] | None = None) -> str:
    """Draw values as a line of bars, each the mean of its share, at most `WIDTH` of them.

    Parameters
    ----------
    values : sequence of float
    scale : (float, float), optional
        What the lowest and the highest bar mean; the smallest and largest value if not given.

    Examples
    --------
    >>> bars([0, 0.5, 1])
    '▁▅█'
    """
    low, high = scale or (min(values), max(values))
    n = min(WIDTH, len(values))
    cuts = [round(place * len(values) / n) for place in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    shares = [(mean - low) / (high - low) if high > low else 0.0 for mean in means]
    return "".join(BARS[min(len(BARS) - 1, max(0, int(share * len(BARS))))] for share in shares)


def _print_match(document: dict[str, Any], out: Path) -> None:
    places, null = document["places"], document["null"]
    click.echo(
        f"{document['ad']['recording']}, {document['ad']['seconds']:.2f} s, {document['model']['name']}, "
        f"{document['measure']}, step {document['step']:g} s"
    )
    width = max(len(place["recording"]) for place in places)
    for place in places:
        click.echo(
            f"  {place['rank']:3}  {place['distance']:.4f}  {place['recording']:{width}}  "
            f"{place['start_s']:8.2f}-{place['end_s']:.2f} s  among the nearest {100 * place['share']:.1f} %"
        )
    low, median, high = null["places_quantiles"]
    click.echo(f"  all {null['places']} places: median {median:.4f}, middle 90 % from {low:.4f} to {high:.4f}")
    if null["percentile"] is None:
        click.echo("  whether the best place is near was not judged: no stretch of the contents has room elsewhere")
    else:
        where = "in the other contents" if len(document["contents"]) > 1 else "elsewhere in it"
        click.echo(
            f"  of {null['stand_ins']} random stretches {null['percentile']:.0f} % find a place {where} "
            f"that is as near as the best (median {null['stand_ins_quantiles'][1]:.4f})"
        )
    for heard in (document["ad"], *document["contents"]):
        for note in heard["notes"]:
            click.echo(f"  note  {heard['recording']}: {note}")
    click.echo(f"  written to {out}")
