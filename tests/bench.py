"""Measurements, side by side in one run: ``make bench``, or ``python -m tests.bench speed memory …``.

speed
    Seconds of the whole of LIME (segment, decompose, compose, predict, fit) in ratio to a bare batched `predict` of as
    many recordings of the same length; the same of `explain` as it comes, which also zooms in, plays the evidence and
    opens the gates; beside it `lime_image`, Captum `Lime` and `KernelShap`, which perturb the
    model's mel bands and so skip the STFT that the bare calls pay for.
stability
    Agreement of designed and random neighbourhoods between seeds, and with a reference of 30,000 calls: Spearman's rank
    correlation and overlap of the five strongest parts, means over recordings and pairs of seeds.
parts
    The same at 2,048 designed calls for different numbers of parts, with R² by pairs left out, and the share of the
    attribution that default parts put on the planted causes of `tests.planted`.
routes
    Largest difference in score and lowest rank correlation between the bands and the waveform route.
memory
    Peak resident memory of 1,000 calls on a six-second recording, by either route.

Recordings are those of the data folder (``OTOSCOPE_DATA`` or ``../shared/data``), else the shipped one.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import otoscope
from otoscope.adapters.audio import Audio, load_audio
from otoscope.adapters.network import NetworkModel
from otoscope.adapters.windows import Windowed
from otoscope.explainers.explain import parts_stft
from otoscope.explainers.makers import make_parts
from otoscope.explainers.methods import Settings
from otoscope.explainers.neighbourhoods import make_masks
from otoscope.explainers.parts import Parts
from otoscope.explainers.routes import bands_scorer, score_masks, waveform_scorer
from otoscope.explainers.surrogate import fit
from otoscope.explainers.targets import on_scale, resolve_target
from tests import planted
from tests.builders import DATA, SELF_MADE

MODEL = "harmonics-1"  # whose figures are published
SECONDS = 6.0
CALLS = (256, 512, 1024, 2048, 4096)
REFERENCE = 30_000
SEEDS = 4
OFFS = ("silence", "mean", "noise")


def recordings(most: int | None = None) -> list[Path]:
    """List the recordings to measure on."""
    found = sorted((DATA / "music").glob("*.ogg")) or [otoscope.demo_recording()]
    return found[:most]


def excerpt(path: Path, model: NetworkModel) -> Audio:
    """Take six seconds from the middle."""
    audio = load_audio(path).at(model.rate)
    return audio.cut(max(0.0, audio.seconds / 2 - SECONDS / 2), SECONDS)


def shipped(name: str = MODEL) -> NetworkModel:
    """Load a shipped model."""
    model = otoscope.load_model(name)
    if not isinstance(model, NetworkModel):
        raise TypeError(type(model))
    return model


def clock(work: Callable[[], Any], repeats: int = 3) -> float:
    """Least seconds of several runs, the first being thrown away."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def whole_lime(model: NetworkModel, audio: Audio, calls: int, route: Any) -> None:
    """Segment, decompose, compose, predict, fit."""
    windowed = Windowed(model, len(audio.samples))
    parts = make_parts(audio, parts_stft(windowed))
    masks = make_masks("design", parts.k, calls, 0)[:calls]
    scored = score_masks(windowed, parts, masks, route=route)
    target = resolve_target(0, model.labels, model.output)
    fit(masks, on_scale(scored.scores, target, model.output, "log_odds"), "design")


