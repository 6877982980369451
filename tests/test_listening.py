"""The listening test: fair pairs, a page that gives nothing away, and scores held to slow versions."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.adapters.audio import Audio
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.wrap import wrap
from otoscope.explainers import listening, listening_page, listening_score, listening_sounds, store
from otoscope.explainers.explain import explain
from otoscope.explainers.explanation import Explanation
from otoscope.explainers.listening import choose_pairs, random_set
from otoscope.explainers.listening_page import arrange, write_page
from otoscope.explainers.listening_score import Answer
from otoscope.explainers.listening_sounds import sounds_of
from otoscope.explainers.methods import Settings
from tests.builders import noise

RATE = 8000
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def loud_early(waveforms: npt.NDArray[np.float32]) -> Floats:
    energy = (waveforms[:, : RATE // 2].astype(np.float64) ** 2).mean(axis=1) * 20
    return np.stack([energy / (1 + energy), 1 / (1 + energy)], axis=1)


def make(
    *, seed: int = 0, method: str = "lime", label: str = "early_bird", rate: int = RATE, output: Any = "softmax"
) -> Explanation:
    model = wrap(loud_early, rate=rate, labels=[label, "late"], output=output)
    chosen = {"lime": Settings(parts="grid", n_parts=9, calls=64), "occlusion": Settings(parts="grid", n_parts=9)}
    sound = Audio(noise(seconds=1.0, rate=rate, seed=seed, level=0.3), rate, f"secret{seed}.wav")
    return explain(model, sound, method=method, target=label, settings=chosen[method], name="ear")


def make_results(folder: Path, n: int = 3, **options: Any) -> Path:
    """Save the explanations of so many recordings."""
    for seed in range(n):
        explanation = make(seed=seed, **options)
        explanation.save(folder / store.result_folder(explanation, explanation.audio.name))
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    make_results(folder)
    return make_results(folder, 2, method="occlusion")


def written(results: Path, page: Path, n: int = 5, **options: Any) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Write a page; return what it knows, the key, and its text."""
    seed = options.get("seed", 0)
    made = write_page(choose_pairs(results, n, seed=seed), results, page, **options)
    text = page.read_text(encoding="utf-8")
    assert made.size == page.stat().st_size
    content = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, flags=re.DOTALL)
    assert content is not None
    return json.loads(content.group(1)), json.loads(made.key.read_text(encoding="utf-8")), text


def heard(data: str) -> tuple[Floats, int]:
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data.partition(",")[2])))
    return samples, rate


# Random sets of equal energy


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Floats, Bools, int]:
    k = draw(st.integers(2, 20))
    size = st.floats(1e-4, 1.0)
    energy = np.array(draw(st.lists(size, min_size=k, max_size=k)))
    silent = np.array(draw(st.lists(st.integers(0, 5), min_size=k, max_size=k))) == 0
    evidence = np.array(draw(st.lists(st.booleans(), min_size=k, max_size=k)))
    energy[silent] = 0
    energy = energy / energy.sum() if energy.any() else energy
    return energy, evidence, draw(st.integers(0, 2**16))


@given(recordings())
@settings(max_examples=200, deadline=None)
def test_a_random_set_is_as_near_as_half_the_loudest_part_and_never_the_evidence(
    given: tuple[Floats, Bools, int],
) -> None:
    energy, evidence, seed = given
    goal = energy[evidence].sum()
    if goal <= listening.QUIET * len(energy):
        return
    drawn = random_set(energy, evidence, rng=np.random.default_rng(seed))
    outside = energy[~evidence & (energy > listening.QUIET)]
    if drawn is None:
        assert len(outside) == 0
        return
    audible = energy > listening.QUIET
    assert not np.array_equal(drawn.parts & audible, evidence & audible)
    assert not drawn.parts[~audible].any()
    held = energy[drawn.parts].sum()
    assert held > 0
    assert drawn.ratio == pytest.approx(held / goal, rel=1e-3)
    assert drawn.shared == pytest.approx(energy[drawn.parts & evidence].sum() / goal, rel=1e-3, abs=1e-9)
    if abs(held - goal) > energy.max() / 2 + 1e-9:  # then there is no choice: the quietest part outside is too loud
        assert held == pytest.approx(outside.min())
        assert outside.min() >= 2 * goal * (1 - 1e-3)


