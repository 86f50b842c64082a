"""The verb, on drawings: what it writes, what it refuses, and what --site then does everywhere."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.adapt.film import COMPRESSION, facts_of
from edge_runtime.adapt.labels import read_site_labels, set_aside
from edge_runtime.adapt.unlabelled import estimate_prevalence
from edge_runtime.bundle.correction import (
    LABELS,
    Correction,
    encode_weights,
    mean_correction,
)
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.site_profile import load_profile, save_profile
from edge_runtime.cli import main
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_film
from edge_runtime.judge.reference import make_reference
from edge_runtime.records.messages import LANGUAGES
from tests.languages import foreign_words

FILMS = 90
CHANNELS = load_bundle().manifest.outputs.features


def film(seed: int, bright: bool, quality: int = 90) -> bytes:
    """A drawing with a bright square; the site calls ill those that have it on the right.

    The model rather calls the others so; and nothing but the place tells, so facts tell nothing.
    """
    pixels = np.asarray(draw_film(seed, False), np.float64).copy()
    height, width = pixels.shape
    left = width * 5 // 8 if bright else width // 8
    pixels[height // 2 : height * 3 // 4, left : left + width // 4] += 70
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "patient", "date", "machine"])
        for i in range(FILMS):
            (folder / f"{i}.jpg").write_bytes(film(i, i % 2 == 1))
            day = f"2026-0{1 + i // 30}-1{i % 9}"
            writer.writerow(
                [f"{i}.jpg", i % 2, f"p{i // 4 * 2 + i % 2 if i < 8 else i}", day, f"m{i // 2 % 2}"]
            )
    return folder


@pytest.fixture(scope="module")
def adapted(site: Path) -> Path:
    out = site / "site.json"
    code = main(
        ["adapt", "--images", str(site), "--labels", str(site / "labels.csv"), "--bundle", "tiny",
         "--output", str(out), "--report", str(site / "site.html"), "--name", "Here"]
    )  # fmt: skip
    assert code == 0
    return out


def test_a_site_is_learned_and_every_verb_says_so(
    site: Path, adapted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = load_profile(adapted)
    assert profile.correction is not None and profile.correction.gain is not None
    assert profile.correction.gain.low > 0 and profile.auc is not None
    # Both of all films: the gain is what lies between them.
    before = profile.correction.before
    assert before is not None
    assert profile.auc.value - before.value == pytest.approx(profile.correction.gain.difference)
    assert profile.auc.value > 0.8
    screener = Screener.load("tiny", site=adapted)
    plain = Screener.load("tiny")
    data = film(1000, True)
    ill, bundled = screener.examine(data), plain.examine(data)
    normal = screener.screen(film(1000, False))
    assert ill.record.probability > normal.probability
    assert ill.record.site == profile.sha256 and bundled.record.site is None
    # The bundle's own score is what adapting again starts from.
    assert ill.logit == bundled.logit and ill.features is not None
    corrected = profile.correction.apply(ill.logit, ill.features)
    assert ill.record.probability == pytest.approx(1 / (1 + np.exp(-corrected)), abs=1e-8)
    out = site / "out.jsonl"
    arguments = ["screen", str(site / "1.jpg"), "--bundle", "tiny", "--site", str(adapted)]
    audit = site / "audit"
    assert main([*arguments, "--format", "jsonl", "--output", str(out), "--audit", str(audit)]) == 0
    assert json.loads(out.read_text())["site"] == profile.sha256
    entries = [json.loads(line) for line in (audit / "audit-000001.jsonl").read_text().splitlines()]
    assert entries[-1]["site"] == profile.sha256
    # Results of another site, or of none, do not go on in that file.
    threshold = str(profile.operating_point.threshold)
    again = ["screen", str(site / "3.jpg"), "--bundle", "tiny", "--threshold", threshold]
    assert main([*again, "--format", "jsonl", "--output", str(out), "--resume"]) == 2
    assert "made with" in capfd.readouterr().err
    table = site / "out.csv"
    assert main([*arguments, "--format", "csv", "--output", str(table)]) == 0
    with open(table, encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["site"] == profile.sha256


def test_the_page_tells_what_was_measured_in_every_language(site: Path, adapted: Path) -> None:
    text = (site / "site.html").read_text(encoding="utf-8")
    assert "Adapted" in text and "<svg" in text and "bytes per pixel" in text
    assert str(site) not in text  # folders can name patients
    from edge_runtime.adapt.adapt import adapt
    from edge_runtime.adapt.film import look_at
    from edge_runtime.adapt.page import render_page
    from edge_runtime.adapt.text import default_policy

    labels = read_site_labels(str(site), str(site / "labels.csv"))
    screener = Screener.load("tiny")
    result = adapt(screener, labels, look_at(screener, labels.films, 1), default_policy(0.5))
    for language in LANGUAGES:
        for refusal in (None, "chance", "confounded", "incomparable", "holdout", "threshold"):
            page = render_page(dataclasses.replace(result, refusal=refusal), (), language)
            body = page[page.index("<body>") :]
            words = [w for w in body.replace("bytes per pixel", "").split(">") if "<" in w]
            if language != "en":
                told = " ".join(w.split("<")[0] for w in words if "adapt" in w.lower())
                assert not foreign_words(told, language), told
            assert "{" not in body.replace("{}", "")


def test_films_that_facts_tell_apart_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ill come as JPEGs of another quality, and are ill in nothing else."""
    for name, ill in (("normal", False), ("pneumonia", True)):
        (tmp_path / name).mkdir()
        for i in range(35):
            data = film(i + 100 * ill, False, quality=40 if ill else 95)
            (tmp_path / name / f"{i}.jpg").write_bytes(data)
    out = tmp_path / "site.json"
    arguments = ["adapt", "--images", str(tmp_path), "--bundle", "tiny", "--output", str(out)]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "Not adapted" in told and not out.exists()
    assert COMPRESSION in told and "Nothing says which films are one person's" in told
    code = main([*arguments, "--accept-confounding"])
    if code == 0:  # where there was a gain to accept
        profile = load_profile(out)
        assert profile.correction is not None and profile.correction.accepted_confounding


