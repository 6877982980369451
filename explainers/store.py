"""Keeping explanations: a folder each, complete or not there at all.

===================  ==============================================================================================
explanation.json     everything but arrays, with ``schema: "otoscope/explanation/1"``
arrays.npz           label map (uint16), weights, errors, groups, given sounds, map, the method's own map
calls.npz            masks and scores of every call of a fit, so that other targets and scales need no new calls
original.wav         the explained span at the model's rate
evidence.wav         the evidence alone
complement.wav       everything else
map.png              spectrogram, map, weights
effects.png          level one of a two-level explanation
===================  ==============================================================================================

Results lie in ``DIR/<stem>-<sha8>/<model>/<method>-<target>/``. A folder is written under another name and renamed at
the end, so a killed run leaves no half result. The same seed gives the same bytes, but for ``seconds`` and paths.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from otoscope.adapters.audio import Audio, write_wav
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.spectra import Stft
from otoscope.adapters.whole_file import told_if_full
from otoscope.adapters.windows import Span
from otoscope.explainers.curves import Curves
from otoscope.explainers.document import SCHEMA, to_document
from otoscope.explainers.explanation import Explanation, RoundTrip, Score, WindowScore
from otoscope.explainers.level_one import is_level_one
from otoscope.explainers.parts import Parts
from otoscope.explainers.targets import Target

# what readers raise when a file is cut off or overwritten
DAMAGE = (OSError, EOFError, BadZipFile, zlib.error, AttributeError, IndexError, KeyError, ValueError, TypeError)


def result_folder(explanation: Explanation, recording: str) -> Path:
    """Where a result lies below the output folder."""
    above = model_folder(recording, explanation.audio_sha256, explanation.model)
    return above / f"{explanation.method}-{slug(explanation.target.name)}"


def model_folder(recording: str, sha256: str, model: str) -> Path:
    """Where all that a model said of a recording lies below the output folder."""
    return Path(f"{slug(Path(recording).stem)}-{sha256[:8]}") / slug(model)


def slug(name: str) -> str:
    """Turn a name into one that every file system takes; a changed name gets a hash, so that two stay two.

    >>> slug("rock")
    'rock'
    >>> slug("Male speech, man speaking")
    'Male_speech_man_speaking-366681'
    """
    safe = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII).strip("._")[:60]
    return safe if safe == name else f"{safe or 'name'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """Offer an empty folder to write to; it takes its name only when everything went well.

    Raises
    ------
    OtoscopeError
        If the place cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    except OSError as error:
        raise OtoscopeError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    try:
        with told_if_full(folder):
            yield partial
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save(
    explanation: Explanation,
    folder: str | Path,
    *,
    equal_loudness: bool = False,
    spec: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write an explanation into a folder, which must not hold anything else.

    Parameters
    ----------
    explanation : Explanation
    folder : str or Path
    equal_loudness : bool
        Bring evidence and complement to the root-mean-square level of the original, so that they are compared by what
        is in them; the gains stand in the JSON.
    spec : str, optional
        What the model was asked for by (a name, a card, a folder), for the command that makes the result again.
    options : mapping, optional
        What else the command line was given: see `otoscope.explainers.story.OPTIONS`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OtoscopeError
        If it cannot be written, or holds something that is no explanation.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "explanation.json").exists()):
        raise OtoscopeError(f"{folder}: holds something else; choose another folder")
    from otoscope.explainers.effects_figure import draw_effects
    from otoscope.explainers.figure import draw

    gains = _gains(explanation) if equal_loudness else {"evidence": 1.0, "complement": 1.0}
    with whole_or_nothing(folder) as partial:
        document = {**to_document(explanation), "gains": gains}
        if spec is not None:
            document["model"]["spec"] = spec
        if options:
            document["options"] = dict(options)
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)
        (partial / "explanation.json").write_text(text + "\n", encoding="utf-8")
        np.savez_compressed(partial / "arrays.npz", allow_pickle=False, **_arrays(explanation))
        if explanation.masks is not None and explanation.scores is not None:
            np.savez_compressed(partial / "calls.npz", masks=explanation.masks, scores=explanation.scores)
        rate = explanation.audio.rate
        write_wav(partial / "original.wav", explanation.audio.samples, rate)
        for name, audio in (("evidence", explanation.evidence), ("complement", explanation.complement)):
            write_wav(partial / f"{name}.wav", audio.samples * np.float32(gains[name]), rate)
        draw(explanation, partial / "map.png")
        if is_level_one(explanation.native):
            draw_effects(explanation, partial / "effects.png")
    return folder


def _gains(explanation: Explanation) -> dict[str, float]:
    def level(audio: Audio) -> float:
        return float(np.sqrt(np.mean(audio.samples.astype(np.float64) ** 2)))

    original = level(explanation.audio)
    pairs = {"evidence": level(explanation.evidence), "complement": level(explanation.complement)}
    return {name: original / own if own > 1e-6 else 1.0 for name, own in pairs.items()}