@given(recordings())
@settings(max_examples=100, deadline=None)
def test_the_same_seed_draws_the_same_set(given: tuple[Floats, Bools, int]) -> None:
    energy, evidence, seed = given
    if energy[evidence].sum() <= listening.QUIET * len(energy):
        return
    one, other = (random_set(energy, evidence, rng=np.random.default_rng(seed)) for _ in range(2))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        np.testing.assert_array_equal(one.parts, other.parts)


@pytest.mark.parametrize("seed", range(20))
def test_with_many_small_parts_energies_agree_within_the_tolerance_and_nothing_is_shared(seed: int) -> None:
    rng = np.random.default_rng(seed)
    energy = rng.dirichlet(np.full(64, 2.0))
    evidence = np.zeros(64, dtype=bool)
    evidence[rng.choice(64, 20, replace=False)] = True
    drawn = random_set(energy, evidence, rng=rng)
    assert drawn is not None
    assert abs(drawn.ratio - 1) <= listening.TOLERANCE
    assert drawn.shared == 0
    other = random_set(energy, evidence, rng=np.random.default_rng(seed + 100), known=[drawn.parts])
    assert other is not None
    assert not np.array_equal(other.parts, drawn.parts)


def test_evidence_of_most_of_the_energy_is_shared_no_more_than_must_be() -> None:
    energy = np.full(50, 0.02)
    evidence = np.arange(50) < 35  # 0.7 of the energy, so that 0.4 of 0.7 must be shared
    drawn = random_set(energy, evidence, rng=np.random.default_rng(0))
    assert drawn is not None
    assert abs(drawn.ratio - 1) <= listening.TOLERANCE
    least = (2 * 0.7 - 1) / 0.7
    assert least - listening.TOLERANCE <= drawn.shared <= least + listening.SLACK


def test_where_few_sets_exist_all_are_found_before_there_is_none() -> None:
    energy, evidence = np.array([0.25, 0.25, 0.25, 0.25]), np.array([True, False, False, False])
    known: list[Bools] = []
    while (drawn := random_set(energy, evidence, rng=np.random.default_rng(1), known=known)) is not None:
        known.append(drawn.parts)
    assert sorted(np.flatnonzero(parts).tolist() for parts in known[:3]) == [[1], [2], [3]]
    assert len({parts.tobytes() for parts in known}) == len(known)


def test_groups_are_drawn_whole() -> None:
    energy = np.full(8, 0.125)
    units = np.zeros((4, 8), dtype=bool)
    for unit in range(4):
        units[unit, 2 * unit : 2 * unit + 2] = True
    for seed in range(10):
        drawn = random_set(energy, units[0] | units[3], rng=np.random.default_rng(seed), units=units)
        assert drawn is not None
        assert drawn.parts.tolist() == (units[1] | units[2]).tolist()


# Choosing


def test_every_explanation_gives_one_pair_before_any_gives_two(results: Path) -> None:
    for n, most in ((5, 1), (8, 2)):
        choice = choose_pairs(results, n, seed=3)
        assert len(choice.pairs) == n
        assert choice.n_explanations == 5
        assert max(pair.number for pair in choice.pairs) == most
    parts = [(pair.candidate.folder, pair.other.parts.tobytes()) for pair in choice.pairs]
    assert len(set(parts)) == len(parts)
    fewer = choose_pairs(results, 2, seed=3)
    assert fewer.n_explanations == 2


def test_choosing_is_seeded(results: Path) -> None:
    def chosen(seed: int) -> list[Any]:
        return [
            (pair.candidate.folder, pair.other.parts.tolist()) for pair in choose_pairs(results, 3, seed=seed).pairs
        ]

    assert chosen(1) == chosen(1)
    assert any(chosen(1) != chosen(seed) for seed in (2, 3))