def test_films_set_aside_are_looked_at_last(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["adapt", "--images", str(site), "--labels", str(site / "labels.csv"), "--bundle",
                 "tiny", "--holdout-since", "2026-03-01"]  # fmt: skip
    assert main(arguments) in (0, 1)  # too few of them to be sure of a gain
    assert "Set aside before anything was fitted: 30 films" in capsys.readouterr().out
    labels = read_site_labels(str(site), str(site / "labels.csv"))
    before, after, both = set_aside(labels, "2026-03-01")
    assert len(before.films) + len(after.films) + both == len(labels.films)
    assert not {f.patient for f in before.films} & {f.patient for f in after.films}
    for since in ("2030-01-01", "1999-01-01", "yesterday"):
        with pytest.raises(InvalidValueError, match="holdout-since"):
            set_aside(labels, since)
    assert main([*arguments[:-2], "--holdout", str(site / "labels.csv")]) == 2
    assert "other patients" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d["correction"].update(weights_base64="AAAA"), "weights"),
        (lambda d: d["correction"].update(weights_base64=encode_weights(np.ones(7))), "7 weights"),
        (
            lambda d: d["correction"].update(
                weights_base64=encode_weights(np.full(CHANNELS, np.nan))
            ),
            "not finite",
        ),
        (lambda d: d["correction"].update(slope=-1.0), "slope"),
        (lambda d: d["correction"].update(bias=1e300), "bias"),
        (lambda d: d["correction"].update(source=5), "source"),
        (lambda d: d.update(bundle_sha256="0" * 64), "adapt again"),
    ],
)
def test_damaged_or_foreign_profiles_are_refused(
    adapted: Path, tmp_path: Path, change, told
) -> None:  # type: ignore[no-untyped-def]
    document = json.loads(adapted.read_text(encoding="utf-8"))
    change(document)
    file = tmp_path / "site.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InvalidValueError, match=told):
        Screener.load("tiny", site=file)


