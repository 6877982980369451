"""The JSON of an explanation: everything but arrays, as plain values; ``docs/explanation.schema.json`` describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from otoscope.explainers.explanation import Explanation
from otoscope.explainers.level_one import is_level_one, to_table

SCHEMA = "otoscope/explanation/1"


def to_document(explanation: Explanation) -> dict[str, Any]:
    """Everything but arrays, as plain values."""
    e = explanation
    parts = e.parts
    return {
        "schema": SCHEMA,
        "method": e.method,
        "model": {"name": e.model, "fingerprint": e.fingerprint, "labels": list(e.labels), "output": e.output},
        "audio": {"name": e.audio.name, "sha256": e.audio_sha256, "rate": e.audio.rate},
        "target": asdict(e.target),
        "scale": e.scale,
        "units": e.units,
        "span": asdict(e.span),
        "round_trip": asdict(e.round_trip),
        "windows": [asdict(window) for window in e.windows],
        "gap": e.gap,
        "evidence_energy": float(e.parts.energy[e.evidence_mask].sum()),
        "fidelity": e.fidelity,
        "gates": e.gates,
        "verdict": None if e.verdict is None else asdict(e.verdict),
        "curves": None if e.curves is None else {key: value.tolist() for key, value in asdict(e.curves).items()},
        "weights": [
            {
                "name": e.names[i],
                "weight": float(e.weights[i]),
                "se": None if e.se is None else float(e.se[i]),
                "interval": None if e.interval is None else e.interval[i].tolist(),
                "energy": float(e.energy[i]),
                "evidence": bool(e.chosen[i]),
            }
            for i in range(len(e.weights))
        ],
        "parts": {
            "names": list(parts.names),
            "extents": np.round(parts.extents, 4).tolist(),
            "energy": parts.energy.tolist(),
            "off": parts.off,
            "seed": parts.seed,
            "n_fft": parts.stft.n_fft,
            "hop_length": parts.stft.hop_length,
        },
        "n_calls": e.n_calls,
        "seconds": round(e.seconds, 3),
        "memory": e.memory,
        "seed": e.seed,
        "settings": e.settings,
        "route": e.route,
        "versions": e.versions,
        "notes": list(e.notes),
        **({"level_one": to_table(e.native)} if is_level_one(e.native) else {}),
    }