def speed() -> None:
    """Print the ratios."""
    model, path = shipped(), recordings()[0]
    audio = excerpt(path, model)
    batch = np.stack([audio.samples] * 256)

    def bare(calls: int) -> None:
        for _ in range(calls // 256):
            model.predict(batch)

    print(f"\n## Speed, {path.name}, {SECONDS:g} s, {os.cpu_count()} cores\n")
    print("| what | calls | seconds | ratio to bare predict | goal |\n|---|---|---|---|---|")
    base = {calls: clock(lambda n=calls: bare(n), 2) for calls in (256, 1024, 4096)}  # type: ignore[misc]
    for calls, seconds in base.items():
        print(f"| bare predict | {calls} | {seconds:.2f} | 1.00 | |")
    rows: list[tuple[str, int, Any, str]] = [
        ("waveform", 256, "waveform", "1.40"),
        ("waveform", 1024, "waveform", "1.15"),
    ]
    rows += [("bands", 256, "bands", ""), ("bands", 1024, "bands", "0.30"), ("bands", 4096, "bands", "0.20")]
    for name, calls, route, goal in rows:
        seconds = clock(lambda n=calls, r=route: whole_lime(model, audio, n, r), 2)  # type: ignore[misc]
        print(f"| LIME, {name} route | {calls} | {seconds:.2f} | {seconds / base[calls]:.2f} | {goal} |")
    for calls in (1024, 4096):
        settings = Settings(calls=calls)
        seconds = clock(lambda s=settings: otoscope.explain(model, audio, settings=s), 2)  # type: ignore[misc]
        print(f"| explain, as it comes | {calls} | {seconds:.2f} | {seconds / base[calls]:.2f} | |")
    for name, work in rivals(model, audio).items():
        seconds = clock(work, 1)
        print(f"| {name} | 1024 | {seconds:.2f} | {seconds / base[1024]:.2f} | |")


def rivals(model: NetworkModel, audio: Audio) -> dict[str, Callable[[], Any]]:
    """Make the other tools' explanations of the same model, on its compressed mel bands."""
    import torch
    from captum.attr import KernelShap, Lime
    from lime.lime_image import LimeImageExplainer
    from skimage.segmentation import felzenszwalb

    front_end = model.hearing.front_end
    if front_end is None:
        raise TypeError("needs a front end")
    with torch.no_grad():
        heard = front_end(torch.from_numpy(audio.samples.copy())[None])  # (1, n_bands, n_frames)
    level = ((heard[0] - front_end.floor) / -front_end.floor).double().numpy()
    segments = felzenszwalb(level, scale=25, min_size=40)

    def classify(images: np.ndarray) -> np.ndarray:
        bands = torch.from_numpy(images[..., 0].astype(np.float32)) * -front_end.floor + front_end.floor
        return model.score(bands, lambda heard: heard)  # the picture is what the network hears

    def image() -> None:
        explainer = LimeImageExplainer(random_state=0)
        picture = np.repeat(level[..., None], 3, axis=2)
        explainer.explain_instance(
            picture,
            classify,
            hide_color=0,
            num_samples=1024,
            batch_size=32,
            segmentation_fn=lambda _: segments,
        )

    mask = torch.from_numpy(segments)[None]
    settings: dict[str, Any] = {"feature_mask": mask, "n_samples": 1024, "perturbations_per_eval": 32, "target": 0}

    def captum(kind: Any) -> None:
        with torch.no_grad():
            kind(model.network.eval()).attribute(heard, baselines=front_end.floor, **settings)

    return {
        f"lime_image ({segments.max() + 1} segments)": image,
        "Captum Lime": lambda: captum(Lime),
        "Captum KernelShap": lambda: captum(KernelShap),
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 1 where both are constant."""
    from scipy.stats import spearmanr

    return 1.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(spearmanr(a, b).statistic)


def top(weights: np.ndarray, n: int = 5) -> set[int]:
    """Strongest parts."""
    return set(np.argsort(-np.abs(weights))[:n].tolist())


def stability(most: int | None = 4) -> None:
    """Print the agreement between seeds and with the reference."""
    model = shipped()
    table: dict[tuple[str, int], list[list[float]]] = {}
    ks = []
    for path in recordings(most):
        windowed, parts, value = prepared(model, excerpt(path, model))
        scorer = bands_scorer(windowed.spectrogram, parts)  # type: ignore[arg-type]

        def weights(
            neighbourhood: Any, calls: int, seed: int, k: int = parts.k, ask: Any = scorer, explained: Any = value
        ) -> np.ndarray:
            masks = make_masks(neighbourhood, k, calls, seed)
            scores = np.concatenate([ask(masks[i : i + 32]) for i in range(0, len(masks), 32)])
            return fit(masks, explained(scores), neighbourhood).weights

        reference = weights("design", REFERENCE, 10_000)
        ks.append(parts.k)
        for neighbourhood, calls in itertools.product(("design", "random"), CALLS):
            found = [weights(neighbourhood, calls, seed) for seed in range(SEEDS)]
            pairs = list(itertools.combinations(found, 2))
            figures = [
                float(np.mean([spearman(a, b) for a, b in pairs])),
                float(np.mean([len(top(a) & top(b)) / 5 for a, b in pairs])),
                float(np.mean([spearman(a, reference) for a in found])),
                float(np.mean([len(top(a) & top(reference)) / 5 for a in found])),
            ]
            table.setdefault((neighbourhood, calls), []).append(figures)
    print(f"\n## Stability, {len(ks)} recordings, {min(ks)}-{max(ks)} parts, {SEEDS} seeds\n")
    print("| neighbourhood | calls | Spearman, seeds | top 5, seeds | Spearman, reference | top 5, reference |")
    print("|---|---|---|---|---|---|")
    for (neighbourhood, calls), figures_of in table.items():
        cells = " | ".join(f"{value:.2f}" for value in np.mean(figures_of, axis=0))
        print(f"| {neighbourhood} | {calls} | {cells} |")


def n_parts(most: int | None = 4) -> None:
    """Print agreement, fit and localisation for different numbers of parts."""
    model = shipped()
    print("\n## Number of parts, 2,048 designed calls\n")
    print("| parts | Spearman, seeds | top 5, seeds | R² | planted: attribution on the cue |\n|---|---|---|---|---|")
    for n in (16, 32, 64, 128):
        rows = []
        for path in recordings(most):
            windowed, parts, value = prepared(model, excerpt(path, model), n_parts=n)
            scorer = bands_scorer(windowed.spectrogram, parts)  # type: ignore[arg-type]
            found = []
            for seed in range(SEEDS):
                masks = make_masks("design", parts.k, 2048, seed)
                scores = np.concatenate([scorer(masks[i : i + 32]) for i in range(0, len(masks), 32)])
                found.append(fit(masks, value(scores), "design"))
            pairs = list(itertools.combinations([surrogate.weights for surrogate in found], 2))
            rows.append(
                [
                    np.mean([spearman(a, b) for a, b in pairs]),
                    np.mean([len(top(a) & top(b)) / 5 for a, b in pairs]),
                    np.mean([surrogate.r2 for surrogate in found if surrogate.r2 is not None]),
                ]
            )
        causes = [make() for make in planted.CAUSES]
        shares = [planted.share(planted.explained(c, "lime", {"n_parts": n}).map, c) for c in causes]
        cells = " | ".join(f"{value:.2f}" for value in [*np.mean(rows, axis=0), np.mean(shares)])
        print(f"| {n} | {cells} |", flush=True)


def prepared(
    model: NetworkModel, audio: Audio, **settings: Any
) -> tuple[Windowed, Parts, Callable[[np.ndarray], np.ndarray]]:
    """Make the windowed model, the parts, and the explained value of scores (the class that scores highest)."""
    windowed = Windowed(model, len(audio.samples))
    parts = make_parts(audio, parts_stft(windowed), **settings)
    target = resolve_target("top", model.labels, model.output, windowed.predict(audio.samples[None])[0])
    return windowed, parts, lambda scores: on_scale(scores, target, model.output, "log_odds")


def compare_routes(model: NetworkModel, audio: Audio, **settings: Any) -> tuple[float, float]:
    """Give the largest difference in score and the rank correlation of LIME's weights between the routes."""
    windowed, parts, value = prepared(model, audio, **settings)
    masks = make_masks("design", parts.k, 4 * parts.k, 0)
    answers = []
    for scorer in (bands_scorer(windowed.spectrogram, parts), waveform_scorer(windowed, parts)):  # type: ignore[arg-type]
        answers.append(np.concatenate([scorer(masks[i : i + 32]) for i in range(0, len(masks), 32)]))
    weights = [fit(masks, value(scores), "design").weights for scores in answers]
    return float(np.abs(answers[0] - answers[1]).max()), spearman(*weights)


def routes() -> None:
    """Print how well the routes agree, for every recording, part maker and off value."""
    model = shipped()
    print("\n## Bands against waveform, all recordings\n")
    print("| parts | off | largest difference in score | lowest rank correlation |\n|---|---|---|---|")
    for maker, off in itertools.product(SELF_MADE, OFFS):
        figures = [compare_routes(model, excerpt(path, model), maker=maker, off=off) for path in recordings()]
        print(f"| {maker} | {off} | {max(f[0] for f in figures):.4f} | {min(f[1] for f in figures):.4f} |", flush=True)


def peak_memory(route: str) -> float:
    """Run 1,000 calls on six seconds in a fresh process and give its peak memory in gigabytes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "one-run", route], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def one_run(route: str) -> None:
    """Explain and print the peak memory of this process in gigabytes."""
    model = shipped()
    whole_lime(model, excerpt(recordings()[0], model), 1000, route)
    # Not getrusage: its peak is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6)  # type: ignore[index]


def memory() -> None:
    """Print the peak memory by either route."""
    print("\n## Peak memory, 1,000 calls, 6 s\n\n| route | GB | goal |\n|---|---|---|")
    for route in ("waveform", "bands"):
        print(f"| {route} | {peak_memory(route):.2f} | 1.50 |")


MEASUREMENTS = {"speed": speed, "memory": memory, "stability": stability, "parts": n_parts, "routes": routes}


def main() -> None:
    """Run the measurements named on the command line, or all."""
    wanted = sys.argv[1:] or list(MEASUREMENTS)
    if wanted[0] == "one-run":
        one_run(wanted[1])
        return
    for name in wanted:
        MEASUREMENTS[name]()


if __name__ == "__main__":
    main()
