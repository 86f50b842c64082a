"""Run folder -> bundle: what is written, that it is right, and that the gate can say no."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines import onnxruntime as engine_module
from edge_runtime.engines.saturation import onnxruntime_saturates
from edge_runtime.engines.signed_weights import has_signed_weights, with_unsigned_weights
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import prepare
from edge_runtime.judge.calibration import (
    choose_operating_points,
    fit_temperature,
    near_best_cuts,
)
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc, proportion
from export.representative import choose_representative
from export.verify import gate
from tests.conftest import ROOT, workbench
from train.data.dataset import Sample
from train.run.finished import open_run

BOTH = ("litert", "onnxruntime")


def test_the_bundle_is_whole_and_records_where_it_came_from(smoke_bundle: Path) -> None:
    for folder, precision in ((smoke_bundle, "int8"), (Path(f"{smoke_bundle}-float"), "float32")):
        bundle = load_bundle(folder)
        bundle.verify_files()
        manifest = bundle.manifest
        assert {f.format: f.precision for f in manifest.files if f.format} == {
            "tflite": precision,
            "onnx": precision,
        }
        assert manifest.provenance["recipe"]["name"] == "smoke"
        assert {"tf2onnx", "onnxruntime", "numpy"} <= set(manifest.provenance["export_versions"])
        assert manifest.metrics[0].model == "float32 keras"
        assert len(manifest.metrics) == 5
        assert len(manifest.known_answers) == 3
    assert "not a diagnosis" in (smoke_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert not list(smoke_bundle.parent.glob("tmp*"))


def test_the_representative_images_are_from_train_alone(
    smoke_run: Path, smoke_bundle: Path
) -> None:
    splits = json.loads((smoke_run / "splits.json").read_text(encoding="utf-8"))
    named = load_bundle(smoke_bundle).manifest.provenance["representative"]
    train, validation = (
        {image["path"] for image in splits[part]} for part in ("train", "validation")
    )
    assert len(named) == len(set(named)) == 200
    assert set(named) <= train and not set(named) & validation
    assert named == sorted(named)


def test_the_representative_choice_is_stratified_and_takes_a_patient_once() -> None:
    images = [Sample(f"n{i}", "normal", f"n{i // 2}") for i in range(100)]
    images += [Sample(f"b{i}", "bacterial", f"b{i}") for i in range(100)]
    images += [Sample(f"v{i}", "viral", f"v{i}") for i in range(10)]
    chosen = choose_representative(images, 40)
    kinds = [image.kind for image in chosen]
    assert {k: kinds.count(k) for k in set(kinds)} == {"normal": 20, "bacterial": 10, "viral": 10}
    assert len({image.patient for image in chosen}) == 40
    assert choose_representative(images[::-1], 40) == chosen


@pytest.mark.parametrize("engine", BOTH)
def test_int8_keeps_the_float_scores(smoke_run: Path, smoke_bundle: Path, engine: str) -> None:
    with open(smoke_run / "validation.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = np.array([float(row["logit0"]) for row in rows])
    positive = np.array([row["kind"] != "normal" for row in rows], dtype=int)
    for folder, bound in ((Path(f"{smoke_bundle}-float"), 1e-3), (smoke_bundle, 0.35)):
        screener = Screener.load(folder, engine=engine, force=True)
        temperature = screener.bundle.manifest.calibration.temperature
        found = []
        for row in rows:
            probability = screener.screen(_phantom(row["path"], row["kind"])).probability
            assert probability is not None
            found.append(np.log(probability / (1 - probability)) * temperature)
        differences = np.abs(np.array(found) - expected)
        assert len(differences) > 80
        assert differences.mean() < bound
        assert auc(positive, found) > auc(positive, expected) - 0.005


def _phantom(path: str, kind: str) -> bytes:
    from edge_runtime.images.phantom import phantom_jpeg

    return phantom_jpeg(int(path.removeprefix("phantom/")), kind != "normal", 240, 256)


@pytest.mark.parametrize("engine", BOTH)
def test_the_score_from_the_map_has_finer_steps_than_one_int8_output(
    smoke_bundle: Path, engine: str
) -> None:
    screener = Screener.load(smoke_bundle, engine=engine, force=True)
    spec = screener.bundle.manifest.input
    outputs = [screener.run(prepare(_phantom(f"phantom/{i}", "normal"), spec)) for i in range(60)]
    logits = {float(screener.logits(o)[0]) for o in outputs}
    # One output with the map's own steps.
    values = np.unique(np.concatenate([o.evidence_map.ravel() for o in outputs]))
    single = {round(logit / float(np.diff(values).min())) for logit in logits}
    assert len(logits) > 35
    assert len(logits) > 1.2 * len(single)


def test_the_tflite_model_is_integer_throughout(smoke_bundle: Path) -> None:
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(str(smoke_bundle / "model.tflite"))
    interpreter.allocate_tensors()
    kinds = {np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    assert kinds <= {"int8", "uint8", "int32"}
    (detail,) = interpreter.get_input_details()
    assert detail["quantization"] == (1 / 128, 128)


def test_the_onnx_weights_are_signed_and_can_be_made_unsigned(smoke_bundle: Path) -> None:
    onnx = pytest.importorskip("onnx")
    signed = (smoke_bundle / "model.onnx").read_bytes()
    assert has_signed_weights(signed)
    unsigned = with_unsigned_weights(signed)
    assert not has_signed_weights(unsigned) and len(unsigned) == len(signed)
    before, after = onnx.load_from_string(signed), onnx.load_from_string(unsigned)
    onnx.checker.check_model(after)
    kinds = onnx.TensorProto
    assert before.graph.input[0].type.tensor_type.elem_type == kinds.UINT8
    changed = 0
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        values, moved = map(onnx.numpy_helper.to_array, (one, other))
        if one.data_type == kinds.INT8:
            assert other.data_type == kinds.UINT8
            np.testing.assert_array_equal(values.astype(int) + 128, moved.astype(int))
            changed += 1
        else:
            assert one == other
    # Weights and zero points of every convolution, and nothing else in the file.
    assert changed == 2 * sum(node.op_type == "Conv" for node in before.graph.node)
    assert before.graph.node == after.graph.node


@pytest.mark.parametrize("saturate", [False, True])
def test_either_kind_of_weights_gives_the_same_numbers(
    smoke_bundle: Path, monkeypatch: pytest.MonkeyPatch, saturate: bool
) -> None:
    """As on a processor with VNNI, and as on one without; here neither must be wrong."""
    if onnxruntime_saturates(pytest.importorskip("onnxruntime")):
        pytest.skip("signed weights saturate on this processor")
    loaded = Screener.load(smoke_bundle, engine="onnxruntime", force=True)
    monkeypatch.setattr(engine_module, "onnxruntime_saturates", lambda module: saturate)
    other = Screener.load(smoke_bundle, engine="onnxruntime", force=True)
    spec = loaded.bundle.manifest.input
    for i in range(20):
        pixels = prepare(_phantom(f"phantom/{i}", "normal"), spec)
        one, two = loaded.run(pixels), other.run(pixels)
        np.testing.assert_array_equal(one.evidence_map, two.evidence_map)
        np.testing.assert_array_equal(one.features, two.features)


def test_an_existing_bundle_is_not_replaced_unasked(smoke_run: Path, smoke_bundle: Path) -> None:
    result = workbench("export", smoke_run, "--output", smoke_bundle)
    assert result.returncode == 2 and "exists" in result.stderr


def test_the_gate_fails_the_command_and_leaves_no_bundle(smoke_run: Path, tmp_path: Path) -> None:
    # One representative image that is black: every activation range is wrong.
    program = (
        "import sys, numpy, export.build as b; real = b.to_int8_tflite\n"
        "b.to_int8_tflite = lambda core, images: real(core, numpy.zeros_like(images[:1]))\n"
        "from export.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    output = tmp_path / "refused"
    result = subprocess.run(
        [sys.executable, "-c", program, str(smoke_run), "--output", str(output)],
        capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1
    assert "verification gate refused" in result.stderr and "int8 tflite" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_gate_names_what_failed() -> None:
    rng = np.random.default_rng(0)
    positive = np.repeat([0, 1], 100)
    good = rng.normal(size=200) + 3 * positive
    reference = gate.ModelLogits("float", "keras", good)
    same = gate.ModelLogits("same", "e", good)
    shifted = gate.ModelLogits("shifted", "e", good + 2)
    noisy = gate.ModelLogits("noisy", "e", good + 3 * rng.normal(size=200))
    gate.check(gate.compare(positive, reference, [same], 1.0, 0.5, "validation"))
    with pytest.raises(gate.GateError, match="shifted: decisions agree") as caught:
        gate.check(gate.compare(positive, reference, [shifted], 1.0, 0.5, "validation"))
    assert "AUC" not in str(caught.value)
    with pytest.raises(gate.GateError, match="noisy: AUC falls"):
        gate.check(gate.compare(positive, reference, [noisy], 1.0, 0.5, "validation"))


def test_of_few_films_one_or_two_may_differ() -> None:
    positive = np.repeat([0, 1], 20)
    logits = np.where(positive == 1, 3.0, -3.0)
    reference = gate.ModelLogits("float", "keras", logits)
    for differing, is_refused in ((1, False), (2, False), (3, True)):
        other = logits.copy()
        other[:differing] = 2.9  # still below every diseased film: the AUC stays
        rows = gate.compare(
            positive, reference, [gate.ModelLogits("int8", "e", other)], 1.0, 0.5, "validation"
        )
        if not is_refused:
            gate.check(rows)
            continue
        with pytest.raises(gate.GateError, match="decisions agree"):
            gate.check(rows)


def test_a_model_that_may_know_nothing_does_not_leave_unasked() -> None:
    useless, good = Estimate(0.52, 0.43, 0.61), Estimate(0.8, 0.72, 0.87)
    assert gate.check_worth(good, 0.5, allow_weak=False) is False
    for found, least in ((useless, 0.5), (good, 0.75), (Estimate(0.5, float("nan"), 1.0), 0.5)):
        with pytest.raises(gate.GateError, match="--allow-weak"):
            gate.check_worth(found, least, allow_weak=False)
        assert gate.check_worth(found, least, allow_weak=True) is True


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(scale=2, size=20_000)
    positive = (rng.random(20_000) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    assert fit_temperature(3 * honest, positive) == pytest.approx(3, rel=0.1)


def test_operating_points_keep_their_rules() -> None:
    rng = np.random.default_rng(1)
    positive = np.repeat([0, 1], 500)
    logits = rng.normal(size=1000) + 2.5 * positive
    screening, balanced, _ = choose_operating_points(logits, positive, 1.0)
    probability = 1 / (1 + np.exp(-logits))
    assert "lower 95 % limit" in screening.rule
    assert screening.sensitivity.low >= 0.98
    # One more missed image would break the rule.
    missed = int((probability[positive == 1] < screening.threshold).sum())
    assert proportion(500 - missed - 1, 500).low < 0.98
    assert balanced.threshold > screening.threshold
    youden = balanced.sensitivity.value + balanced.specificity.value
    for cut in np.linspace(0.05, 0.95, 50):
        called = probability >= cut
        # A standard error of the sum, of shares of about 0.9.
        best = called[positive == 1].mean() + (~called)[positive == 0].mean()
        assert youden >= best - np.sqrt(2 * 0.9 * 0.1 / 500)


def test_the_highest_of_nearly_equal_thresholds_is_taken() -> None:
    rng = np.random.default_rng(3)
    positive = np.repeat([0, 1], [300, 500])
    logits = np.where(positive == 1, 2.0, -2.0) + rng.normal(size=800)
    _, balanced, triage = choose_operating_points(logits, positive, 1.0)
    near = near_best_cuts(logits, positive)
    assert (np.diff(near) > 0).all() and len(near) > 5
    assert balanced.threshold == pytest.approx(1 / (1 + np.exp(-near[-1])), abs=1e-6)
    assert balanced.threshold <= (triage.uncertain or (0, 0))[1] and "highest" in balanced.rule

    def youden(cut: float) -> float:
        return float((logits[300:] >= cut).mean() - (logits[:300] >= cut).mean())

    # What it gives up is less than a standard error of the best; the next one would be more.
    best = max(youden(cut) for cut in np.linspace(-2, 2, 400))
    error = np.sqrt(0.03 * 0.97 * (1 / 300 + 1 / 500))  # about
    assert 0 <= best - youden(near[-1]) <= error
    higher = logits[logits > near[-1]]
    assert all(youden(cut) < youden(near[-1]) for cut in np.quantile(higher, [0.05, 0.2, 0.5]))
    # Apart by a wide gap: as many images may be lost as a standard error allows, and no more.
    apart = np.where(positive == 1, 6.0, -6.0) + rng.normal(size=800)
    _, balanced, _ = choose_operating_points(apart, positive, 1.0)
    assert balanced.specificity.value == 1 and 0.99 <= balanced.sensitivity.value <= 1


def test_screening_is_never_less_sensitive_than_balanced() -> None:
    # Separated but for one diseased image, which a standard error lets go: the aim alone would
    # allow a higher threshold still.
    logits = np.concatenate([np.linspace(-9, -5, 400), np.linspace(5, 9, 999), [-4.0]])
    positive = np.repeat([0, 1], [400, 1000])
    screening, balanced, _ = choose_operating_points(logits, positive, 1.0)
    assert screening.threshold == balanced.threshold
    assert screening.sensitivity.value == balanced.sensitivity.value == 0.999


def test_with_few_images_the_sensitivity_itself_is_held_to_the_aim() -> None:
    rng = np.random.default_rng(1)
    positive = np.repeat([0, 1], 60)
    screening, *_ = choose_operating_points(rng.normal(size=120) + 2 * positive, positive, 1.0)
    assert "with a sensitivity of at least 0.98" in screening.rule
    assert screening.sensitivity.value >= 0.98


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("path,kind,logit0\nother.jpeg,normal,1.0\n", "not about the images"),
        ("path,kind,logit0\nother.jpeg,normal,high\n", "could not convert"),
        ("path,kind,logit0\n\n", "out of range"),
    ],
)
def test_corrupted_logits_of_something_else_are_refused(
    smoke_run: Path, tmp_path: Path, lines: str, reason: str
) -> None:
    run = open_run(Path(shutil.copytree(smoke_run, tmp_path / "run")))
    assert run.corrupted is not None
    assert len(run.corrupted.logits) == len(run.splits.validation)
    (run.folder / "validation-corrupted.csv").write_text(lines)
    with pytest.raises(InvalidValueError, match=reason):
        open_run(run.folder)
    (run.folder / "validation-corrupted.csv").unlink()
    assert open_run(run.folder).corrupted is None


def test_an_unfinished_run_is_refused(smoke_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(smoke_run, tmp_path / "run"))
    (copy / "model.keras").unlink()
    with pytest.raises(InvalidValueError, match="has not finished"):
        open_run(copy)
    with pytest.raises(InvalidValueError, match="not a run folder"):
        open_run(tmp_path)


def test_three_classes_survive_export_and_the_runtime(tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    fit = workbench(
        "train", "fit", "--recipe", "smoke", "--weights", "none", "--output", run,
        "--set", 'network.labels=["normal", "bacterial", "viral"]',
        "--set", "network.activation=softmax",
        "--set", "optimisation.epochs=6",
    )  # fmt: skip
    assert fit.returncode == 0, fit.stderr
    exported = workbench("export", run, "--output", bundle)
    assert exported.returncode == 0, exported.stderr
    with open(run / "validation.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 80
    logits = np.array([[float(row[f"logit{i}"]) for i in range(3)] for row in rows])
    odds = np.log(np.exp(logits[:, 1:]).sum(axis=1)) - logits[:, 0]
    for engine in BOTH:
        screener = Screener.load(Path(f"{bundle}-float"), engine=engine, force=True)
        temperature = screener.bundle.manifest.calibration.temperature
        records = [screener.screen(_phantom(row["path"], row["kind"])) for row in rows]
        for record, expected in zip(records, odds / temperature, strict=True):
            by_label = record.probabilities
            assert by_label is not None and list(by_label) == ["normal", "bacterial", "viral"]
            assert sum(by_label.values()) == pytest.approx(1, abs=1e-7)
            assert record.probability == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-3)
            assert record.probability == pytest.approx(1 - by_label["normal"], abs=1e-7)
        # What the manifest says of an operating point is what the runtime then does.
        point = screener.operating_point
        called = [r.decision == "pneumonia" for r, row in zip(records, rows, strict=True)
                  if row["kind"] != "normal"]  # fmt: skip
        assert np.mean(called) == pytest.approx(point.sensitivity.value, abs=0.02)


def test_known_answers_that_are_not_met_leave_no_bundle(smoke_bundle: Path, tmp_path: Path) -> None:
    program = (
        "import sys, dataclasses, export.write as w; real = w.make_known_answers\n"
        "def wrong(spec, engines, offsets):\n"
        "    answers = real(spec, engines, offsets)\n"
        "    shifted = {f: tuple(v + 1 for v in l) for f, l in answers[0].logits.items()}\n"
        "    return (dataclasses.replace(answers[0], logits=shifted), *answers[1:])\n"
        "w.make_known_answers = wrong\n"
        "from export.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    # Written again, which verifies as an export does and spares its conversions.
    again = ["again", str(smoke_bundle), "--version", "2", "--output", str(tmp_path / "refused")]
    result = subprocess.run(
        [sys.executable, "-c", program, *again],
        capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "the verification gate refused the export: the written bundle" in result.stderr
    assert "known answer" in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
