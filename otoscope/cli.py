"""The command line. Heavy imports stay inside the commands, so that ``otoscope --help`` answers at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otoscope import __version__
from otoscope.adapters.errors import OtoscopeError
from otoscope.cli_compare import compare
from otoscope.cli_emotion import match, timeline
from otoscope.cli_evaluate import evaluate
from otoscope.cli_export import export
from otoscope.cli_lab import benchmark, train
from otoscope.cli_listen import listen
from otoscope.cli_models import card, doctor, methods, models
from otoscope.cli_report import report
from otoscope.console import Group, print_json, print_result, stop_cleanly, tell_faults
from otoscope.options import BATCH, CALLS, DEVICE, FILES, FORCE, JSON, MODEL, NETWORK, RESUME, SEED, TRUST, options

if TYPE_CHECKING:
    from otoscope.adapters.model import Model


FEW = 12  # classes, which are all printed
DEMONSTRATED = ("lime", "occlusion", "gradcam", "two_level")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="otoscope")
def main() -> None:
    """Explain what any audio model heard.

    \b
    otoscope demo
    otoscope explain song.mp3 --method lime --method gradcam --out report
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin take ten times as long on a busy machine
    stop_cleanly()


for command in (
    models,
    methods,
    doctor,
    card,
    train,
    benchmark,
    timeline,
    match,
    compare,
    evaluate,
    report,
    export,
    listen,
):
    main.add_command(command)