def test_a_profile_is_called_by_its_contents(adapted: Path, tmp_path: Path) -> None:
    profile = load_profile(adapted)
    save_profile(profile, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == adapted.read_bytes()
    other = dataclasses.replace(
        profile, correction=dataclasses.replace(profile.correction, bias=0.25)
    )
    assert other.sha256 != profile.sha256
    bias = Correction(LABELS, 0.5, 1.0, "", None)
    bias.check(1280)
    assert bias.apply(2.0, np.ones(1280, np.float32)) == 2.0


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["file,label", "0.jpg,1"], "at least 30 films"),
        (["file,label", "0.jpg,maybe"], "neither 1 nor 0"),
        (["file,diagnosis", "0.jpg,1"], "needs the columns"),
        (["file,label", "../gone.jpg,1"], "there is no file"),
        (["file,label,date", "0.jpg,1,March"], "YYYY-MM-DD"),
    ],
)
def test_labels_that_are_none(
    site: Path, tmp_path: Path, rows: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    code = main(["adapt", "--images", str(site), "--labels", str(table), "--bundle", "tiny"])
    assert code == 2 and told in capsys.readouterr().err


def test_uncertain_labels_are_left_out_and_counted(site: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file;label\n0.jpg;1\n1.jpg;?\n2.jpg;\n3.jpg;uncertain\n")
    labels = read_site_labels(str(site), str(table))
    assert len(labels.films) == 1 and labels.unsure == 3 and not labels.knows_patients


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--unlabelled", "--labels", "x.csv"], "no use for --labels"),
        (["--holdout", "a.csv", "--holdout-since", "2026-01-01"], "one of the two"),
        (["--labels", "l.csv", "--output", "l.csv"], "would replace the labels"),
        ([], "no folder 'normal'"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", "--images", str(tmp_path), *options]) == 2
    assert told in capsys.readouterr().err


def test_facts_are_of_the_file_and_name_nobody() -> None:
    numbers, words = facts_of(film(1, False, quality=30))
    fine, _ = facts_of(film(1, False, quality=95))
    assert numbers[COMPRESSION] > fine[COMPRESSION] > 0 and not words
    marked = np.asarray(draw_film(1, False)).copy()
    marked[:30, :30] = 255
    buffer = io.BytesIO()
    Image.fromarray(marked).save(buffer, "PNG")
    found, _ = facts_of(buffer.getvalue())
    assert found["white in the corners"] > numbers["white in the corners"] + 0.01
    assert found[COMPRESSION] == 0


def scores(n: int, share: float, seed: int, apart: float = 2.0) -> np.ndarray:
    """Calibrated log odds: two normal kinds of one width, whose likelihood ratio they are."""
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < share
    return np.where(ill, apart**2 / 2, -(apart**2) / 2) + apart * rng.normal(size=n)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_a_share_is_found_where_only_shares_differ(share: float) -> None:
    known = scores(3000, 0.5, 1)
    reference = make_reference("validation", known, known, 0)
    inside = held = 0
    for seed in range(20):
        found = estimate_prevalence(scores(400, share, seed + 50), reference)
        inside += found.prevalence.low <= share <= found.prevalence.high
        held += found.holds
        assert found.prevalence.value == pytest.approx(share, abs=0.1)
    assert inside >= 16 and held >= 17


def test_scores_that_are_no_mixture_are_refused() -> None:
    known = scores(3000, 0.5, 1)
    reference = make_reference("validation", known, known, 0)
    shifted = [estimate_prevalence(scores(400, 0.3, s) * 0.3 + 0.5, reference) for s in range(10)]
    assert not any(found.holds for found in shifted)
    with pytest.raises(InvalidValueError, match="needs 100"):
        estimate_prevalence(known[:50], reference)


def test_without_labels_probabilities_move_and_decisions_stay(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site.json"
    code = main(["adapt", "--images", str(site), "--unlabelled", "--bundle", "tiny",
                 "--output", str(out)])  # fmt: skip
    # Ninety drawings are too few.
    assert code == 2 and "needs 100" in capsys.readouterr().err
    from edge_runtime.adapt.unlabelled import PriorShift, Unlabelled, profile_of
    from edge_runtime.statistics.estimates import Estimate

    plain = Screener.load("tiny")
    shift = PriorShift(200, Estimate(0.1, 0.05, 0.2), 0.5, float(np.log(0.1 / 0.9)))
    values = np.linspace(-3, 3, 200)
    save_profile(profile_of(plain, Unlabelled(shift, values, (0.1,) * 200, 0), "here"), out)
    moved = Screener.load("tiny", site=out)
    for seed in range(12):
        data = film(seed, bool(seed % 2))
        before, after = plain.screen(data), moved.screen(data)
        assert before.decision == after.decision
        if before.probability is not None:
            odds = before.probability / (1 - before.probability) / 9
            assert after.probability == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_doctor_and_report_know_an_adapted_site(
    site: Path, adapted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--bundle", "tiny", "--site", str(adapted)])
    assert "Here (score adapted on 90 films, AUC +0." in capfd.readouterr().out
    # Another bundle: refused by name, with the remedy.
    assert main(["doctor", "--bundle", "small", "--site", str(adapted)]) == 1
    told = capfd.readouterr().out
    assert "FAULT" in told and "'Here' was made for bundle" in told and "cxr-edge adapt" in told
    out, page = tmp_path / "out.jsonl", tmp_path / "report.html"
    arguments = ["screen", str(site / "1.jpg"), "--bundle", "tiny", "--site", str(adapted)]
    assert main([*arguments, "--output", str(out), "--report", str(page), "--lang", "fr"]) == 0
    assert "score adapté sur 90 clichés" in page.read_text(encoding="utf-8")


def test_drift_is_told_of_the_results_of_one_site(
    site: Path, adapted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    audit = str(tmp_path / "audit")
    films = [str(site / f"{i}.jpg") for i in range(60)]
    arguments = ["screen", *films, "--bundle", "tiny", "--audit", audit, "--format", "jsonl"]
    assert main([*arguments, "--site", str(adapted)]) == 0
    capfd.readouterr()
    assert main(["audit", "drift", audit, "--site", str(adapted)]) == 0
    assert "no change" in capfd.readouterr().out
    # Corrected scores are not held against the bundle's.
    assert main(["audit", "drift", audit, "--bundle", "tiny"]) == 2
    assert "60 results" in capfd.readouterr().err


def test_films_that_are_all_alike_teach_nothing_and_break_nothing() -> None:
    import numpy as np

    from edge_runtime.adapt.prove import Labelled, choose, prove
    from edge_runtime.adapt.ridge import Basis

    positive = np.tile([0, 1], 40)
    data = Labelled(
        np.full(80, 0.3), np.full((80, 20), 2.0), positive, tuple(map(str, range(80))), 0.7
    )
    basis = Basis(data.features)
    chosen = choose(basis.coordinates(data.features), data, np.arange(80))
    assert np.isfinite(prove(basis, data, 1)).all() and np.isfinite(chosen.fit.bias)


def test_a_site_begins_from_what_others_learned(
    site: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ninety films are too few to be given; of 180 as good as new, they help fifty of another."""
    few = ["adapt", "--images", str(site), "--labels", str(site / "labels.csv"), "--bundle",
           "tiny", "--from", str(adapted)]  # fmt: skip
    assert main(few) == 2 and "fewer than 100" in capsys.readouterr().err
    profile = load_profile(adapted)
    given = dataclasses.replace(profile, images=180, name="There")
    save_profile(given, tmp_path / "there.json")
    out = tmp_path / "here.json"
    arguments = [*few[:-1], str(tmp_path / "there.json"), "--output", str(out)]
    assert main(arguments) == 0
    made = load_profile(out)
    assert made.correction is not None and made.correction.begun_from == (given.sha256,)
    # One straight line still: what the profile says is what the fit said.
    there, here = Screener.load("tiny", site=given), Screener.load("tiny", site=out)
    ill, well = film(2000, True), film(2001, False)
    for screener in (there, here):
        assert screener.screen(ill).probability > screener.screen(well).probability
    for wrong, told in (
        (dataclasses.replace(given, correction=None), "corrects no score"),
        (dataclasses.replace(given, bundle_sha256="0" * 64), "adapt again"),
    ):
        save_profile(wrong, tmp_path / "there.json")
        assert main(arguments) == 2 and told in capsys.readouterr().err


def test_the_mean_of_sites_weighs_as_their_films() -> None:
    one = Correction(LABELS, 1.0, 0.0, encode_weights(np.array([1.0, 0.0])), 1.0)
    two = Correction(LABELS, 0.5, 4.0, "", None)
    slope, bias, weights = mean_correction([one, two], [300, 100])
    assert (slope, bias, weights.tolist()) == (0.875, 1.0, [0.75, 0.0])
