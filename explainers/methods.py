"""The methods, by name: each is a function from a `Request` to an `Outcome`.

A method declares the settings it uses, so that a setting that would reach nothing is an error and not a silent wish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from typing import Any, Literal, get_args

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError, unknown
from otoscope.adapters.model import Model, capability
from otoscope.adapters.plugins import points, registered, told
from otoscope.adapters.windows import Windowed
from otoscope.explainers.combs import HALF_WIDTH, N_HARMONICS, OCTAVES
from otoscope.explainers.effects import TwoLevel
from otoscope.explainers.explanation import Outcome
from otoscope.explainers.makers import N_PARTS
from otoscope.explainers.neighbourhoods import Neighbourhood
from otoscope.explainers.parts import Off, Parts
from otoscope.explainers.routes import Progress, Route, quiet
from otoscope.explainers.targets import CLIP, Floats, Scale, Target, on_scale

Render = Literal["mask", "pinv", "nnls"]
Gates = Literal["none", "quick", "full"]

MOST_CALLS = 2**20
CALLS = 2048  # from `tests.bench_calls`: two seeds agree on nine of ten of the five strongest parts


@dataclass(frozen=True)
class Settings:
    """What can be chosen, with defaults; None means the method's own default.

    Attributes
    ----------
    parts : str, optional
        Part maker: ``superpixels`` for most methods, ``harmonic`` for occlusion, ``grid`` for RISE.
    n_parts : int
        Most parts to make; for exact Shapley values 10 where left as it is.
    zoom : int, optional
        How often LIME cuts its strongest parts finer and looks again; twice where None, as far as the calls suffice,
        and never for parts asked for by name.
    stems : tuple of str
        Files with the recording's stems, for the part maker ``stems``.
    off : {"silence", "mean", "noise"}
        What stands in for a part that is switched off.
    scale : {"log_odds", "score"}, optional
    clip : float
        Probabilities are clipped to [clip, 1 − clip] before the logarithm.
    calls : int or "auto", optional
        Size of the neighbourhood of LIME, KernelSHAP and RISE: 2048, or 512 at level two, where None. With ``auto``
        LIME goes on until its strongest parts are settled; see `otoscope.explainers.budget`.
    neighbourhood : {"design", "random", "exhaustive"}
    domain : {"stft", "bands"}
        Whether LIME's parts are cut from the recording's STFT or from the model's own filtered spectrogram.
    render : {"mask", "pinv", "nnls"}
        How evidence from the model's filtered spectrogram becomes sound.
    route : {"auto", "waveform", "bands"}
    combs : {"overlapping", "disjoint"}
        Of harmonic occlusion.
    notes : tuple of str
        Single notes to occlude instead of pitch classes.
    half_width : float
        Of a comb's teeth, in cents.
    n_harmonics : int
    octaves : (int, int)
    layer : str, optional
        Of Grad-CAM and Guided Grad-CAM.
    n_steps : int
        Of the path of integrated gradients.
    n_draws : int
        Noisy masks that SmoothGrad averages over.
    noise : float
        Standard deviation of SmoothGrad's noise on the gain of every cell.
    feature : str, optional
        Of the mid-level model, which the two-level method drills into; the one with the largest effect where None.
    gates : {"none", "quick", "full"}
        How far the explanation is checked; see `otoscope.explainers.gates`.
    """

    parts: str | None = None
    n_parts: int = N_PARTS
    stems: tuple[str, ...] = ()
    off: Off = "silence"
    scale: Scale | None = None
    clip: float = CLIP
    zoom: int | None = None
    calls: int | Literal["auto"] | None = None
    neighbourhood: Neighbourhood = "design"
    domain: Literal["stft", "bands"] = "stft"
    render: Render = "mask"
    route: Route = "auto"
    combs: Literal["overlapping", "disjoint"] = "overlapping"
    notes: tuple[str, ...] = ()
    half_width: float = HALF_WIDTH
    n_harmonics: int = N_HARMONICS
    octaves: tuple[int, int] = OCTAVES
    layer: str | None = None
    n_steps: int = 32
    n_draws: int = 16
    noise: float = 0.15
    feature: str | None = None
    gates: Gates = "quick"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.scale not in (None, "log_odds", "score"):
            raise unknown("scale", self.scale, ("log_odds", "score"))
        if self.gates not in get_args(Gates):
            raise unknown("kind of gates", self.gates, get_args(Gates))
        limits = {
            "clip": (self.clip, 1e-12, 0.49),
            "calls": (self.calls, 1, MOST_CALLS),
            "n_parts": (self.n_parts, 1, 4096),
            "zoom": (self.zoom, 0, 8),
            "half_width": (self.half_width, 0.1, 600),
            "n_harmonics": (self.n_harmonics, 1, 64),
            "n_steps": (self.n_steps, 1, 4096),
            "n_draws": (self.n_draws, 1, 4096),
            "noise": (self.noise, 1e-6, 10),
        }
        for name, (value, low, high) in limits.items():
            if (name in ("calls", "zoom") and value is None) or (name == "calls" and value == "auto"):
                continue
            if not isinstance(value, int | float) or not low <= value <= high:
                raise OtoscopeError(f"{name} must lie between {low:g} and {high:g}, got {value!r}")
        if not 0 <= self.octaves[0] <= self.octaves[1] <= 10:
            raise OtoscopeError(f"octaves are the first and the last, 0 to 10, got {self.octaves}")
        if isinstance(self.stems, str) or not all(isinstance(file, str) for file in self.stems):
            raise OtoscopeError(f"stems are a tuple of file names, got {self.stems!r}")
        if bool(self.stems) != (self.parts == "stems"):
            given = f"--stems are given, but parts are {self.parts or 'left to the method'!r}; add --parts stems"
            raise OtoscopeError(given if self.stems else "parts 'stems' are read from files; name each by --stems FILE")


def changed(settings: Settings) -> set[str]:
    """Name the settings that differ from their defaults."""
    default = Settings()
    return {f.name for f in fields(Settings) if getattr(settings, f.name) != getattr(default, f.name)}


COMMON = frozenset({"parts", "n_parts", "stems", "off", "scale", "clip", "gates"})


@dataclass(frozen=True)
class Request:
    """One question to one model about one span.

    Attributes
    ----------
    model : Windowed
    whole : Parts
        The undivided span on the STFT grid that fits the model.
    target : Target
    scale : {"log_odds", "score"}
    settings : Settings
    seed : int
    batch_size : int
    progress : callable
    excerpt : Audio, optional
        The span at the recording's own rate.
    two_level : TwoLevel, optional
        The mid-level model and the effects of its features, for the method that needs them.
    given : Parts, optional
        Parts to take instead of making some: those of an explanation that is made again in another way.
    """

    model: Windowed
    whole: Parts
    target: Target
    scale: Scale
    settings: Settings
    seed: int
    batch_size: int
    progress: Progress = quiet
    excerpt: Audio | None = None
    two_level: TwoLevel | None = None
    given: Parts | None = None

    @property
    def calls(self) -> int:
        """Number of calls, for a method that cannot tell when it has enough."""
        if self.settings.calls == "auto":
            raise OtoscopeError("--calls auto is for lime and two_level; give a number")
        return self.settings.calls or CALLS

    def value(self, scores: Floats) -> Floats:
        """Bring scores (n, n_classes) to the explained scale, (n,)."""
        return on_scale(scores, self.target, self.model.output, self.scale, clip=self.settings.clip)


@dataclass(frozen=True)
class Method:
    """A registered method: what it does, how, and which settings it uses."""

    summary: str
    run: Callable[[Request], Outcome]
    uses: frozenset[str] = field(default_factory=frozenset)
    white_box: bool = False
    needs_two_level: bool = False


METHODS: dict[str, Method] = {}
HOMES = ("lime", "occlusion", "gradcam", "two_level", "shapley", "rise", "gradients", "guided")
GROUP = "otoscope.explainers"


def all_methods() -> dict[str, Method]:
    """Give our methods, and those of plug-ins in use, by name; importing a method's home registers it."""
    for home in HOMES:
        import_module(f"otoscope.explainers.{home}")
    return METHODS