@main.command()
@click.option(
    "--out", default="otoscope-demo", show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@options(SEED, FORCE, JSON)
def demo(out: Path, seed: int, force: bool, as_json: bool) -> None:
    """Explain the shipped recording with the shipped model, by the four methods that differ most.

    \b
    Example: otoscope demo --out /tmp/demo
    """
    from otoscope.explainers.methods import Settings
    from otoscope.mer_models.shipped import demo_recording
    from otoscope.runs import Run

    run = Run([demo_recording()], "harmonics", DEMONSTRATED, ["top"], Settings(), out, seed=seed, force=force)
    _carry_out(run, as_json)


@main.command()
@FILES
@options(MODEL, TRUST, NETWORK, DEVICE, BATCH, JSON)
def predict(files: tuple[Path, ...], model_name: str, as_json: bool, **loading: Any) -> None:
    """Print the model's scores for each of its windows.

    \b
    Example: otoscope predict song.mp3 --model harmonics --json
    """
    from otoscope.adapters.audio import load_audio
    from otoscope.adapters.registry import load_model
    from otoscope.adapters.windows import window_scores

    recordings = [load_audio(file) for file in files]
    for audio in recordings:
        tell_faults(audio)
    model = load_model(model_name, **loading)
    found: list[dict[str, Any]] = []
    for audio in recordings:
        spans, scores = window_scores(model, audio)
        rows = [
            {
                "start": span.start,
                "end": span.start + span.duration,
                "scores": dict(zip(model.labels, row, strict=True)),
            }
            for span, row in zip(spans, scores.tolist(), strict=True)
        ]
        found.append({"recording": audio.name, "model": model_name, "windows": rows})
    if as_json:
        print_json(found)
        return
    for recording in found:
        click.echo(recording["recording"])
        for row in recording["windows"]:
            most = None if len(row["scores"]) <= FEW else 5
            best = sorted(row["scores"].items(), key=lambda pair: -pair[1])[:most]
            told = "  ".join(f"{label} {score:.3f}" for label, score in best)
            click.echo(f"  {row['start']:7.2f}-{row['end']:.2f} s  {told}")


@main.command(name="explain")
@FILES
@options(
    MODEL,
    TRUST,
    NETWORK,
    click.option(
        "--method", "methods", multiple=True, default=["lime"], help="Repeatable; see `otoscope methods`. [lime]"
    ),
    click.option(
        "--target", "targets", multiple=True, default=["top"], help="Label, index, top or A-B; repeatable. [top]"
    ),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; made if missing."),
    click.option("--start", type=float, help="Start of the span in seconds; where it scores highest if not given."),
    click.option(
        "--duration", type=click.FloatRange(min=0.05), help="Length of the span in seconds. [10, or the window]"
    ),
    click.option("--parts", help="How the sound is taken apart: superpixels, grid, events, pitch, … (see methods)."),
    click.option("--n-parts", type=click.IntRange(min=1), help="Most parts to make. [64; shapley: 10]"),
    click.option(
        "--stems", multiple=True, metavar="FILE", help="A stem of the one FILE, for --parts stems; repeatable."
    ),
    click.option("--off", type=click.Choice(["silence", "mean", "noise"]), help="What a part switched off becomes."),
    click.option("--scale", type=click.Choice(["log_odds", "score"]), help="Scale of the weights. [log_odds]"),
    click.option(
        "--clip", type=click.FloatRange(0, 0.4, min_open=True), help="Clip probabilities; 8-bit models: 0.002."
    ),
    click.option(
        "--zoom",
        type=click.IntRange(0, 8),
        help="lime: how often to cut the strongest parts finer. [2; named parts: 0]",
    ),
    CALLS,
    click.option(
        "--neighbourhood", type=click.Choice(["design", "random", "exhaustive"]), help="lime: which ones. [design]"
    ),
    click.option(
        "--domain", type=click.Choice(["stft", "bands"]), help="Cut the STFT or the model's own bands. [stft]"
    ),
    click.option("--render", type=click.Choice(["mask", "pinv", "nnls"]), help="How bands become sound again. [mask]"),
    click.option("--route", type=click.Choice(["auto", "waveform", "bands"]), help="How scores are had. [auto]"),
    click.option("--combs", type=click.Choice(["overlapping", "disjoint"]), help="occlusion: kind of harmonic parts."),
    click.option("--notes", help="occlusion: single notes instead of pitch classes, e.g. A4,C5."),
    click.option("--half-width", type=click.FloatRange(0, min_open=True), help="occlusion: half-width in cents. [50]"),
    click.option("--n-harmonics", type=click.IntRange(min=1), help="occlusion: partials per note. [8]"),
    click.option("--octaves", type=click.IntRange(0, 10), nargs=2, help="occlusion: first and last octave. [1 8]"),
    click.option("--layer", help="gradcam, guided_gradcam: name of the layer. [the model's own choice]"),
    click.option("--n-steps", type=click.IntRange(1, 4096), help="integrated_gradients: steps of the path. [32]"),
    click.option("--n-draws", type=click.IntRange(1, 4096), help="smoothgrad: noisy copies to average over. [16]"),
    click.option(
        "--noise", type=click.FloatRange(1e-6, 10), help="smoothgrad: spread of each cell's gain around 1. [0.15]"
    ),
    click.option("--corpus", type=click.Path(path_type=Path), help="two_level: folder with recordings to fit it to."),
    click.option("--midlevel", help="two_level: mid-level model, by name, card or folder. [midlevel]"),
    click.option("--feature", help="two_level: feature to drill into. [that with the largest effect]"),
    click.option(
        "--gates",
        type=click.Choice(["none", "quick", "full"]),
        help="How far to check it; full repeats it on a randomised model, another seed, … [quick]",
    ),
    click.option("--equal-loudness", is_flag=True, help="Write evidence and everything else as loud as the original."),
    DEVICE,
    BATCH,
    SEED,
    FORCE,
    RESUME,
    JSON,
)
def explain_command(
    files: tuple[Path, ...],
    model_name: str,
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    out: Path,
    start: float | None,
    duration: float | None,
    equal_loudness: bool,
    corpus: Path | None,
    midlevel: str | None,
    trust: bool,
    allow_network: bool,
    device: str,
    batch_size: int,
    seed: int,
    force: bool,
    resume: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Explain what a model heard; write pictures, sounds, numbers and a report to open.

    \b
    Example: otoscope explain song.mp3 --method lime --method occlusion --target top --out report
    otoscope explain song.mp3 --method two_level --corpus songs/ --feature minorness --out report
    """
    from otoscope.explainers.methods import Settings
    from otoscope.runs import Run

    if chosen["notes"] is not None:
        chosen["notes"] = tuple(chosen["notes"].split(","))
    settings = Settings(**{key: value for key, value in chosen.items() if value is not None})
    run = Run(
        files=files,
        model=model_name,
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
        equal_loudness=equal_loudness,
        corpus=corpus,
        midlevel=midlevel,
        loading={"device": device, "trust": trust, "allow_network": allow_network},
    )
    _carry_out(run, as_json)


def _carry_out(run: Any, as_json: bool) -> None:
    """Check, load, explain, print."""
    from otoscope.adapters.registry import load_model
    from otoscope.runs import carry_out, check

    check(run)

    def load(name: str) -> Model:
        return load_model(name, batch_size=run.batch_size, **run.loading)

    results, failed, report = carry_out(run, load(run.model), load=load)
    if as_json:
        print_json({"report": None if report is None else str(report), "results": results, "failed": failed})
    else:
        for result in results:
            print_result(result)
        if report is not None:
            click.echo(f"report: {report}")
    if failed:
        lines = "; ".join(f"{failure['file']}: {failure['error']}" for failure in failed)
        several = f"{len(failed)} of {len(run.files)} files failed, the others are kept: " if len(run.files) > 1 else ""
        raise OtoscopeError(several + lines)
