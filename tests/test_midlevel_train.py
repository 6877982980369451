"""Training the mid-level networks: learns what is planted, leaks no song, stops, resumes to the same bytes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from otoscope.adapters.audio import load_audio
from otoscope.adapters.card import read_card, write_card
from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.loading import Loading
from otoscope.adapters.model import Floats
from otoscope.adapters.network import NetworkModel
from otoscope.mer_models import midlevel_fit as fitting
from otoscope.mer_models.data import Clip
from otoscope.mer_models.datasets import gather
from otoscope.mer_models.descriptors import FEATURES
from otoscope.mer_models.fit import seeded
from otoscope.mer_models.midlevel_fit import Recipe, build_bridge, joint_loss, learn, pearson, predictions
from otoscope.mer_models.midlevel_layers import Design, MidlevelNet
from otoscope.mer_models.midlevel_nets import bottleneck, from_card
from otoscope.mer_models.midlevel_sections import Sections, listen
from otoscope.mer_models.midlevel_split import COLUMNS, Dealt, deal, targets
from otoscope.mer_models.midlevel_train import train_midlevel
from otoscope.mer_models.soundtracks import EMOTIONS
from tests.midlevel import EMOTION_WEIGHTS, N_SAMPLES, NARROW, RATE, SMALL, sound, tiny_clips

QUICK = Recipe(epochs=3, learning_rate=5e-3)
HOP = 128
LENGTH = 51  # frames of a section


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return tiny_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def sections(clips: list[Clip]) -> Sections:
    return standardised(listen(clips, SMALL))


def standardised(recordings: Sections) -> Sections:
    mean, deviation = recordings.statistics(np.arange(len(recordings.magnitudes)))
    assert SMALL.front_end is not None
    return replace(recordings, hearing=replace(SMALL, front_end=replace(SMALL.front_end, mean=mean, std=deviation)))


def untrained(design: Design = "joint") -> MidlevelNet:
    with seeded(0):
        return MidlevelNet(replace(NARROW, design=design))


def run(clips: list[Clip], out: Path, **changes: Any) -> Path:
    usual: dict[str, Any] = {"recipe": QUICK, "settings": NARROW, "hearing": SMALL, "command": "otoscope train"}
    return train_midlevel(clips, out=out, **(usual | changes))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def load(card: Path) -> NetworkModel:
    return from_card(read_card(card), Loading())


# What is learnt from


def test_ratings_become_fifteen_targets_and_incomplete_levels_none(clips: list[Clip]) -> None:
    goals = targets(clips, scale=0.1)
    assert goals.shape == (24, 15)
    assert goals[3, 2] == pytest.approx(clips[3].ratings["rhythmic_complexity"] / 10)
    assert goals[3, 7 + 4] == pytest.approx(clips[3].ratings["fear"] / 10)
    other_scale = replace(clips[0], ratings={"tension": 0.3, "sad": 0.1})  # as other data sets rate them
    halves = [
        replace(clips[0], ratings={name: 5.0 for name in FEATURES}),
        replace(clips[0], ratings={name: 5.0 for name in EMOTIONS}),
        other_scale,
    ]
    known = np.isfinite(targets(halves, scale=0.1))
    assert known.tolist() == [[True] * 7 + [False] * 8, [False] * 7 + [True] * 8, [False] * 15]


def made(songs: list[str], kinds: list[str]) -> tuple[list[Clip], Floats]:
    rows = []
    for index, (song, kind) in enumerate(zip(songs, kinds, strict=True)):
        names = {"both": FEATURES + EMOTIONS, "midlevel": FEATURES, "emotion": EMOTIONS, "none": ()}[kind]
        rows.append(Clip(str(index), Path("x"), song, "made", ratings=dict.fromkeys(names, 5.0)))
    return rows, targets(rows, scale=0.1)


@settings(max_examples=60, deadline=None)
@given(
    songs=st.lists(st.integers(0, 40).map(str), min_size=30, max_size=120),
    seed=st.integers(0, 99),
    design=st.sampled_from([("emotion",), ("midlevel",), ("midlevel", "emotion")]),
    data=st.data(),
)
def test_splits_never_share_a_song(songs: list[str], seed: int, design: Any, data: st.DataObject) -> None:
    any_kind = st.sampled_from(["both", "both", "midlevel", "emotion", "none"])
    kinds = data.draw(st.lists(any_kind, min_size=len(songs), max_size=len(songs)))
    rows, goals = made(songs, kinds)
    try:
        dealt = deal(rows, goals, design, validation=0.1, test=0.2, seed=seed)
    except OtoscopeError:
        assert len({song for song, kind in zip(songs, kinds, strict=True) if kind == "both"}) < 12
        return
    parts = [{songs[index] for index in part.tolist()} for part in (dealt.learnt, dealt.validation, dealt.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    for part in (dealt.validation, dealt.test):
        assert len({songs[index] for index in part.tolist()}) >= 3
        assert all(kinds[index] == "both" for index in part.tolist())  # all designs are judged on the same recordings
    held_out = parts[1] | parts[2]
    for index, (song, kind) in enumerate(zip(songs, kinds, strict=True)):
        useful = kind == "both" or kind in design
        assert (index in dealt.learnt) == (useful and song not in held_out)


def test_soundtracks_is_split_as_published() -> None:
    rows, goals = made([str(k) for k in range(360)], ["both"] * 360)
    sizes, tests = [], []
    for seed in (42, 42, 7):
        dealt = deal(rows, goals, ("emotion",), validation=0.1, test=0.1, seed=seed)
        sizes.append((len(dealt.learnt), len(dealt.validation), len(dealt.test)))
        tests.append(dealt.test.tolist())
    assert sizes == [(288, 36, 36)] * 3
    assert tests[0] == tests[1] != tests[2]


def test_recordings_rated_on_one_level_only_can_be_dealt_out_alone() -> None:
    rows, goals = made([str(k) for k in range(20)], ["midlevel"] * 20)
    assert len(deal(rows, goals, ("midlevel",), validation=0.1, test=0.1, seed=0).learnt) == 14
    with pytest.raises(OtoscopeError, match="0 songs have all ratings of midlevel and emotion"):
        deal(rows, goals, ("midlevel", "emotion"), validation=0.1, test=0.1, seed=0)


# Sections


def test_a_section_is_a_stretch_of_the_recording(clips: list[Clip], tmp_path: Path) -> None:
    long = replace(clips[0], path=tmp_path / "long.wav")
    soundfile.write(long.path, sound(0.2, 0.5, 0.4, seconds=3), RATE, subtype="FLOAT")
    heard = listen([long], SMALL)
    whole = heard.hearing.behind_bands(torch.from_numpy(heard.magnitudes[0].T[None].copy()))[
        0, 0
    ]  # (n_frames, n_bands)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(15):
        section = heard.drawn(np.array([0]), rng)
        assert section.shape == (1, 1, LENGTH, len(SMALL.front_end.centres))  # type: ignore[union-attr]
        matches = [k for k in range(len(whole) - LENGTH + 1) if torch.allclose(whole[k : k + LENGTH], section[0, 0])]
        assert len(matches) == 1
        starts.update(matches)
    assert min(starts) < 40
    assert max(starts) > len(whole) - LENGTH - 40
    windows = heard.windows(0)
    assert len(windows) == 4  # 188 frames by 51
    torch.testing.assert_close(windows[0, 0], whole[:LENGTH])
    torch.testing.assert_close(windows[-1, 0], whole[-LENGTH:])


@pytest.mark.parametrize("fill", ["loop", "silence"])
def test_short_recordings_are_filled_up(clips: list[Clip], tmp_path: Path, fill: Any) -> None:
    short = replace(clips[0], path=tmp_path / "short.wav")
    soundfile.write(short.path, sound(0.2, 0.0, 0.4, seconds=0.25), RATE, subtype="FLOAT")
    heard = listen([short], SMALL, fill=fill)
    n = len(heard.magnitudes[0])
    assert n == 16
    section, windows = heard.drawn(np.array([0]), np.random.default_rng(0)), heard.windows(0)
    assert section.shape == windows.shape == (1, 1, LENGTH, section.shape[-1])
    torch.testing.assert_close(section, windows)
    expected = section[0, 0, :n] if fill == "loop" else torch.zeros(n, section.shape[-1])
    torch.testing.assert_close(section[0, 0, n : 2 * n], expected)


def test_learning_hears_what_prediction_hears(clips: list[Clip], sections: Sections) -> None:
    for index in (0, 5):
        samples = load_audio(clips[index].path).samples
        peak = np.abs(samples).max()
        direct = sections.hearing(torch.from_numpy(samples[:N_SAMPLES] / peak)[None])[0, 0]
        learnt = sections.windows(index)[0, 0]
        # Frames at the edges of a section see beyond it.
        torch.testing.assert_close(learnt[:-2], direct[:-2], atol=1e-4, rtol=0)


def test_amplitude_is_that_of_the_recording_or_left_alone(clips: list[Clip], tmp_path: Path) -> None:
    samples = sound(0.5, 0.2, 0.3)
    quiet = np.concatenate([np.zeros(500), 0.1 * samples, np.zeros(900)])  # digital silence at both ends
    pair = []
    for name, one in (("a", samples), ("b", quiet)):
        soundfile.write(tmp_path / f"{name}.wav", one, RATE, subtype="FLOAT")
        pair.append(replace(clips[0], path=tmp_path / f"{name}.wav"))
    same = listen(pair, SMALL).magnitudes
    np.testing.assert_allclose(same[0], same[1], atol=1e-3)
    apart = listen(pair, SMALL, amplitude="none").magnitudes
    np.testing.assert_allclose(0.1 * apart[0], apart[1], atol=1e-4)
    assert np.abs(same[0] - apart[0]).max() > 1


def test_one_mean_and_one_deviation_for_all_cells(clips: list[Clip]) -> None:
    heard = listen(clips[:3], SMALL)
    cells = [np.log10(1 + magnitudes.astype(np.float64)) for magnitudes in heard.magnitudes[:2]]
    mean = np.mean([one.mean() for one in cells])
    deviation = np.sqrt(np.mean([np.mean((one - mean) ** 2) for one in cells]))
    assert heard.statistics(np.array([0, 1])) == pytest.approx((mean, deviation), rel=1e-5)


def test_silent_and_missing_recordings_are_told(clips: list[Clip], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), RATE)
    with pytest.raises(OtoscopeError, match=r"silent\.wav: is digital silence, yet people rated it"):
        listen([replace(clips[0], path=tmp_path / "silent.wav")], SMALL)
    with pytest.raises(OtoscopeError, match=r"gone\.wav: no such file"):
        listen([replace(clips[0], path=tmp_path / "gone.wav")], SMALL)


# Fitting


def test_the_loss_is_the_mean_squared_error_over_what_was_rated() -> None:
    rng = np.random.default_rng(0)
    goals = rng.uniform(size=(5, 15))
    goals[1, :7] = goals[2, 7:] = np.nan
    said = {"midlevel": rng.uniform(size=(5, 7)), "emotion": rng.uniform(size=(5, 8))}
    errors = {}
    for level, columns in COLUMNS.items():
        squares = [
            (said[level][i, j] - goal) ** 2
            for i, row in enumerate(goals[:, columns])
            for j, goal in enumerate(row)
            if not np.isnan(goal)
        ]
        errors[level] = np.mean(squares)
    tensors = {level: torch.from_numpy(values) for level, values in said.items()}

    def loss(*levels: Any, **weights: float) -> float:
        return float(joint_loss(tensors, torch.from_numpy(goals), levels, recipe=Recipe(**weights)))  # type: ignore[arg-type]

    assert loss("midlevel", "emotion") == pytest.approx(errors["midlevel"] + errors["emotion"])
    halves = loss("midlevel", "emotion", midlevel_weight=0.5, emotion_weight=0.5)
    assert halves == pytest.approx((errors["midlevel"] + errors["emotion"]) / 2)
    assert loss("emotion", emotion_weight=0.5) == pytest.approx(errors["emotion"])


def test_pearson_is_scipys_and_0_where_nothing_varies() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.standard_normal((30, 4)), rng.standard_normal((30, 4))
    np.testing.assert_allclose(pearson(truth, said), [pearsonr(truth[:, k], said[:, k]).statistic for k in range(4)])
    said[:, 1] = 0.25
    assert pearson(truth, said)[1] == 0
    np.testing.assert_allclose(pearson(truth, 3 - 2 * truth), -1)


def test_what_is_planted_is_learnt(clips: list[Clip], sections: Sections) -> None:
    """Pitch, staccato and hiss steer all ratings; after 60 passes each target is told with r > .8."""
    goals, everything, told = targets(clips, scale=0.1), np.arange(len(clips)), list[str]()
    with seeded(0):
        network = MidlevelNet(replace(NARROW, channels=(8, 8, 8, 8, 16, 16, 16, 16, 32)))
    recipe = Recipe(epochs=60, patience=60, learning_rate=2e-2)
    dealt = Dealt(everything, everything[::3], everything)
    learn(network, sections, goals, dealt, recipe=recipe, seed=0, progress=told.append)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in told]
    assert len(losses) == 60
    assert losses[-1] < losses[10] < losses[0]
    assert losses[-1] < 0.1 * losses[0]
    said = predictions(network, sections, everything)
    for level, columns in COLUMNS.items():
        assert pearson(goals[:, columns], said[level]).min() > 0.8
    assert network.midlevel is not None
    assert network.emotion is not None
    weight, bias = (tensor.detach().numpy() for tensor in (network.emotion.weight, network.emotion.bias))
    np.testing.assert_allclose(said["emotion"], said["midlevel"] @ weight.T + bias, atol=1e-5)


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float], goals: Floats) -> list[dict[str, torch.Tensor]]:
    """Let validation score as told; the weights that were scored."""
    seen: list[dict[str, torch.Tensor]] = []

    def said(network: MidlevelNet, _sections: Sections, chosen: Any) -> dict[str, Floats]:
        score = scores[min(len(seen), len(scores) - 1)]
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        truth = goals[chosen] - goals[chosen].mean(axis=0)
        across = np.linalg.qr(np.column_stack([np.ones(len(truth)), truth[:, 0], np.arange(len(truth)) ** 2]))[0][:, 2:]
        return {
            level: score * truth[:, columns] / np.linalg.norm(truth[:, columns], axis=0)
            + np.sqrt(1 - score**2) * across
            for level, columns in COLUMNS.items()
        }

    monkeypatch.setattr(fitting, "predictions", said)
    return seen


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(
    clips: list[Clip], sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = np.tile(targets(clips, scale=0.1)[:, :1], (1, 15))
    seen = scripted(monkeypatch, [0.1, 0.3, 0.6, 0.5, 0.6, 0.2, 0.1], same)
    everything = np.arange(8)
    network, told = untrained(), list[str]()
    recipe = Recipe(epochs=30, patience=4, learning_rate=5e-3)
    dealt = Dealt(everything, everything, everything)
    best, last = learn(network, sections, same, dealt, recipe=recipe, seed=0, progress=told.append)
    assert (best, last) == (3, 7)
    assert "validation r 0.600, best in epoch 3" in told[2]
    assert all(torch.equal(value, seen[2][name]) for name, value in network.state_dict().items())
    assert not torch.equal(network.state_dict()["midlevel.weight"], seen[6]["midlevel.weight"])
    assert not network.training


def test_learning_is_learning_whatever_mode_the_network_was_left_in(clips: list[Clip], sections: Sections) -> None:
    goals, dealt = targets(clips, scale=0.1), Dealt(np.arange(16), np.arange(16, 20), np.arange(20, 24))
    networks = [untrained().train(), untrained().eval()]
    for network in networks:
        learn(network, sections, goals, dealt, recipe=replace(QUICK, epochs=1), seed=0)
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["features.norm1.num_batches_tracked"] == 2


def test_a2mid2es_emotions_do_not_steer_the_features(clips: list[Clip], sections: Sections) -> None:
    goals = targets(clips, scale=0.1)
    turned = goals.copy()
    turned[:, 7:] = goals[::-1, 7:]
    states = []
    for one in (goals, turned):
        network = untrained("a2mid2e")
        dealt = Dealt(np.arange(16), np.arange(16, 20), np.arange(20, 24))
        learn(network, sections, one, dealt, recipe=QUICK, seed=0)
        before = network.state_dict()["emotion.weight"].clone()
        assert torch.equal(before, untrained("a2mid2e").state_dict()["emotion.weight"])
        build_bridge(network, sections, one, dealt.learnt, recipe=QUICK)
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    apart = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert apart == {"emotion.weight", "emotion.bias"}


def test_the_bridge_is_least_squares(clips: list[Clip], sections: Sections) -> None:
    goals, learnt = targets(clips, scale=0.1), np.arange(20)
    network = untrained("a2mid2e")
    build_bridge(network, sections, goals, learnt, recipe=Recipe())
    heard = np.column_stack([predictions(network, sections, learnt)["midlevel"], np.ones(20)])
    assert network.emotion is not None
    got = np.column_stack([network.emotion.weight.detach().numpy(), network.emotion.bias.detach().numpy()])
    errors = goals[learnt, 7:] - heard @ got.T
    np.testing.assert_allclose(heard.T @ errors, 0, atol=1e-4)  # what is left is orthogonal to what was heard
    build_bridge(network, sections, goals, learnt, recipe=Recipe(bridge="ratings"))
    assert not np.allclose(network.emotion.weight.detach().numpy(), got[:, :7])
    said = goals[20:, :7] @ network.emotion.weight.detach().numpy().T + network.emotion.bias.detach().numpy()
    np.testing.assert_allclose(said, goals[20:, 7:], atol=1e-4)  # the planted relation, on songs it has not seen
    assert EMOTION_WEIGHTS.shape == network.emotion.weight.shape


# Runs


def test_a_run_writes_weights_and_a_card_for_each_level(clips: list[Clip], tmp_path: Path) -> None:
    told: list[str] = []
    card = run(clips, tmp_path, progress=told.append)
    assert names_in(tmp_path) == [
        "joint-midlevel.toml",
        "joint.safetensors",
        "joint.toml",
    ]
    emotion, lower = load(card), load(tmp_path / "joint-midlevel.toml")
    assert (emotion.labels, lower.labels) == (EMOTIONS, FEATURES)
    assert bottleneck(emotion)[0].fingerprint == lower.fingerprint
    tables = read_card(card).tables
    assert tables["model"]["n_parameters"] == sum(p.numel() for p in emotion.network.parameters())
    assert tables["data"]["soundtracks"] == {"clips": 24, "songs": 24}
    assert tables["data"]["recipe"]["learning_rate"] == 5e-3
    assert tables["measured"]["command"] == "otoscope train"
    assert "3 recordings of songs kept apart; fitted to 18, stopped by 3" in tables["measured"]["protocol"]
    assert set(tables["measured"]["test"]["emotion"]) == {*EMOTIONS, "mean"}
    assert set(tables["measured"]["validation"]["midlevel"]) == {*FEATURES, "mean"}
    goals = targets(clips, scale=0.1)
    learnt = deal(clips, goals, ("midlevel", "emotion"), validation=0.1, test=0.1, seed=42).learnt
    heard = tables["input"]["front_end"]
    assert (heard["mean"], heard["std"]) == listen(clips, SMALL).statistics(learnt)  # of nothing that is held out
    assert any(line.startswith("epoch 3: loss") for line in told)
    assert "test: midlevel, mean r" in told[-1]


def test_the_cards_figures_are_those_of_the_loaded_model(clips: list[Clip], tmp_path: Path) -> None:
    card = run(clips, tmp_path, recipe=replace(QUICK, test=0.3))
    emotion, figures = load(card), read_card(card).tables["measured"]["test"]
    goals = targets(clips, scale=0.1)
    test = deal(clips, goals, ("midlevel", "emotion"), validation=0.1, test=0.3, seed=42).test
    assert len(test) == 7
    kept_apart = [clips[index] for index in test.tolist()]
    said = predictions(emotion.network, listen(kept_apart, emotion.hearing), np.arange(7))
    for level, columns in COLUMNS.items():
        expected = pearson(goals[test, columns], said[level])
        assert list(figures[level].values()) == pytest.approx([*expected, expected.mean()], abs=2e-4)
    sounds = [load_audio(clip.path).samples for clip in kept_apart]
    windows = [[one[start : start + N_SAMPLES] / np.abs(one).max() for start in (0, 12 * HOP)] for one in sounds]
    predicted = emotion.predict(np.concatenate(windows)).reshape(7, 2, 8).mean(axis=1)
    # The frames at the edges differ, 2 of 51 here (of 313 at full size).
    away = np.sqrt(np.square(predicted - said["emotion"]).mean())
    assert away < 0.2 * said["emotion"].std(axis=0).mean()


def test_a_run_of_a2mid2e_builds_the_bridge(clips: list[Clip], tmp_path: Path) -> None:
    emotion = load(run(clips, tmp_path, design="a2mid2e", recipe=replace(QUICK, bridge="ratings")))
    _, weights, biases = bottleneck(emotion)
    ratings = targets(clips, scale=0.1)
    np.testing.assert_allclose(ratings[:, :7] @ weights.T + biases, ratings[:, 7:], atol=1e-4)


@pytest.mark.parametrize(("design", "levels"), [("a2e", ["emotion"]), ("a2mid", ["midlevel"])])
def test_designs_with_one_level_have_one_card(
    clips: list[Clip], tmp_path: Path, design: Any, levels: list[str]
) -> None:
    card = run(clips, tmp_path, design=design, name="one")
    assert names_in(tmp_path) == ["one.safetensors", "one.toml"]
    assert load(card).labels == {"a2e": EMOTIONS, "a2mid": FEATURES}[design]
    assert list(read_card(card).tables["measured"]["test"]) == levels


def killed(after: int) -> Callable[[str], None]:
    def progress(line: str) -> None:
        if line.startswith(f"epoch {after + 1}:"):
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("design", ["joint", "a2mid2e"])
def test_a_killed_run_ends_with_the_same_bytes(clips: list[Clip], tmp_path: Path, design: Any) -> None:
    settings = replace(NARROW, dropout=0.3)  # draws from torch's generator
    recipe = replace(QUICK, epochs=5)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = {"design": design, "settings": settings, "recipe": recipe}
    run(clips, whole, **options)
    told: list[str] = []
    for after in (1, 1, 3):  # the second time in the epoch it died in
        with pytest.raises(KeyboardInterrupt):
            run(clips, broken, resume=(broken / f"{design}-run").exists(), progress=killed(after), **options)
    assert not (broken / f"{design}.toml").exists()
    run(clips, broken, resume=True, progress=told.append, **options)
    assert [line.split(":")[0] for line in told if line.startswith("epoch")] == ["epoch 4", "epoch 5"]
    assert names_in(whole) == names_in(broken)
    for name in names_in(whole):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_a_run_is_resumed_with_its_own_data_and_settings_only(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path, progress=killed(1))
    with pytest.raises(OtoscopeError, match="holds a run named joint already; resume it"):
        run(clips, tmp_path)
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"recipe": replace(QUICK, epochs=4)},
        {"settings": replace(NARROW, last_kernel=1)},
        {"hearing": replace(SMALL, n_samples=N_SAMPLES + HOP)},
    ]
    for other in others:
        with pytest.raises(OtoscopeError, match="the run named joint has other data or settings"):
            run(clips, tmp_path, resume=True, **other)
    rerated = [replace(clips[0], ratings={**clips[0].ratings, "fear": 1.5}), *clips[1:]]
    with pytest.raises(OtoscopeError, match="has other data or settings"):
        run(rerated, tmp_path, resume=True)
    card = run(clips, tmp_path, resume=True)
    before = card.read_bytes()
    told: list[str] = []
    assert run(clips, tmp_path, resume=True, progress=told.append) == card  # finished: nothing to do
    assert told == []
    assert card.read_bytes() == before
    with pytest.raises(OtoscopeError, match="has other data or settings"):
        run(clips, tmp_path, resume=True, seed=1)


def test_a_damaged_checkpoint_is_told(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path, progress=killed(1))
    (kept,) = (tmp_path / "joint-run").glob("*.pt")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(OtoscopeError, match="does not fit this training"):
        run(clips, tmp_path, resume=True)


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_generators_alone(clips: list[Clip], tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(clips, tmp_path, name=name, seed=seed)
        weights.append((tmp_path / f"{name}.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_what_explanation_costs_is_the_difference_to_a2e(clips: list[Clip], tmp_path: Path) -> None:
    rival = run(clips, tmp_path, design="a2e")
    joint = run(clips, tmp_path, against=rival)
    theirs, own = (read_card(card).tables["measured"] for card in (rival, joint))
    for name in (*EMOTIONS, "mean"):
        cost = theirs["test"]["emotion"][name] - own["test"]["emotion"][name]
        assert own["cost_of_explanation"][name] == pytest.approx(cost, abs=1e-9)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"against": joint}, r"joint\.toml: is no card of an A2E network"),
        ({"against": rival, "recipe": replace(QUICK, split_seed=1)}, "judged on other recordings"),
        ({"against": rival, "design": "a2mid"}, "design a2mid has no cost of explanation"),
        ({"against": tmp_path / "gone.toml"}, r"gone\.toml"),
    ]
    for options, message in wrong:
        with pytest.raises(OtoscopeError, match=message):
            run(clips, tmp_path, name="other", **options)
    tables = dict(read_card(rival).tables)
    write_card(tmp_path / "bare.toml", {**tables, "measured": {}})
    with pytest.raises(OtoscopeError, match=r"bare\.toml: does not say how well it does"):
        run(clips, tmp_path, name="other", against=tmp_path / "bare.toml")
    assert not list(tmp_path.glob("other*"))


def in_folders(folder: Path, clips: list[Clip]) -> Path:
    """Lay sounds and ratings out as the authors of Soundtracks and of the mid-level set do; both hold all of them."""
    for place in (
        folder / "soundtracks" / "Set1",
        folder / "midlevel" / "audio",
        folder / "midlevel" / "metadata_annotations",
    ):
        place.mkdir(parents=True)
    emotions = [f"number,{','.join(EMOTIONS)},TARGET"]
    features = [
        "song_id, melody, articulation, rhythm_complexity, rhythm_stability, dissonance, tonal_stability, minorness"
    ]
    about = ["song id;Source;ID at file source;Title;Artist;album"]
    for number, clip in enumerate(clips, start=1):
        for target in (
            folder / "soundtracks" / "Set1" / f"{number:03d}.wav",
            folder / "midlevel" / "audio" / f"{900 + number}.wav",
        ):
            target.write_bytes(clip.path.read_bytes())
        emotions.append(",".join([str(number), *(f"{clip.ratings[name]:.4f}" for name in EMOTIONS), "x"]))
        features.append(",".join([str(900 + number), *(f"{clip.ratings[name]:.4f}" for name in FEATURES)]))
        about.append(f"{900 + number};soundtracks;{number};t;a;b")
    (folder / "soundtracks" / "mean_ratings_set1.csv").write_text("\n".join(emotions) + "\n")
    (folder / "midlevel" / "metadata_annotations" / "annotations.csv").write_text("\n".join(features) + "\n")
    (folder / "midlevel" / "metadata_annotations" / "metadata.csv").write_text("\n".join(about) + "\n")
    return folder


def test_the_authors_folders_can_be_trained_on(clips: list[Clip], tmp_path: Path) -> None:
    data = in_folders(tmp_path / "data", clips[:12])
    gathered = list(gather(data, cache=tmp_path / "cache"))
    tables = read_card(run(gathered, tmp_path / "out")).tables
    assert tables["data"]["soundtracks"] == {"clips": 12, "songs": 12}
    assert "3 recordings of songs kept apart; fitted to 6, stopped by 3" in tables["measured"]["protocol"]
    alone = list(gather(data, names=["midlevel"], cache=tmp_path / "cache"))
    assert read_card(run(alone, tmp_path / "out", design="a2mid")).tables["data"]["midlevel"]["clips"] == 12


OPTIONS: list[dict[str, Any]] = [
    {"midlevel_weight": 0.5, "emotion_weight": 2.0},
    {"batch_size": 4},
    {"learning_rate": 1e-3},
    {"target_scale": 0.2},
    {"amplitude": "none"},
    {"standardise": False},
    {"split_seed": 1},
    {"validation": 0.3},
    {"test": 0.4},
]


def test_every_option_of_the_recipe_changes_the_weights(clips: list[Clip], tmp_path: Path) -> None:
    quick = replace(QUICK, epochs=1)
    seen = set()
    for index, changes in enumerate([{}, *OPTIONS]):
        run(clips, tmp_path, name=str(index), recipe=replace(quick, **changes))
        seen.add((tmp_path / f"{index}.safetensors").read_bytes())
    assert len(seen) == len(OPTIONS) + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs and patience must be at least 1"),
        ({"batch_size": 1}, "batch_size at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"midlevel_weight": -1.0}, "midlevel_weight must be above 0"),
        ({"validation": 0.6, "test": 0.4}, "leave nothing to learn from"),
        ({"bridge": "guess"}, "bridge must be predictions or ratings"),
        ({"fill": "noise"}, "fill must be loop or silence"),
    ],
)
def test_recipes_that_cannot_be_done_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OtoscopeError, match=message):
        Recipe(**wrong)


def test_bad_input_is_told_before_any_work(clips: list[Clip], tmp_path: Path) -> None:
    wrong: list[tuple[list[Clip], dict[str, Any], str]] = [
        ([replace(clip, ratings={}) for clip in clips], {}, "0 songs have all ratings of midlevel and emotion"),
        ([], {}, "0 songs have all ratings"),
        ([replace(clip, song="one") for clip in clips], {}, "1 songs have all ratings"),
        (clips, {"name": "a/b"}, "no name for a model"),
        (clips, {"design": "a2b"}, "design must be one of"),
    ]
    for rows, options, message in wrong:
        with pytest.raises(OtoscopeError, match=message):
            run(rows, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    gone = [*clips[:-1], replace(clips[-1], path=tmp_path / "gone.wav")]
    with pytest.raises(OtoscopeError, match=r"gone\.wav: no such file, yet people rated it"):
        run(gone, tmp_path / "out")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), RATE)
    with pytest.raises(OtoscopeError, match="is digital silence"):
        run([*clips[:-1], replace(clips[-1], path=tmp_path / "silent.wav")], tmp_path / "out")
    run(clips, tmp_path / "out")  # the failed run is not in the way
