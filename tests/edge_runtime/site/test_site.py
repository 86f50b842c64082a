"""Site calibration: every figure against an independent computation, and profiles that are tied."""

from __future__ import annotations

import argparse
import csv
import html
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Screener
from edge_runtime.bundle.site_profile import load_profile
from edge_runtime.cli import main
from edge_runtime.commands.options import number
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.messages import LANGUAGES, say
from edge_runtime.site.calibrate import calibrate
from edge_runtime.site.labels import LabelledImage, read_labels
from edge_runtime.site.thresholds import (
    Policy,
    choose_row,
    images_for_precision,
    images_to_show,
    strata_of,
    table_of_thresholds,
)
from tests.conftest import ROOT
from tests.languages import foreign_words

scipy_stats = pytest.importorskip("scipy.stats")
sklearn_metrics = pytest.importorskip("sklearn.metrics")
DATA = Path(os.environ.get("CXR_DATA", ROOT.parent / "shared" / "data")) / "chest_xray" / "test"


def drawn_scores(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    positive = (rng.random(count) < 0.5).astype(np.int64)
    probability = np.round(1 / (1 + np.exp(-rng.normal(3 * positive - 1.5, 1.5))), 4)
    return positive, probability


def check_rows(positive: np.ndarray, probability: np.ndarray, prevalence: float) -> None:
    """Every row against scikit-learn and SciPy."""
    rows = table_of_thresholds(positive, probability, prevalence, (50.0, 1.0), limit=10**9)
    assert [r.threshold for r in rows] == sorted(set(probability))
    for row in rows[:: max(1, len(rows) // 60)]:
        decided = probability >= row.threshold
        tn, fp, fn, tp = sklearn_metrics.confusion_matrix(positive, decided).ravel()
        assert (row.true_negative, row.false_positive) == (tn, fp)
        assert (row.false_negative, row.true_positive) == (fn, tp)
        for estimate, k, n in ((row.sensitivity, tp, tp + fn), (row.specificity, tn, tn + fp)):
            exact = scipy_stats.binomtest(int(k), int(n)).proportion_ci(method="exact")
            assert estimate.value == pytest.approx(k / n)
            assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
        sens, spec = tp / (tp + fn), tn / (tn + fp)
        referred = prevalence * sens + (1 - prevalence) * (1 - spec)
        assert row.referred_per_1000.value == pytest.approx(1000 * referred)
        assert row.found_per_1000.value == pytest.approx(1000 * prevalence * sens)
        assert row.missed_per_1000.value == pytest.approx(1000 * prevalence * (1 - sens))
        # Nobody called so: no predictive value.
        assert (row.ppv is None) == (tp + fp == 0) and (row.npv is None) == (tn + fn == 0)
        if row.ppv is not None:
            assert row.ppv.value == pytest.approx(prevalence * sens / referred)
        if row.npv is not None:
            npv = (1 - prevalence) * spec / (1 - referred)
            assert row.npv.value == pytest.approx(npv)
        alarms = 1000 * (1 - prevalence) * (1 - spec)
        cost = 50 * 1000 * prevalence * (1 - sens) + alarms
        assert row.cost_per_1000 is not None and row.cost_per_1000.value == pytest.approx(cost)
        intervals = (row.ppv, row.npv, row.referred_per_1000, row.missed_per_1000)
        for e in (*intervals, row.found_per_1000, row.cost_per_1000):
            assert e is None or e.low <= e.value <= e.high


@pytest.mark.parametrize("prevalence", [0.02, 0.2, 0.6])
def test_every_figure_equals_an_independent_computation(prevalence: float) -> None:
    check_rows(*drawn_scores(), prevalence)


def test_predictive_values_cover_the_truth_as_stated() -> None:
    """The intervals of PPV hold what they claim, over drawn sites of known accuracy."""
    rng = np.random.default_rng(2)
    sens, spec, prevalence = 0.9, 0.8, 0.1
    truth = prevalence * sens / (prevalence * sens + (1 - prevalence) * (1 - spec))
    inside = 0
    for _ in range(400):
        positive = np.repeat([1, 0], [80, 120])
        hit = np.where(positive == 1, rng.random(200) < sens, rng.random(200) > spec)
        probability = np.where(hit, 0.9, 0.1)
        row = table_of_thresholds(positive, probability, prevalence)[-1]
        assert row.ppv is not None
        inside += row.ppv.low <= truth <= row.ppv.high
    assert 0.92 <= inside / 400 <= 0.985


def test_policies_choose_what_they_say() -> None:
    positive, probability = drawn_scores(400)
    rows = table_of_thresholds(positive, probability, 0.3, (20.0, 1.0), limit=10**9)
    sensitive = choose_row(rows, Policy(min_sensitivity=0.9), int(positive.sum()))
    assert sensitive.sensitivity.low >= 0.9
    above = [r for r in rows if r.threshold > sensitive.threshold]
    assert all(r.sensitivity.low < 0.9 for r in above)
    few = choose_row(rows, Policy(max_referred_per_1000=250), 1)
    assert few.referred_per_1000.value <= 250
    cheap = choose_row(rows, Policy(cost_missed=20.0, cost_false_alarm=1.0), 1)
    costs = [r.cost_per_1000.value for r in rows if r.cost_per_1000]
    assert cheap.cost_per_1000 and cheap.cost_per_1000.value == min(costs)


def test_too_few_images_are_refused_with_the_number_that_would_do() -> None:
    positive, probability = drawn_scores(80)
    rows = table_of_thresholds(positive, probability, 0.3)
    with pytest.raises(InvalidValueError, match=r"0\.99.* 368 would be needed"):
        choose_row(rows, Policy(min_sensitivity=0.99), int(positive.sum()))
    # Exactly so many, none missed, reach it; one fewer does not.
    needed = images_to_show(0.95)
    for count, reached in ((needed, True), (needed - 1, False)):
        low = scipy_stats.binomtest(count, count).proportion_ci(method="exact").low
        assert (low >= 0.95) == reached
    assert images_for_precision(0.9, 0.05) == 139


def test_strata_add_up() -> None:
    positive, probability = drawn_scores()
    sex = ["F" if i % 3 else "M" for i in range(len(positive))]
    strata = strata_of({"sex": sex}, positive, probability, 0.5)
    assert [s.value for s in strata] == ["F", "M"]
    assert sum(s.images for s in strata) == len(positive)
    mask = np.array(sex) == "M"
    expected = sklearn_metrics.roc_auc_score(positive[mask], probability[mask])
    assert strata[1].auc and strata[1].auc.value == pytest.approx(expected)


@pytest.mark.slow
def test_400_public_test_images_as_a_pretend_site_at_three_prevalences(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no real radiographs in {DATA}; set CXR_DATA")
    files = [(p, 1) for p in sorted((DATA / "PNEUMONIA").iterdir())[::2][:195]]
    files += [(p, 0) for p in sorted((DATA / "NORMAL").iterdir())[:205]]
    screener = Screener.load(threads=1, parallel=2)
    labelled = [LabelledImage(str(p), bool(y), {"view": "AP" if y else "PA"}) for p, y in files]
    for prevalence in (0.02, 0.15, 0.4):
        result = calibrate(
            screener, labelled, prevalence, Policy(min_sensitivity=0.9), name="pretend", workers=2
        )
        assert result.images + result.refused + result.unreadable == 400
        assert result.temperature_refitted and result.profile is not None
    kept = [
        (image, record.probability)
        for image, record in zip(
            labelled, (screener.screen(image.path) for image in labelled), strict=True
        )
        if record.status == "ok" and record.probability is not None
    ]
    positive = np.array([image.positive for image, _ in kept], dtype=np.int64)
    scores = np.array([p for _, p in kept])
    expected = sklearn_metrics.roc_auc_score(positive, scores)
    assert result.auc.value == pytest.approx(expected, abs=1e-6)
    logits = np.log(np.clip(scores, 1e-8, 1 - 1e-8) / (1 - np.clip(scores, 1e-8, 1 - 1e-8)))
    scaled = logits * screener.temperature / result.temperature
    for prevalence in (0.02, 0.15, 0.4):
        check_rows(positive, np.round(1 / (1 + np.exp(-scaled)), 8), prevalence)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images with labels that follow the model's own scores, noisily."""
    folder = tmp_path_factory.mktemp("site")
    screener = Screener.load(force=True, threads=1, parallel=2)
    scores = {}
    for seed in range(400):
        name = f"{seed}.jpeg"
        content = phantom_jpeg(seed, bool(seed % 2), 200, 220)
        record = screener.screen(content)
        if record.quality.accepted:
            (folder / name).write_bytes(content)
            scores[name] = record.probability or 0.0
    middle = float(np.median(list(scores.values())))
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "sex"])
        for i, (name, score) in enumerate(scores.items()):
            label = int(score > middle) if i % 7 else int(score <= middle)
            writer.writerow([name, label, "F" if i % 2 else "M"])
    return folder


def run(site: Path, *options: object) -> int:
    paths = ["--images", str(site), "--labels", str(site / "labels.csv")]
    return main(["calibrate", *paths, "--prevalence", "0.2", *map(str, options)])


def test_a_profile_is_made_used_and_tied(
    site: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile, page, table = tmp_path / "site.json", tmp_path / "site.html", tmp_path / "t.json"
    code = run(
        site, "--min-sensitivity", 0.6, "--strata", "sex", "--output", profile, "--report", page,
        "--table", table, "--name", "Ward <3>", "--lang", "en",
    )  # fmt: skip
    said = capfd.readouterr().out
    assert code == 0, said
    assert "sex = F" in said and "this site" in said
    found = load_profile(profile)
    assert found.chosen.sensitivity.low >= 0.6
    text = page.read_text(encoding="utf-8")
    assert (
        "Ward &lt;3&gt;" in text
        and text.count("<svg") == 3
        and "http" not in text.replace("http-equiv", "")
    )
    assert len(json.loads(table.read_text(encoding="utf-8"))) > 20
    # Everywhere: threshold, temperature and name are the profile's.
    screener = Screener.load(site=str(profile), force=True)
    assert screener.operating_point.name == "site"
    assert screener.temperature == found.temperature
    record = screener.screen(phantom_jpeg(1, True))
    assert record.threshold == found.operating_point.threshold
    image = tmp_path / "a.jpeg"
    image.write_bytes(phantom_jpeg(1, True))
    assert main(["screen", str(image), "--site", str(profile), "--force", "--format", "jsonl"]) == 0
    assert json.loads(capfd.readouterr().out)["operating_point"] == "site"
    # Tied to the bundle and to the family of engines.
    document = json.loads(profile.read_text(encoding="utf-8"))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document | {"bundle_sha256": "0" * 64}), encoding="utf-8")
    assert main(["screen", str(image), "--site", str(other)]) == 2
    assert "was made for bundle" in capfd.readouterr().err
    other.write_text(json.dumps(document | {"engine_family": "else"}), encoding="utf-8")
    with pytest.raises(InvalidValueError, match="calibrate again"):
        Screener.load(site=str(other))
    other.write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidValueError, match="schema"):
        Screener.load(site=str(other))