def test_what_cannot_be_asked_about_is_left_out_and_named(tmp_path: Path) -> None:
    whole = make()
    whole.save(tmp_path / "good")
    nothing = np.zeros_like(whole.chosen)
    dataclasses.replace(whole, chosen=nothing).save(tmp_path / "empty")
    dataclasses.replace(whole, chosen=~nothing).save(tmp_path / "everything")
    one = whole.parts.with_(labels=np.zeros_like(whole.parts.labels))
    dataclasses.replace(whole, parts=one, chosen=np.arange(len(nothing)) == 0).save(tmp_path / "single")
    whole.save(tmp_path / "damaged")
    (tmp_path / "damaged" / "arrays.npz").write_bytes(b"no arrays")
    choice = choose_pairs(tmp_path, 1)
    assert [pair.candidate.folder.name for pair in choice.pairs] == ["good"]
    told = "\n".join(choose_pairs(tmp_path, 4).left_out)
    assert re.search(r"^damaged: this explanation is damaged .*; make it again$", told, flags=re.MULTILINE)
    assert "empty: its evidence is empty" in told
    assert "single: it has a single part" in told
    assert "everything: no other set of its parts has about the energy of the evidence" in told
    assert "good" not in told


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("arrays.npz", b""),
        ("arrays.npz", b"no arrays"),
        pytest.param(
            "arrays.npz",
            500,
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # numpy leaves it open
        ),
        ("original.wav", 500),
        ("evidence.wav", b""),
        ("evidence.wav", None),
        ("explanation.json", b"[]"),
        ("explanation.json", b"{}"),
        ("explanation.json", 500),
        ("explanation.json", b'{"schema": "otoscope/explanation/1"}'),
        ("explanation.json", b'{"schema": "otoscope/explanation/1", "model": [], "audio": 1, "parts": "x"}'),
    ],
)
def test_whatever_is_damaged_is_left_out(file: str, content: bytes | int | None, tmp_path: Path) -> None:
    folder = make().save(tmp_path / "bad")
    if content is None:
        (folder / file).unlink()
    else:
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(OtoscopeError, match=r"no explanation can be asked about \(bad: .+\); make others") as caught:
        choose_pairs(tmp_path, 1)
    assert "it has a single part" not in str(caught.value)
    assert "evidence is empty" not in str(caught.value)


def test_a_folder_without_anything_to_ask_about_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="holds no explanations"):
        choose_pairs(tmp_path, 1)
    whole = make()
    dataclasses.replace(whole, chosen=np.zeros_like(whole.chosen)).save(tmp_path / "empty")
    with pytest.raises(OtoscopeError, match=r"no explanation can be asked about \(empty: its evidence is empty\)"):
        choose_pairs(tmp_path, 1)


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_pairs_come_in_any_order_on_balanced_sides_and_again_with_sides_swapped(
    n: int, repeats: float, seed: int
) -> None:
    questions = arrange(n, repeats, seed=seed)
    assert questions == arrange(n, repeats, seed=seed)
    first = [question for question in questions if question.first is None]
    again = [question for question in questions if question.first is not None]
    assert sorted(question.pair for question in first) == list(range(n))
    assert len(again) == math.ceil(repeats * n - 1e-9)
    assert abs(2 * sum(question.evidence == "A" for question in first) - n) <= 1
    for place, question in enumerate(questions):
        if question.first is not None:
            before = questions[question.first]
            assert before.pair == question.pair
            assert {before.evidence, question.evidence} == {"A", "B"}
            assert place - question.first > (1 if n > 1 else 0)


def test_orders_and_sides_are_shuffled_by_the_seed() -> None:
    orders = {tuple((one.pair, one.evidence) for one in arrange(12, 0, seed=seed)) for seed in range(20)}
    assert len(orders) == 20
    on_a = [sum(one.evidence == "A" and one.pair == 0 for one in arrange(3, 0, seed=seed)) for seed in range(400)]
    assert 0.4 < np.mean(on_a) < 0.6


# Sounds, page and key


