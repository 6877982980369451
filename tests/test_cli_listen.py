"""``otoscope listen``: what it writes and tells, what it refuses, its exit codes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otoscope.adapters.errors import OtoscopeError
from otoscope.cli_listen import listen
from otoscope.console import Group
from otoscope.explainers import listening_page
from otoscope.explainers.listening_answers import read_answers, read_key
from tests.test_cli import assert_refused
from tests.test_listening import make_key, make_results

COLUMNS = ["test id", "listener", "pair id", "answer", "times played A", "times played B", "seconds", "answered at"]
ROOT = Group("otoscope", commands={"listen": listen})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(ROOT, ["listen", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("results"), 3)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "listen.key.json"
    path.write_text(json.dumps(make_key(6, p08={"evidence": "B", "repeats": "p00"})), encoding="utf-8")
    return path


def table(path: Path, rows: list[list[object]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])
    return path


def rows(who: str = "Ann", answers: str = "ABABAA", **changes: object) -> list[list[object]]:
    """Rows of a table; answers are those to p00, p01 …, of which A, B, A … are for the evidence."""
    found: list[list[object]] = []
    for place, answer in enumerate(answers):
        row = ["listen-1", who, f"p{place:02d}", {"-": "cannot tell"}.get(answer, answer), 1, 2, "7.5", "2026-01-02"]
        found.append([changes.get(name, value) for name, value in zip(COLUMNS, row, strict=True)])
    return found


def test_make_tells_what_it_wrote(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "listen.html"
    result = run("make", results, "--pairs", 3, "--seed", 1, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    size = out.stat().st_size / 1e6
    assert lines[0].startswith(f"{out}: 3 pairs of 3 explanations, 1 asked twice, {size:.1f} MB, ")
    assert lines[1].startswith(f"key   {out.parent / 'listen.key.json'}")
    assert any("energies of the random sets differ from the evidence's by" in line for line in lines)
    assert "too few explanations" not in result.stdout
    assert {path.name for path in out.parent.iterdir()} == {"listen.html", "listen.key.json"}


def test_make_says_where_there_are_fewer_explanations_than_pairs_and_what_was_left_out(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", 2)
    damaged = next((tmp_path / "results").glob("secret1*/*/*/arrays.npz"))
    damaged.write_bytes(b"")
    result = run("make", results, "--pairs", 3, "--out", tmp_path / "listen.html", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["n_pairs"], told["n_explanations"]) == (3, 1)
    assert told["key"] == str(tmp_path / "listen.key.json")
    assert any("up to 3 random sets stand against one evidence" in note for note in told["notes"])
    assert len(told["left_out"]) == 1
    assert "is damaged" in told["left_out"][0]
    plainly = run("make", results, "--pairs", 3, "--out", tmp_path / "listen.html", "--force")
    assert f"left out  {told['left_out'][0]}" in plainly.stdout


def test_every_option_of_make_changes_something(results: Path, tmp_path: Path) -> None:
    pages = {}
    for name, options in {
        "plain": (),
        "pairs": ("--pairs", 2),
        "seed": ("--seed", 3),
        "repeats": ("--repeats", 0),
        "reference": ("--reference",),
    }.items():
        folder = tmp_path / name
        given = () if name == "pairs" else ("--pairs", 3)
        assert run("make", results, *given, *options, "--out", folder / "listen.html").exit_code == 0
        pages[name] = (folder / "listen.html").read_text(encoding="utf-8")
    assert len(set(pages.values())) == len(pages)
    assert "play-recording" in pages["reference"]
    assert "play-recording" not in pages["plain"].split("<script")[0]


def test_make_refuses_in_one_line(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "listen.html"
    assert_refused(run("make", tmp_path / "nowhere", "--out", out), "nowhere: no such folder", out=out)
    (tmp_path / "empty").mkdir()
    assert_refused(run("make", tmp_path / "empty", "--out", out), "empty: holds no explanations", out=out)
    assert_refused(run("make", results, "--out", tmp_path / "listen.txt"), "end it in .html")
    assert_refused(run("make", results, "--out", tmp_path / "empty" / "x" / ".." / ".html"), "end it in .html")
    (tmp_path / "listen.key.json").write_text("kept")
    assert_refused(run("make", results, "--pairs", 1, "--out", out), "listen.key.json: exists", "--force", out=out)
    assert run("make", results, "--pairs", 1, "--out", out, "--force").exit_code == 0
    assert "kept" not in (tmp_path / "listen.key.json").read_text()
    assert run("make", results, "--pairs", 0, "--out", out).exit_code == 2


def test_make_refuses_a_page_that_is_too_large_and_says_what_to_do(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "listen.html"
    asked = ("make", results, "--pairs", 4, "--out", out)
    limit = (
        f"{out}: would be a page of about 0.",
        "the limit is 0.02 MB; ask about fewer pairs (--pairs ",
        "--max-mb 1",
    )
    assert_refused(run(*asked, "--max-mb", 0.02), *limit, out=out)
    monkeypatch.setattr(listening_page, "MOST_MB", 0.02)
    assert_refused(run(*asked), *limit, out=out)
    assert run(*asked, "--max-mb", 1).exit_code == 0


def test_make_says_where_there_are_fewer_different_pairs_than_asked_for(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", 1)
    told = json.loads(run("make", results, "--pairs", 500, "--out", tmp_path / "listen.html", "--json").stdout)
    assert 1 <= told["n_pairs"] < 500
    assert f"there are only {told['n_pairs']} different pairs, not 500; explain more recordings" in told["notes"]


def test_score_tells_preference_interval_agreement_and_consistency(key: Path, tmp_path: Path) -> None:
    twice = [*rows("Ann", "ABABAA"), ["listen-1", "Ann", "p08", "B", 1, 1, 3, ""]]
    ann = table(tmp_path / "ann.csv", twice)
    ben = table(tmp_path / "ben.csv", rows("Ben", "ABA-BB"))
    result = run("score", ann, ben, "--key", key, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["overall"]["preference"] == pytest.approx((5 + 4.5) / 12)
    assert found["overall"]["n_listeners"] == 2
    assert list(found["by_listener"]) == ["Ann", "Ben"]
    assert found["by_listener"]["Ann"]["preference"] == pytest.approx(5 / 6)
    assert found["alpha"] is not None
    assert found["consistency"] == {"same": 1, "n": 1, "share": 1.0}
    told = run("score", ann, ben, "--key", key).stdout
    assert "listen-1: 2 listeners, 6 pairs" in told
    assert "0.79 for the evidence (95 % " in told
    assert "9 for the evidence, 2 for the random set, 1 cannot tell" in told
    assert f"Krippendorff's alpha {found['alpha']:.2f}" in told
    assert "1 of 1 pairs asked twice were answered alike" in told
    assert "listener     Ann: 0.83" in told
    assert "class        calm: " in told
    assert "method       gradcam: " in told
    alone = run("score", ben, "--key", key).stdout
    assert "needs two listeners or more" in alone
    assert "no pair was answered twice" in alone
    assert json.loads(run("score", ben, "--key", key, "--json").stdout)["alpha"] is None


def test_the_seed_of_a_score_is_that_of_its_bootstrap(key: Path, tmp_path: Path) -> None:
    files = [
        table(tmp_path / f"{who}.csv", rows(who, answers)) for who, answers in {"a": "ABAAAA", "b": "ABBB-B"}.items()
    ]
    one, same, other = (run("score", *files, "--key", key, "--json", "--seed", seed).stdout for seed in (1, 1, 2))
    assert one == same
    assert json.loads(one)["overall"]["preference"] == json.loads(other)["overall"]["preference"]
    assert one != other


def test_tables_as_spreadsheets_save_them_are_read(key: Path, tmp_path: Path) -> None:
    expected = read_answers(table(tmp_path / "plain.csv", rows("Zoë")), read_key(key))
    assert [answer.listener for answer in expected] == ["Zoë"] * 6
    changed = table(tmp_path / "a.csv", rows("Zoë"), delimiter=";", encoding="utf-8-sig")
    assert read_answers(changed, read_key(key)) == expected
    text = changed.read_text(encoding="utf-8-sig").replace("times played A", " Times Played A ").replace("\r\n", "\n")
    (tmp_path / "b.csv").write_text(text + "\n;;;;;;;\n\n", encoding="utf-8")
    assert read_answers(tmp_path / "b.csv", read_key(key)) == expected


def test_double_rows_are_said_and_the_last_counts(key: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "ann.csv", [*rows("Ann", "BABABB"), *rows("Ann", "ABABA")])
    result = run("score", path, "--key", key)
    assert result.exit_code == 0
    assert "5 answers were given again by the same listener (Ann); the last ones count" in result.stdout
    found = json.loads(run("score", path, "--key", key, "--json").stdout)
    assert found["overall"]["evidence"] == 6


def damaged(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table(path, rows())
        made = change(path.read_text(encoding="utf-8"))
        path.write_bytes(made if isinstance(made, bytes) else made.encode())

    return write


BROKEN: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "another test": (
        lambda path: table(path, rows(**{"test id": "listen-2"})),
        ("row 2: answers test 'listen-2', the key is of 'listen-1'", "give the key beside its page"),
    ),
    "unknown pair": (lambda path: table(path, rows(**{"pair id": "p77"})), ("row 2: there is no pair 'p77'",)),
    "no listener": (lambda path: table(path, rows(" ")), ("row 2: names no listener",)),
    "other answer": (lambda path: table(path, rows(answers="AC")), ("row 3: has the answer 'C'", "A, B, cannot tell")),
    "plays": (lambda path: table(path, rows(**{"times played B": "-1"})), ("row 2: 'times played' holds '1, -1'",)),
    "missing column": (damaged(lambda text: text.replace("listener", "who", 1)), ("lacks the column 'listener'",)),
    "tabs": (damaged(lambda text: text.replace(",", "\t")), ("separated by commas or semicolons",)),
    "short row": (damaged(lambda text: text + "listen-1,Ann\r\n"), ("row 8: has 2 cells, the first row 8",)),
    "empty": (damaged(lambda _: ""), ("is empty",)),
    "blank": (damaged(lambda _: "\n , \n"), ("is empty",)),
    "only a header": (lambda path: table(path, []), ("holds no answers",)),
    "cp1252": (lambda path: table(path, rows("Zoë"), encoding="cp1252"), ("is not UTF-8", "'CSV UTF-8'")),
    "utf-16": (lambda path: table(path, rows(), encoding="utf-16"), ("is not UTF-8", "'CSV UTF-8'")),
    "open quote": (damaged(lambda text: text + '"listen-1'), ("row 8: is no CSV",)),
    "a folder": (lambda path: path.mkdir(), ("cannot be read",)),
    "missing": (lambda _: None, ("no such file",)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tables_that_cannot_be_read_are_refused_in_one_line(case: str, key: Path, tmp_path: Path) -> None:
    write, words = BROKEN[case]
    path = tmp_path / "answers.csv"
    write(path)
    good = table(tmp_path / "good.csv", rows("Ben"))
    assert_refused(run("score", good, path, "--key", key), str(path), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no JSON"),
        ("[]", "is no key of a listening test"),
        ('{"schema": "otoscope/explanation/1"}', "is no key of a listening test"),
        ('{"schema": "otoscope/listening-key/1", "test": "t", "pairs": {}}', "is damaged"),
        ('{"schema": "otoscope/listening-key/1", "test": "t", "pairs": {"p01": {"evidence": "A"}}}', "is damaged"),
        (json.dumps(make_key(2, p08={"repeats": "p77"})), "is damaged"),
        (json.dumps(make_key(2, p00={"evidence": "C"})), "is damaged"),
    ],
)
def test_keys_that_are_none_are_refused_in_one_line(content: str, words: str, key: Path, tmp_path: Path) -> None:
    answers = table(tmp_path / "a.csv", rows())
    key.write_text(content, encoding="utf-8")
    assert_refused(run("score", answers, "--key", key), str(key), words)
    with pytest.raises(OtoscopeError, match=words):
        read_key(key)
    assert_refused(run("score", answers, "--key", tmp_path / "none.json"), "no such file", "beside the page")
    assert_refused(run("score", answers, "--key", answers), "is no JSON")


def test_names_cannot_write_on_the_terminal(key: Path, tmp_path: Path) -> None:
    result = run("score", table(tmp_path / "a.csv", rows("\x1b[31mAnn")), "--key", key)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_help_shows_an_example() -> None:
    assert "otoscope listen make" in run("--help").stdout
    assert "Example: otoscope listen make " in run("make", "--help").stdout
    assert "Example: otoscope listen score " in run("score", "--help").stdout