def test_a_policy_that_cannot_be_shown_makes_no_profile(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(site, "--min-sensitivity", 0.999, "--output", tmp_path / "p.json") == 1
    assert "REFUSED" in capsys.readouterr().out and not (tmp_path / "p.json").exists()
    assert run(site, "--output", tmp_path / "p.json") == 2
    assert run(site) == 0, "the table alone needs no policy"
    assert run(site, "--costs", "0,1") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs the columns"),
        ("file,label\n", "needs the columns"),
        ("file,label,sex\na.jpeg,2,F\n", "neither 1 nor 0"),
        ("file,label,sex\nnowhere.jpeg,1,F\n", "there is no file"),
        ("file,label,sex\na.jpeg,1,F\na.jpeg,1,F\n", "listed twice"),
        ("file,label\na.jpeg,1\n", "needs the columns"),
    ],
)
def test_labels_that_are_wrong_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=said):
        read_labels(str(tmp_path / "labels.csv"), str(tmp_path), ["sex"])


def test_too_few_images_say_nothing(tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / f"{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed % 2)))
    labelled = [LabelledImage(str(tmp_path / f"{i}.jpeg"), bool(i % 2), {}) for i in range(4)]
    with pytest.raises(InvalidValueError, match="at least 30 of each"):
        calibrate(Screener.load(force=True), labelled, 0.2, None)


def test_thresholds_are_in_one_scale_that_can_be_copied(
    site: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in the table decides as the table says, typed in as the table says."""
    screener = Screener.load(force=True)
    labelled = read_labels(str(site / "labels.csv"), str(site), [])
    shown = [screener.screen(image.path).probability or 0.0 for image in labelled]
    positive = np.array([image.positive for image in labelled])
    for refit in (False, True):
        found = calibrate(screener, labelled, 0.2, None, workers=2, refit=refit)
        assert found.temperature_refitted is refit
        factor = screener.temperature / found.temperature
        scaled = [1 / (1 + (1 / p - 1) ** factor) for p in np.clip(shown, 1e-8, 1 - 1e-8)]
        for row in [*found.rows[::40], *(row for _, row in found.bundled)]:
            called = np.array([round(p, 8) >= row.threshold for p in scaled])
            assert int((called & positive).sum()) == row.true_positive
            assert int((called & ~positive).sum()) == row.false_positive
    # Without a profile the numbers are those that --threshold takes.
    assert run(site) == 0
    said = capfd.readouterr().out
    assert "without --site" in said and "(the bundle's" in said
    assert run(site, "--min-sensitivity", 0.6, "--output", tmp_path / "site.json") == 0
    assert "with --site and this profile" in capfd.readouterr().out


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_a_site(site: Path, tmp_path: Path, language: str) -> None:
    page = tmp_path / "site.html"
    options = ("--costs", "20,1", "--output", tmp_path / "s.json", "--report", page)
    assert run(site, *options, "--strata", "sex", "--name", "x", "--lang", language) == 0
    text = page.read_text(encoding="utf-8")
    plain = html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
    assert f'<html lang="{language}">' in text
    assert not foreign_words(plain.replace("cxr-edge", ""), language)
    assert "nan" not in plain.lower() and "{" not in plain
    table = text[text.index("</svg></div>") if "</svg></div>" in text else 0 :]
    first = table[: table.index("</table>")]
    assert 8 < first.count("<tr") <= 16 and first.count("class='chosen'") == 1
    # Every threshold, for the spreadsheet of that language.
    whole = (tmp_path / "site.csv").read_text(encoding="utf-8-sig").splitlines()
    separator, mark = (",", ".") if language == "en" else (";", ",")
    rows = [
        dict(zip(whole[0].split(separator), line.split(separator), strict=True))
        for line in whole[1:]
    ]
    thresholds = [float(row[say("site.threshold", language)].replace(mark, ".")) for row in rows]
    assert len(rows) > 100 and thresholds == sorted(thresholds)


@pytest.mark.parametrize(
    "text", ["file;label;sex\r\na.jpeg;1;F\r\n", "file\tlabel\tsex\na.jpeg\t1,0\tF\n"]
)
def test_labels_as_spreadsheets_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8-sig", newline="")
    (image,) = read_labels(str(tmp_path / "labels.csv"), str(tmp_path), ["sex"])
    assert image.positive and image.strata == {"sex": "F"}


def test_groups_of_one_kind_and_points_that_call_nobody(site: Path, tmp_path: Path) -> None:
    """Shares of no films are not there: they are no number, and JSON has none for them."""
    rows = (site / "labels.csv").read_text(encoding="utf-8").splitlines()
    head, *rest = (row.split(",") for row in rows)
    lines = [",".join(head)] + [f"{name},{label},{'FM'[int(label)]}" for name, label, _ in rest]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines), encoding="utf-8")
    profile, table = tmp_path / "site.json", tmp_path / "t.json"
    options = ["--images", site, "--labels", labels, "--prevalence", "0,2", "--max-referred", 0.5]
    options += ["--strata", "sex", "--output", profile, "--table", table]
    options += ["--report", tmp_path / "r.html"]
    main(["calibrate", *map(str, options)])
    assert "NaN" not in table.read_text(encoding="utf-8")
    options[options.index("--max-referred") + 1] = 400
    assert main(["calibrate", *map(str, options)]) == 0
    found = {s.value: s for s in load_profile(profile).strata}
    assert found["F"].sensitivity is None and found["F"].specificity is not None
    assert found["M"].specificity is None and found["M"].auc is None
    assert "nan" not in (tmp_path / "r.html").read_text(encoding="utf-8").lower()


def test_the_table_beside_the_page_overwrites_nothing(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "site.csv"
    labels.write_bytes((site / "labels.csv").read_bytes())
    before = labels.read_bytes()
    command = ["calibrate", "--images", site, "--labels", labels, "--prevalence", "0.2"]
    for report in ("site.html", "site.csv"):
        assert main([*map(str, command), "--report", str(tmp_path / report)]) == 2
        assert "name another --report" in capsys.readouterr().err
    assert labels.read_bytes() == before and list(tmp_path.iterdir()) == [labels]


@pytest.mark.parametrize(
    ("text", "value"), [("0,2", 0.2), ("0,125", 0.125), ("12,5", 12.5), ("7.5", 7.5)]
)
def test_decimal_commas_are_read(text: str, value: float) -> None:
    assert number(0, 1000)(text) == value


@pytest.mark.parametrize("text", ["1,000", "999,999", "1,2,3", "1.000,5", ",", "nan"])
def test_what_could_be_a_thousand_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        number(0, 1000)(text)