@pytest.mark.parametrize("rate", [8000, 10000])  # the second is none that MP3 knows
def test_both_sounds_are_equally_loud_and_none_clips(tmp_path: Path, rate: int) -> None:
    results = make_results(tmp_path / "results", 2, rate=rate)
    content, key, _ = written(results, tmp_path / "listen.html", 2, reference=True)
    for asked in content["pairs"]:
        sounds = [heard(content["sounds"][asked[side]]) for side in ("a", "b", "recording")]
        levels = [np.sqrt(np.mean(samples**2)) for samples, _ in sounds]
        decibels = 20 * np.log10(np.array(levels) / levels[0])
        assert np.abs(decibels).max() < 0.1  # although MP3 takes the very highest from the noise
        assert all(np.abs(samples).max() < 1 for samples, _ in sounds)
        assert len({len(samples) for samples, _ in sounds}) == 1
        assert levels[0] == pytest.approx(key["pairs"][asked["id"]]["level"], rel=0.01)
        assert set(key["pairs"][asked["id"]]["gains"]) == {"evidence", "random", "recording"}


@given(st.lists(st.tuples(st.floats(1e-4, 3), st.integers(1, 400)), min_size=2, max_size=3), st.integers(0, 99))
@settings(deadline=None)
def test_gains_bring_any_sounds_to_one_level_without_clipping(kinds: list[tuple[float, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sounds = {}
    for number, (size, length) in enumerate(kinds):  # from a single click to steady noise
        sounds[str(number)] = np.zeros(400)
        sounds[str(number)][:length] = size * rng.uniform(0.1, 1, length) * rng.choice([-1, 1], length)
    gains, level = listening_sounds.equal_loudness(sounds)
    made = {name: gains[name] * samples for name, samples in sounds.items()}
    for samples in made.values():
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(level)
        assert np.abs(samples).max() <= listening_sounds.PEAK * (1 + 1e-9)
    loudest = max(np.abs(samples).max() for samples in made.values())
    assert level == listening_sounds.LEVEL or loudest == pytest.approx(listening_sounds.PEAK)


def test_the_key_says_which_sound_is_the_evidence(results: Path, tmp_path: Path) -> None:
    content, key, _ = written(results, tmp_path / "listen.html", 5, repeats=0.4)
    for asked in content["pairs"]:
        facts = key["pairs"][asked["id"]]
        explanation = store.load_explanation(results / facts["folder"])
        evidence = explanation.evidence.samples * facts["gains"]["evidence"]
        near = {}
        for side in ("a", "b"):
            samples, _ = heard(content["sounds"][asked[side]])
            near[side.upper()] = np.corrcoef(evidence, samples[: len(evidence)])[0, 1]
        assert max(near, key=lambda side: near[side]) == facts["evidence"]
        assert near[facts["evidence"]] > 0.9
        mask = np.zeros(explanation.parts.k, dtype=bool)
        mask[facts["parts"]["random"]] = True
        energy = explanation.parts.energy
        assert facts["energy"]["random"] == pytest.approx(energy[mask].sum())
        assert facts["energy_ratio"] == pytest.approx(energy[mask].sum() / energy[explanation.evidence_mask].sum())
        trip = explanation.round_trip
        assert facts["model_difference"] == pytest.approx(trip.evidence.scaled - trip.off.scaled)
    again = {name: facts for name, facts in key["pairs"].items() if facts["repeats"] is not None}
    assert len(again) == 2
    for facts in again.values():
        assert key["pairs"][facts["repeats"]]["folder"] == facts["folder"]
        assert key["pairs"][facts["repeats"]]["evidence"] != facts["evidence"]


def test_the_page_gives_nothing_away(results: Path, tmp_path: Path) -> None:
    content, key, text = written(results, tmp_path / "listen.html", 8, reference=True)  # evidence is used twice
    assert set(content) == {"test", "pairs", "sounds"}
    for place, asked in enumerate(content["pairs"]):
        assert set(asked) == {"id", "words", "a", "b", "recording"}
        assert asked["id"] == f"p{place + 1:02d}"
        assert len(content["sounds"][asked["a"]]) == len(content["sounds"][asked["b"]])
    bare = re.sub(r"data:audio/mpeg;base64,[\w+/=]+", "", text).casefold()
    for word in ("evidence", "random", "explanation", "lime", "occlusion", "secret", "gains", "energy", "seed"):
        assert not re.search(rf"\b{word}", bare), word
    assert len(set(content["sounds"])) == len(content["sounds"])
    sides = [[asked["a"], asked["b"]] for asked in content["pairs"] if key["pairs"][asked["id"]]["repeats"] is None]
    assert all(b == a + 1 for a, b in sides)
    assert sorted({a for pair in sides for a in pair}) == sorted(a for pair in sides for a in pair)
    assert {facts["evidence"] for facts in key["pairs"].values()} == {"A", "B"}
    assert key["test"] == content["test"]


def test_the_same_seed_gives_the_same_bytes_and_another_another_order(results: Path, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        (tmp_path / name).mkdir()
        _, key, text = written(results, tmp_path / name / "listen.html", 4, seed=seed)
        texts.append((text, json.dumps(key)))
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[2][0]


def test_the_policy_lets_in_nothing_but_the_one_script(results: Path, tmp_path: Path) -> None:
    import hashlib

    _, _, text = written(results, tmp_path / "listen.html", 1)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    script = re.search(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert "default-src 'none'" in policy.group(1)
    assert f"script-src 'sha256-{digest}'" in policy.group(1)
    assert not re.search(r"""(src|href)=["']""", text)


def test_labels_stay_text(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    content, _, text = written(make_results(tmp_path / "results", 1, label=evil), tmp_path / "listen.html", 1)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert content["pairs"][0]["words"] == evil


def test_targets_are_asked_for_in_words() -> None:
    found = make()
    assert listening_page.in_words(found) == "early bird"
    contrast = dataclasses.replace(found.target, against=1)
    assert listening_page.in_words(dataclasses.replace(found, target=contrast)) == "early bird rather than late"
    assert listening_page.in_words(make(output="regression")) == "high early bird"


@pytest.mark.parametrize("reference", [False, True])
def test_a_page_that_would_be_too_large_is_refused_before_most_of_it_is_made(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: bool
) -> None:
    page, made = tmp_path / "listen.html", list[Any]()

    def counted(*given: Any, **how: Any) -> Any:
        made.append(given)
        return sounds_of(*given, **how)

    _, _, text = written(results, page, 12, reference=reference)
    page.unlink()
    mb = sum(map(len, re.findall(r"data:audio/mpeg;base64,[\w+/=]+", text))) / 1e6
    monkeypatch.setattr(listening_page, "sounds_of", counted)
    with pytest.raises(OtoscopeError) as caught:
        written(results, page, 12, reference=reference, most_mb=0.5 * mb)
    told = re.search(r"of about (\S+) MB, and .* \(--pairs (\d+)\), or allow more by --max-mb 1$", str(caught.value))
    assert told is not None, caught.value
    assert float(told.group(1)) == pytest.approx(mb, rel=0.2)
    assert len(made) == listening_page.PROBED
    assert not page.exists()
    written(results, page, int(told.group(2)), reference=reference, most_mb=0.5 * mb)


def test_a_page_that_even_one_pair_makes_too_large_asks_for_a_shorter_span(results: Path, tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match=r"explain a shorter span \(--duration\), or allow more by --max-mb 1$"):
        written(results, tmp_path / "listen.html", 1, most_mb=1e-3)


def test_a_recording_beside_several_pairs_lies_in_the_page_once(results: Path, tmp_path: Path) -> None:
    content, key, _ = written(results, tmp_path / "listen.html", 12, reference=True, repeats=0)
    same: dict[tuple[str, float], set[int]] = {}
    for asked in content["pairs"]:
        facts = key["pairs"][asked["id"]]
        same.setdefault((facts["recording"], facts["level"]), set()).add(asked["recording"])
    assert all(len(places) == 1 for places in same.values())
    assert len(same) < len(content["pairs"])
    assert len(content["sounds"]) == 2 * len(content["pairs"]) + len(same)


def test_a_page_that_cannot_be_written_is_an_error_and_leaves_nothing(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OtoscopeError, match="cannot be written"):
        written(results, tmp_path / "file" / "listen.html", 1)
    (tmp_path / "listen.key.json").mkdir()
    with pytest.raises(OtoscopeError, match="cannot be written"):
        written(results, tmp_path / "listen.html", 1)
    assert not (tmp_path / "listen.html").exists()


# Scoring


def make_key(n: int = 6, **changes: Any) -> dict[str, Any]:
    pairs = {
        f"p{place:02d}": {
            "evidence": "AB"[place % 2],
            "repeats": None,
            "target": ["calm", "tense"][place % 2],
            "method": "lime" if place < n / 2 else "gradcam",
            "model": "ear",
            "scale": "log_odds",
            "folder": f"folder {place}",
            "model_difference": float(place),
        }
        for place in range(n)
    }
    for name, facts in changes.items():
        pairs[name] = {**pairs.get(name, pairs["p00"]), **facts}
    return {"schema": listening_page.KEY_SCHEMA, "test": "listen-1", "pairs": pairs}


def said(key: dict[str, Any], who: str, values: list[float]) -> list[Answer]:
    """Answers that come out as these values; NaN: none."""
    answers = []
    for (name, facts), value in zip(key["pairs"].items(), values, strict=True):
        other = "B" if facts["evidence"] == "A" else "A"
        if not np.isnan(value):
            answers.append(Answer(who, name, {1: facts["evidence"], 0: other, 0.5: "cannot tell"}[value]))
    return answers


@given(st.integers(1, 60), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_wilson_ends_where_the_observed_share_is_just_196_errors_away(n: int, share: float) -> None:
    successes = share * n
    low, high = listening_score.wilson(successes, n)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1

    def errors(p: float) -> float:
        return abs(share - p) / math.sqrt(p * (1 - p) / n)

    grid = np.linspace(1e-6, 1 - 1e-6, 10001)
    inside = [p for p in grid if errors(p) <= 1.959964]
    assert low == pytest.approx(inside[0], abs=2e-4)
    assert high == pytest.approx(inside[-1], abs=2e-4)


def slow_bootstrap(table: Floats, n: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(n):
        rows, columns = (list(rng.choice(np.arange(n_of), size=n_of)) for n_of in table.shape)
        cells = [table[row, column] for row in rows for column in columns if not np.isnan(table[row, column])]
        if cells:
            means.append(np.mean(cells))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_bootstrap_is_that_over_listeners_and_pairs(missing: float) -> None:
    rng = np.random.default_rng(2)
    table = rng.choice([0.0, 0.5, 1.0], size=(5, 12), p=[0.2, 0.2, 0.6])
    table[rng.uniform(size=table.shape) < missing] = np.nan
    np.testing.assert_allclose(listening_score.crossed_bootstrap(table), slow_bootstrap(table, 4000, 7), atol=0.03)


def test_the_bootstrap_of_known_cases() -> None:
    by_listener = np.array([[1.0] * 10, [0.0] * 10])  # a quarter of the draws holds the one or the other only
    assert listening_score.crossed_bootstrap(by_listener) == (0.0, 1.0)
    by_pair = np.tile([1.0] * 50 + [0.0] * 50, (3, 1))  # listeners agree, so that only pairs vary: binomial
    error = 1.96 * math.sqrt(0.25 / 100)
    np.testing.assert_allclose(listening_score.crossed_bootstrap(by_pair), [0.5 - error, 0.5 + error], atol=0.015)
    uneven = np.random.default_rng(0).uniform(size=(3, 7))
    assert listening_score.crossed_bootstrap(uneven, seed=1) == listening_score.crossed_bootstrap(uneven, seed=1)
    assert listening_score.crossed_bootstrap(uneven, seed=1) != listening_score.crossed_bootstrap(uneven, seed=2)


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    # "Computing Krippendorff's alpha-reliability" (2011), A: binary data, two observers, no missing data: 0.095
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert listening_score.alpha(np.array([meg, owen], dtype=float)) == pytest.approx(0.095, abs=5e-4)


def slow_alpha(table: Floats) -> float | None:
    """1 − observed / expected disagreement, pair of answers by pair of answers."""
    units = [[value for value in column if not np.isnan(value)] for column in table.T]
    units = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in units for value in unit]
    n = len(everything)
    if len(set(everything)) < 2:
        return None
    observed = sum(sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    expected = sum(a != b for a, b in itertools.permutations(everything, 2)) / (n * (n - 1))
    return float(1 - observed / expected)


@pytest.mark.parametrize("seed", range(10))
def test_alpha_is_one_less_the_ratio_of_disagreements(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.choice([0.0, 0.5, 1.0, np.nan], size=(int(rng.integers(2, 6)), 9), p=[0.2, 0.1, 0.4, 0.3])
    assert listening_score.alpha(table) == pytest.approx(slow_alpha(table))


def test_alpha_is_none_where_there_is_nothing_to_agree_about() -> None:
    assert listening_score.alpha(np.array([[1.0, 0.0, 0.5]])) is None
    assert listening_score.alpha(np.ones((3, 4))) is None
    assert listening_score.alpha(np.array([[1.0, np.nan], [np.nan, 0.0]])) is None
    assert listening_score.alpha(np.array([[1.0, 0.0], [1.0, 0.0]])) == 1


def test_all_for_the_evidence_is_one_and_not_quite_sure() -> None:
    key = make_key(20)
    for names in (["ann"], ["ann", "ben", "cem"]):
        found = listening_score.score([one for who in names for one in said(key, who, [1.0] * 20)], key)["overall"]
        assert (found["preference"], found["evidence"], found["n_pairs"]) == (1, 20 * len(names), 20)
        assert found["interval"] == "Wilson"
        assert found["high"] == 1
        assert found["low"] == pytest.approx(20 / (20 + 1.96**2), abs=1e-3)
        assert found["p"] == pytest.approx(2 * 0.5**20)


def test_answers_at_random_come_out_near_one_half() -> None:
    rng = np.random.default_rng(0)
    key = make_key(60)
    answers = [
        Answer(who, name, answer)
        for who in "abcdefgh"
        for name, answer in zip(key["pairs"], rng.choice(["A", "B"], 60), strict=True)
    ]
    found = listening_score.score(answers, key)
    assert found["overall"]["preference"] == pytest.approx(0.5, abs=0.06)
    assert found["overall"]["low"] < 0.5 < found["overall"]["high"]
    assert found["overall"]["p"] > 0.01
    assert abs(found["alpha"]) < 0.1


def test_cannot_tell_counts_half_and_even_pairs_are_left_out_of_the_test() -> None:
    key = make_key(6)
    found = listening_score.score(said(key, "ann", [1, 1, 1, 0.5, 0.5, 0]), key)
    overall = found["overall"]
    assert overall["preference"] == pytest.approx(4 / 6)
    assert (overall["evidence"], overall["cannot_tell"], overall["random"]) == (3, 2, 1)
    assert overall["p"] == pytest.approx(10 / 16)  # 3 of 4: 2 · (4 + 1) / 16
    np.testing.assert_allclose((overall["low"], overall["high"]), listening_score.wilson(4, 6))
    assert found["alpha"] is None


def test_the_test_is_over_pairs_by_the_majority_of_their_listeners() -> None:
    key = make_key(4)
    table: dict[str, list[float]] = {"ann": [1, 1, 0, 1], "ben": [1, 0, 0, 1], "cem": [0, 1, 0, 0.5]}
    found = listening_score.score([one for who, values in table.items() for one in said(key, who, values)], key)[
        "overall"
    ]
    assert (found["pairs_for"], found["pairs_against"]) == (3, 1)
    assert found["p"] == pytest.approx(10 / 16)
    assert found["interval"] == "bootstrap"
    assert found["low"] < found["preference"] < found["high"]
    only_even = listening_score.score(said(key, "ann", [0.5] * 4), key)["overall"]
    assert (only_even["preference"], only_even["p"]) == (0.5, None)


def test_scores_are_split_by_class_method_and_listener() -> None:
    key = make_key(6)
    found = listening_score.score(
        [*said(key, "ann", [1, 0, 1, 0, 1, 0]), *said(key, "ben", [1, 1, 1, 0, math.nan, 0])], key
    )
    assert {name: cell["preference"] for name, cell in found["by_class"].items()} == {"calm": 1, "tense": 1 / 6}
    assert found["by_method"]["lime"]["preference"] == 5 / 6
    assert found["by_method"]["gradcam"]["preference"] == pytest.approx(1 / 5)
    assert found["by_listener"]["ann"]["preference"] == 0.5
    assert found["by_listener"]["ben"]["preference"] == pytest.approx(3 / 5)
    assert found["by_listener"]["ben"]["n_pairs"] == 5
    assert any("ben left 1 of 6 pairs unanswered" in note for note in found["notes"])


def test_pairs_asked_again_show_consistency_and_count_once() -> None:
    key = make_key(4, p08={"evidence": "B", "repeats": "p00"}, p09={"evidence": "A", "repeats": "p01"})
    found = listening_score.score(said(key, "ann", [1, 1, 1, 1, 1, 0]), key)
    assert found["overall"]["preference"] == 1
    assert found["overall"]["n_pairs"] == 4
    assert found["consistency"] == {"same": 1, "n": 2, "share": 0.5}
    assert found["by_listener"]["ann"]["consistency"]["share"] == 0.5
    sideways = [Answer("ann", name, "A") for name in key["pairs"]]  # always the left one: never consistent
    assert listening_score.score(sideways, key)["consistency"]["share"] == 0
    once = listening_score.score(said(key, "ann", [1, 1, 1, 1, math.nan, math.nan]), key)
    assert once["consistency"] is None


def test_of_double_answers_the_last_counts_and_it_is_said() -> None:
    key = make_key(4)
    found = listening_score.score([*said(key, "ann", [0, 0, 0, 0]), *said(key, "ann", [1, 1, 1, math.nan])], key)
    assert found["overall"]["preference"] == 0.75
    assert "3 answers were given again by the same listener (ann); the last ones count" in found["notes"]


def test_unheard_answers_and_shared_explanations_are_said() -> None:
    key = make_key(4, p01={"folder": "folder 0"})
    answers = [dataclasses.replace(one, heard=one.pair != "p02") for one in said(key, "ann", [1, 0, 1, 0])]
    notes = listening_score.score(answers, key)["notes"]
    assert "1 answers were given without playing both sounds" in notes
    assert any("4 pairs come from 3 explanations" in note for note in notes)


def test_preference_is_tied_to_what_the_model_scored() -> None:
    key = make_key(6)
    rising = [*said(key, "ann", [0, 0, 0, 1, 1, 1]), *said(key, "ben", [0, 0, 0.5, 0.5, 1, 1])]
    found = listening_score.score(rising, key)["with_model"]
    assert found["n_pairs"] == 6
    assert found["spearman"] == pytest.approx(np.corrcoef([1.5, 1.5, 3, 4, 5.5, 5.5], [1, 2, 3, 4, 5, 6])[0, 1])
    assert listening_score.score(said(key, "ann", [1] * 6), key)["with_model"] is None
    mixed = make_key(6, p01={"model": "other"})
    assert listening_score.score(rising, mixed)["with_model"] is None
    assert listening_score.score(said(key, "ann", [0, 1, *[math.nan] * 4]), key)["with_model"] is None


def test_nothing_answered_is_an_error() -> None:
    key = make_key(1, p08={"repeats": "p00"})
    with pytest.raises(OtoscopeError, match="nobody answered"):
        listening_score.score([], key)
    with pytest.raises(OtoscopeError, match="nobody answered"):
        listening_score.score([Answer("ann", "p08", "A")], key)
