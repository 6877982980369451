"""Explain what any audio model heard.

>>> import otoscope
>>> audio = otoscope.load_audio(otoscope.demo_recording())
>>> model = otoscope.load_model("harmonics")
>>> explanation = otoscope.explain(model, audio, method="occlusion", target="top", seed=0)
>>> explanation.map.shape[0], len(explanation.weights)
(108, 12)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from otoscope.adapters.audio import Audio, load_audio
    from otoscope.adapters.errors import OtoscopeError
    from otoscope.adapters.frontend import FrontEnd
    from otoscope.adapters.hearing import Hearing
    from otoscope.adapters.registry import load_model
    from otoscope.adapters.spectra import Stft
    from otoscope.adapters.wrap import wrap
    from otoscope.explainers.comparison import Comparison, compare
    from otoscope.explainers.effects import TwoLevel
    from otoscope.explainers.evaluation import Evaluation, evaluate
    from otoscope.explainers.explain import explain
    from otoscope.explainers.explanation import Explanation
    from otoscope.explainers.methods import Settings
    from otoscope.explainers.report import write_report
    from otoscope.explainers.store import load_explanation
    from otoscope.fit_effects import fit_two_level
    from otoscope.mer_models.shipped import demo_recording

# Found when first used, so that `import otoscope` and `otoscope --help` are quick.
_HOMES = {
    "Audio": "adapters.audio",
    "load_audio": "adapters.audio",
    "OtoscopeError": "adapters.errors",
    "FrontEnd": "adapters.frontend",
    "Stft": "adapters.spectra",
    "Hearing": "adapters.hearing",
    "load_model": "adapters.registry",
    "wrap": "adapters.wrap",
    "compare": "explainers.comparison",
    "Comparison": "explainers.comparison",
    "evaluate": "explainers.evaluation",
    "Evaluation": "explainers.evaluation",
    "explain": "explainers.explain",
    "Explanation": "explainers.explanation",
    "Settings": "explainers.methods",
    "TwoLevel": "explainers.effects",
    "fit_two_level": "fit_effects",
    "write_report": "explainers.report",
    "load_explanation": "explainers.store",
    "demo_recording": "mer_models.shipped",
}

__all__ = [
    "Audio",
    "Comparison",
    "Evaluation",
    "Explanation",
    "FrontEnd",
    "Hearing",
    "OtoscopeError",
    "Settings",
    "Stft",
    "TwoLevel",
    "__version__",
    "compare",
    "demo_recording",
    "evaluate",
    "explain",
    "fit_two_level",
    "load_audio",
    "load_explanation",
    "load_model",
    "wrap",
    "write_report",
]


def __dir__() -> list[str]:
    """List the public names, those not imported yet included."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'otoscope' has no attribute {name!r}")
    return getattr(import_module(f"otoscope.{_HOMES[name]}"), name)