def find_method(name: str) -> Method:
    """Find a method by name, ours or a plug-in's."""
    return registered(name, all_methods(), GROUP, "method")


def settings_for(settings: Settings, name: str) -> Settings:
    """Keep of the settings those that this method uses."""
    default, uses = Settings(), find_method(name).uses
    return replace(settings, **{f.name: getattr(default, f.name) for f in fields(Settings) if f.name not in uses})


def refuse_black_box(name: str, model: Model) -> None:
    """Raise an error where a method needs gradients that a model does not offer, naming the methods that fit."""
    if find_method(name).white_box and capability(model, "gradients") is None:
        why = getattr(model, "no_gradients", "this model offers no gradients")
        raise OtoscopeError(f"{why}, so {name} cannot explain it; use {fitting_black_boxes()}")


def fitting_black_boxes() -> str:
    """List the methods that need no more than `predict`."""
    return ", ".join(name for name, entry in all_methods().items() if not entry.white_box)


def method_summaries() -> dict[str, str]:
    """Say in one line what each method does; plug-ins are not imported for it."""
    own = {name: one.summary for name, one in all_methods().items()}
    return {**{name: told(point) for name, point in points(GROUP).items()}, **own}


def method(
    name: str, summary: str, *, uses: set[str], white_box: bool = False, needs_two_level: bool = False
) -> Callable[[Any], Any]:
    """Register a method."""

    def register(run: Callable[[Request], Outcome]) -> Callable[[Request], Outcome]:
        METHODS[name] = Method(summary, run, COMMON | uses, white_box, needs_two_level)
        return run

    return register
