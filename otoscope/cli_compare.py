"""The command that puts explanations side by side: of several models, methods, seeds, or of two releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otoscope.adapters.errors import OtoscopeError
from otoscope.console import print_json
from otoscope.options import BATCH, CALLS, DEVICE, FORCE, JSON, NETWORK, RESUME, SEED, TRUST, options

if TYPE_CHECKING:
    from otoscope.adapters.model import Model

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("files", metavar="[FILE...]", nargs=-1, type=FOLDER)
@options(
    click.option("--model", "models", multiple=True, help="Short name, card or folder; repeatable. [harmonics]"),
    click.option("--method", "methods", multiple=True, default=["lime"], help="Repeatable; see methods. [lime]"),
    click.option(
        "--target", "targets", multiple=True, default=["top"], help="Label, concept of --mapping, or top; repeatable."
    ),
    click.option("--results", multiple=True, type=FOLDER, help="Compare saved explanations below folders instead."),
    click.option("--out", required=True, type=FOLDER, help="Folder to write; made if missing."),
    click.option("--mapping", type=FOLDER, help="TOML file: for each concept a table with the label of each model."),
    click.option(
        "--match", type=click.Choice(["correlation"]), help="Pair labels whose scores rise and fall together."
    ),
    click.option("--min-spearman", type=click.FloatRange(-1, 1), help="Exit code 3 where models agree less than that."),
    click.option(
        "--seeds", default=1, show_default=True, type=click.IntRange(1, 16), help="Explain with so many seeds."
    ),
    click.option("--start", type=float, help="Start of the span in seconds; where the first model scores highest."),
    click.option("--duration", type=click.FloatRange(min=0.05), help="Length of the span. [10, or the longest window]"),
    click.option("--parts", help="How the sound is taken apart; see methods."),
    click.option("--n-parts", type=click.IntRange(min=1), help="Most parts to make. [64]"),
    CALLS,
    click.option("--off", type=click.Choice(["silence", "mean", "noise"]), help="What a part switched off becomes."),
    click.option("--scale", type=click.Choice(["log_odds", "score"]), help="Scale of the weights. [log_odds]"),
    click.option("--gates", type=click.Choice(["none", "quick", "full"]), help="How far to check each one. [quick]"),
    TRUST,
    NETWORK,
    DEVICE,
    BATCH,
    SEED,
    FORCE,
    RESUME,
    JSON,
)
def compare(
    files: tuple[Path, ...],
    models: tuple[str, ...],
    results: tuple[Path, ...],
    out: Path,
    min_spearman: float | None,
    force: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Compare what models heard, or what methods say they heard: agreement, groups, and differences to listen to.

    Exit code 3 where --min-spearman is given and two models (or two sets of results) agree less than that.

    \b
    Example: otoscope compare song.mp3 --model harmonics --model card.toml --mapping moods.toml --out compared
    otoscope compare --results last_release --results today --min-spearman 0.5 --out compared
    """
    if bool(files) == bool(results):
        raise click.UsageError("give recordings to explain and compare, or --results to compare, one of them")
    if asked["mapping"] is not None and asked["match"] is not None:
        raise click.UsageError("--mapping and --match both say which labels belong together; give one of them")
    if results:
        from otoscope.comparing import compare_results

        _refuse_unused(models)
        document = compare_results(results, out, force=force, min_spearman=min_spearman)
    else:
        document = _explain_and_compare(files, models or ("harmonics",), out, min_spearman, force, **asked)
    _tell(document, out, as_json)


def _refuse_unused(models: tuple[str, ...]) -> None:
    """Refuse options that mean nothing to results that are there already."""
    given = ["models"] if models else []
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    kept = {"files", "results", "out", "min_spearman", "force", "as_json"}
    given += [name for name in context.params if name not in kept and context.get_parameter_source(name) == source]
    if given:
        option = given[0].removesuffix("s") if given[0] in ("models", "methods", "targets") else given[0]
        raise click.UsageError(f"--{option.replace('_', '-')} means nothing to --results, which are explained already")


def _explain_and_compare(
    files: tuple[Path, ...],
    models: tuple[str, ...],
    out: Path,
    min_spearman: float | None,
    force: bool,
    *,
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    mapping: Path | None,
    match: str | None,
    seeds: int,
    start: float | None,
    duration: float | None,
    trust: bool,
    allow_network: bool,
    device: str,
    batch_size: int,
    seed: int,
    resume: bool,
    **chosen: Any,
) -> dict[str, Any]:
    from otoscope.adapters.registry import load_model
    from otoscope.comparing import Order, check_order, compare_models
    from otoscope.explainers.methods import Settings
    from otoscope.runs import Run

    settings = Settings(**{key: value for key, value in chosen.items() if value is not None})
    loading: dict[str, Any] = {"device": device, "trust": trust, "allow_network": allow_network}
    run = Run(
        files=files,
        model=models[0],
        methods=methods,
        targets=targets,
        settings=settings,
        out=out,
        start=start,
        duration=duration,
        seed=seed,
        batch_size=batch_size,
        force=force,
        resume=resume,
        loading=loading,
    )
    order = Order(run, models, n_seeds=seeds, mapping=mapping, match=match is not None, min_spearman=min_spearman)
    check_order(order)

    def load(name: str) -> Model:
        return load_model(name, batch_size=batch_size, **loading)

    return compare_models(order, load)


def _tell(document: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print what came out, name what failed, and end with the exit code that says so."""
    from otoscope.explainers.comparison_report import sentences

    if as_json:
        print_json({"report": str(out / "compare.html"), **document})
    else:
        for sentence in sentences(document):
            click.echo(sentence)
        click.echo(f"groups: {'; '.join(', '.join(group) for group in document['clusters']['groups'])}")
        click.echo(f"report: {out / 'compare.html'}")
    if document["failed"]:
        lines = "; ".join(f"{failure['file']}: {failure['error']}" for failure in document["failed"])
        n = document["n_recordings"]
        raise OtoscopeError(f"{len(document['failed'])} of {n} recordings failed, the others are compared: {lines}")
    if document["check"] is not None and not document["check"]["passed"]:
        click.echo(f"otoscope: check failed: {'; '.join(document['check']['below'])}", err=True)
        click.get_current_context().exit(3)