def _arrays(e: Explanation) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "labels": e.parts.labels.astype(np.uint16),
        "weights": e.weights,
        "map": e.map,
        "times": e.times,
        "frequencies": e.frequencies,
        "chosen": e.chosen,
    }
    optional = {
        "se": e.se,
        "interval": e.interval,
        "groups": e.groups,
        "shares": e.parts.shares,
        "recorded": e.parts.recorded,
    }
    arrays.update({name: array for name, array in optional.items() if array is not None})
    arrays.update({f"native_{name}": np.asarray(value) for name, value in e.native.items()})
    return arrays


def load_explanation(folder: str | Path) -> Explanation:
    """Read an explanation back.

    Raises
    ------
    OtoscopeError
        If the folder holds none, or one of another schema.
    """
    folder = Path(folder)
    document = read_document(folder)
    try:
        with (folder / "arrays.npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        calls: dict[str, Any] = {}
        if (folder / "calls.npz").exists():
            with np.load(folder / "calls.npz", allow_pickle=False) as file:
                calls = {name: file[name] for name in file.files}
        sounds = {name: _read_wav(folder / f"{name}.wav") for name in ("original", "evidence", "complement")}
        return _from_document(document, arrays, calls, sounds)
    except DAMAGE as error:
        raise OtoscopeError(f"{folder}: this explanation is damaged ({error}); make it again") from None


def read_document(folder: Path) -> dict[str, Any]:
    """Read the JSON of an explanation and check its schema."""
    path = folder / "explanation.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OtoscopeError(
            f"{folder}: holds no explanation.json; name a folder that `otoscope explain` made"
        ) from None
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path}: cannot be read ({error}); make the explanation again") from None
    if not isinstance(document, dict):
        raise OtoscopeError(f"{path}: holds no object; make the explanation again")
    if document.get("schema") != SCHEMA:
        raise OtoscopeError(f"{path}: has schema {document.get('schema')!r}; this version reads {SCHEMA!r}")
    return document


def _read_wav(path: Path) -> npt.NDArray[np.float32]:
    from scipy.io import wavfile

    return np.asarray(wavfile.read(path)[1], dtype=np.float32)


def _from_document(
    document: dict[str, Any], arrays: dict[str, Any], calls: dict[str, Any], sounds: dict[str, Any]
) -> Explanation:
    model, audio, parts = document["model"], document["audio"], document["parts"]
    rate = audio["rate"]
    names = tuple(entry["name"] for entry in document["weights"])
    groups = arrays.get("groups")
    rebuilt = Parts(
        Audio(sounds["original"], rate, audio["name"]),
        Stft(parts["n_fft"], parts["hop_length"]),
        arrays["labels"].astype(np.intp),
        tuple(parts["names"]),
        shares=arrays.get("shares"),
        recorded=arrays.get("recorded"),
        groups=groups,
        group_names=names if groups is not None else (),
        off=parts["off"],
        seed=parts["seed"],
        start=document["span"]["start"],
    )
    gains = document["gains"]
    scores = {
        key: Score(v["score"], v["scaled"], v["top"], tuple(v["all"])) for key, v in document["round_trip"].items()
    }
    return Explanation(
        method=document["method"],
        model=model["name"],
        fingerprint=model["fingerprint"],
        labels=tuple(model["labels"]),
        output=model["output"],
        target=Target(**document["target"]),
        scale=document["scale"],
        units=document["units"],
        span=Span(**document["span"]),
        parts=rebuilt,
        names=names,
        weights=arrays["weights"],
        se=arrays.get("se"),
        interval=arrays.get("interval"),
        groups=groups,
        map=arrays["map"],
        native={name.removeprefix("native_"): array for name, array in arrays.items() if name.startswith("native_")},
        chosen=arrays["chosen"],
        evidence=Audio(sounds["evidence"] / np.float32(gains["evidence"]), rate, "evidence"),
        complement=Audio(sounds["complement"] / np.float32(gains["complement"]), rate, "complement"),
        round_trip=RoundTrip(**scores),
        windows=tuple(WindowScore(**window) for window in document.get("windows", [])),
        fidelity=document["fidelity"],
        gates=document.get("gates", {}),
        curves=_curves(document.get("curves")),
        masks=calls.get("masks"),
        scores=calls.get("scores"),
        n_calls=document["n_calls"],
        seconds=document["seconds"],
        memory=document.get("memory"),
        seed=document["seed"],
        settings=document["settings"],
        route=document["route"],
        versions=document["versions"],
        audio_sha256=audio["sha256"],
        notes=tuple(document["notes"]),
    )


def _curves(kept: dict[str, Any] | None) -> Curves | None:
    return None if kept is None else Curves(**{key: np.array(value) for key, value in kept.items()})
