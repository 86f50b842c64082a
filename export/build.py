"""Run folder -> verified bundle, and the float bundle beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.basics.parse import to_mapping
from edge_runtime.basics.versions import installed_versions
from edge_runtime.bundle.manifest import SCHEMA, Calibration, Manifest, ModelMetrics, Outputs
from edge_runtime.device.machine import processor_kind
from edge_runtime.engines import litert, onnxruntime
from edge_runtime.engines.engine import Engine
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_films, phantom_jpeg
from edge_runtime.images.preprocess import InputSpec, prepare, prepare_pixels
from edge_runtime.images.readers.facts import ImageFacts
from edge_runtime.judge.calibration import SPLIT
from edge_runtime.judge.finding import Finding
from edge_runtime.judge.quality import Quality
from edge_runtime.judge.reference import Reference, make_reference
from edge_runtime.judge.scores import disease_map
from export.convert.bias_correction import INT8_LEVELS, correct_biases
from export.convert.inference_model import add_normalisation, keras_logits, load_core
from export.convert.to_onnx import WEIGHTS, to_float_onnx, to_int8_onnx
from export.convert.to_tflite import to_float_tflite, to_int8_tflite
from export.expected import expectations
from export.fit_gate import fit_quality_gate
from export.fit_oddities import distant_views, fit_oddities, refusal_rates
from export.odd_head import Films
from export.populations import Described, describe_sources, measure_populations
from export.representative import choose_representative
from export.side_branch import FEWEST_FILMS, UNITS, can_have_side, with_side
from export.verify import gate
from export.write import Converted, write_bundles
from train.data.dataset import has_findings
from train.data.source import open_source
from train.run.finished import FinishedRun, open_run

if TYPE_CHECKING:
    import keras

_NOT_STATED = "Intended use: not stated. It is not a diagnosis; a qualified person decides."
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime",
             "openvino", "ai-edge-litert", "numpy", "pillow")  # fmt: skip
_SPOILT_FILMS = 3000  # training films that are spoilt in each way, for the gate to learn from
_JUDGED_FILMS = 300  # validation films that are spoilt to judge it; as they are, all of them
_DRAWINGS = 300
_UNDER_FLOOR = 0.9  # of the normal validation films stay grey in an overlay
_FORMATS = {"tflite": litert, "onnx": onnxruntime}


def build_bundle(
    run_folder: Path,
    data: Sequence[Path],
    output: Path,
    *,
    name: str | None = None,
    version: str,
    representative_count: int = 200,
    onnx_weights: str = "int8",
    force: bool = False,
    allow_weak: bool = False,
    side: bool = True,
    decode_oversampling: float | None = None,
) -> Manifest:
    """Export a finished run to `output` (int8) and `output`-float, if the gate lets it.

    Args:
        run_folder: Of `python -m train fit`.
        data: What it learned from: folders and tables.
        output: Of the int8 bundle.
        name: Of the model; None: of the recipe and the backbone.
        version: Of the model.
        representative_count: Training films that set the ranges of activations.
        onnx_weights: A key of `to_onnx.WEIGHTS`.
        force: Replace what is there.
        allow_weak: Ship a model that is no better than the recipe's floor.
        side: Add the branch that tells a mirrored film, where the network can have it, its
            features were not taught the side, and there are films enough.
        decode_oversampling: How many times the model's size a JPEG keeps while it is decoded; None:
            as in training. Films of the model's own size are the same bytes with any.

    Raises:
        GateError: An int8 or float file does not keep the float model's accuracy, or the model is
            no better than the recipe's floor and `allow_weak` is not set. Nothing is left at
            `output`.
        InvalidValueError: Not a finished run, or `output` exists and `force` is not set.
    """
    float_output = output.with_name(output.name + "-float")
    for path in (output, float_output):
        if path.exists() and not force:
            raise InvalidValueError(f"{path} exists; give another --output, or --force")
    run = open_run(run_folder)
    evaluations = read_evaluations(run)  # before anything that takes minutes
    core = load_core(run.folder)
    source = open_source(data, patient_pattern=run.recipe.data.patient_pattern)
    spec = run.input
    if decode_oversampling is not None:
        spec = dataclasses.replace(spec, decode_oversampling=decode_oversampling)
    films = [sample for sample in run.splits.train if source.is_whole(sample)]
    chosen = choose_representative(films, representative_count)
    representative = source.pixels(chosen, spec, "representative data")
    validation = source.pixels(run.splits.validation, spec, "validation")
    train = source.pixels(films, spec, "train")
    taught = run.recipe.optimisation.mirrored > 0
    side = side and not taught and len(films) >= FEWEST_FILMS and can_have_side(core)
    if side:
        tqdm.write("fitting the branch that tells left from right")
        core = with_side(core, train)

    tqdm.write("running the float model")
    exact = _Exact(keras_logits(core, validation), keras_logits(core, representative))
    temperature, points = run.calibrate(run.disease(exact.validation))
    findings = run.calibrate_findings(exact.validation)
    whom = [Described.of(s, source, run.recipe) for s in run.splits.validation]
    populations = run.calibrate_populations(
        run.disease(exact.validation), temperature, np.array([film.child for film in whom])
    )
    tqdm.write("converting")
    converted = [
        _load(format_name, precision, model, representative, validation, exact)
        for (format_name, precision), model in _convert(core, representative, onnx_weights).items()
    ]
    metrics = gate.compare(
        run.validation.positive,
        gate.ModelLogits("float32 keras", "keras", run.disease(exact.validation)),
        [gate.ModelLogits(c.label, c.engine.name, run.disease(c.validation)) for c in converted],
        temperature,
        next(p for p in points if p.name == run.recipe.operating_point).threshold,
        SPLIT,
    )
    metrics += _by_finding(run, findings, exact, converted, temperature)
    for row in metrics:
        tqdm.write(_told(row))
    gate.check(metrics)
    is_weak = gate.check_worth(metrics[0].auc, run.recipe.least_auc, allow_weak)

    tqdm.write("fitting the quality gate")
    int8 = next(c for c in converted if c.label == "int8 tflite")
    features = gate.run_engine(int8.engine, train, "train: features")[1]
    quality = fit_quality_gate(train, features, int8.validation_features, run.recipe.about.ages)

    def features_of(pixels: NDArray[np.uint8], description: str) -> NDArray[np.float32]:
        return gate.run_engine(int8.engine, pixels, description)[1]

    # No films, and good ones all the same: to the discriminants they must not be odd.
    drawings = _drawings(spec)
    quality = dataclasses.replace(
        quality,
        oddities=fit_oddities(
            Films(features, distant_views(train)),
            _spread(train, _SPOILT_FILMS),
            features_of,
            Films(features_of(drawings, "drawings"), distant_views(drawings)),
        ),
    )

    def judged(pixels: NDArray[np.uint8], features: NDArray[np.float32]) -> list[Quality]:
        return [
            quality.judge(ImageFacts(1000, 1000), *one)
            for one in zip(pixels, features, strict=True)
        ]

    verdicts = judged(validation, int8.validation_features)
    rates = refusal_rates(
        validation,
        _spread(validation, _JUDGED_FILMS),
        lambda pixels, description: np.array(
            [not v.accepted for v in judged(pixels, features_of(pixels, description))]
        ),
    )
    rows, columns, units = core.output["map"].shape[1:]
    draft = Manifest(
        schema=SCHEMA,
        name=name or f"{run.recipe.name}-{run.recipe.network.backbone}",
        version=version,
        intended_use=run.recipe.about.intended_use or _NOT_STATED,
        labels=run.labels,
        input=spec,
        outputs=Outputs(
            (rows, columns, units),
            core.output["features"].shape[1],
            run.activation,
        ),
        calibration=Calibration(temperature, SPLIT),
        operating_points=points,
        default_operating_point=run.recipe.operating_point,
        files=(),
        known_answers=(),
        metrics=metrics,
        provenance=_provenance(run, evaluations, [image.path for image in chosen])
        | describe_sources(run, source)
        | {
            "weak": is_weak,
            "side_units": UNITS if side else 0,
            "gate": to_mapping(rates),
            "populations": to_mapping(
                measure_populations(
                    whom,
                    run.disease(exact.validation),
                    {
                        c.label: run.disease(c.validation)
                        for c in converted
                        if c.precision == "int8"
                    },
                    temperature,
                    points,
                    verdicts,
                    populations,
                )
            ),
        },
        quality=quality,
        reference=_reference(verdicts, run.disease(int8.validation) / temperature),
        evidence_floor=_evidence_floor(
            int8.engine, validation, run.validation.positive, run.activation
        ),
        expected=expectations(run, source, temperature, points, populations),
        populations=populations,
        positive=run.recipe.network.positive,
        findings=findings,
        translations=run.recipe.about.translations,
    )
    return write_bundles(
        draft,
        {
            float_output: [c for c in converted if c.precision == "float32"],
            output: [c for c in converted if c.precision == "int8"],
        },
    )


@dataclasses.dataclass(frozen=True)
class _Exact:
    """The float model's logits (n, units)."""

    validation: NDArray[np.float64]
    representative: NDArray[np.float64]


def _convert(
    core: keras.Model, representative: NDArray[np.uint8], onnx_weights: str
) -> dict[tuple[str, str], bytes]:
    """The model files by (format, precision)."""
    whole = add_normalisation(core)
    levels = WEIGHTS[onnx_weights]
    corrected = {each: correct_biases(core, representative, each) for each in {INT8_LEVELS, levels}}
    return {
        ("tflite", "float32"): to_float_tflite(whole),
        ("onnx", "float32"): to_float_onnx(whole),
        ("tflite", "int8"): to_int8_tflite(corrected[INT8_LEVELS], representative),
        ("onnx", "int8"): to_int8_onnx(corrected[levels], representative, onnx_weights),
    }


def _by_finding(
    run: FinishedRun,
    findings: Sequence[Finding],
    exact: _Exact,
    converted: Sequence[Converted],
    temperature: float,
) -> tuple[ModelMetrics, ...]:
    """What every file keeps of each finding; of films without it, and with."""
    rows: list[ModelMetrics] = []
    if not findings:
        return ()
    shown = has_findings(run.splits.validation, run.labels).astype(np.int64)
    divided = run.activation == "sigmoid"  # with softmax the odds are calibrated already
    for i, finding in enumerate(findings):

        def odds(logits: NDArray[np.float64], i: int = i) -> NDArray[np.float64]:
            return run.finding_odds(logits, i, temperature)

        point = finding.point(run.recipe.operating_point, "balanced")
        rows += (
            dataclasses.replace(row, finding=finding.name)
            for row in gate.compare(
                shown[:, i],
                gate.ModelLogits("float32 keras", "keras", odds(exact.validation)),
                [gate.ModelLogits(c.label, c.engine.name, odds(c.validation)) for c in converted],
                finding.temperature if divided else 1.0,
                point.threshold,
                SPLIT,
            )
        )
    return tuple(rows)


def _told(row: ModelMetrics) -> str:
    """A line about one model file, for people."""
    finding = f" {row.finding}:" if row.finding else ""
    text = f"{row.model:16} {row.engine:22}{finding} AUC {row.auc}"
    if row.difference:
        text += f", difference {row.difference.difference:+.4f}"
    if row.agreement is not None:
        text += (
            f", agreement {row.agreement:.4f}, largest probability difference "
            f"{row.max_probability_difference:.4f}"
        )
    return text


def _evidence_floor(
    engine: Engine, validation: NDArray[np.uint8], positive: NDArray[np.int64], activation: str
) -> float:
    """What the hottest cell of nine in ten normal validation images stays below, at least 0."""
    hottest = [
        float(disease_map(engine.run(image).evidence_map, activation).max())
        for image in tqdm(
            validation[positive == 0], "evidence: normal", unit="image", leave=False, disable=None
        )
    ]
    return round(max(0.0, float(np.quantile(hottest, _UNDER_FLOOR))), 4)


def _spread(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most `count` images, evenly over all."""
    chosen = np.linspace(0, len(pixels) - 1, min(count, len(pixels))).astype(int)
    return np.asarray(pixels[chosen])


def _drawings(spec: InputSpec) -> NDArray[np.uint8]:
    """Drawn radiographs: no films, but what proves an installation has to pass the gate."""
    files = [phantom_jpeg(seed, bool(seed % 2)) for seed in range(_DRAWINGS)]
    drawn = [prepare(file, spec) for file in files]
    by_seed = [draw_films(seed, (0.0, 0.2, 0.5)) for seed in range(_DRAWINGS // 4)]
    drawn += [prepare_pixels(film, spec) for films in zip(*by_seed, strict=True) for film in films]
    return np.stack(drawn)


def _reference(verdicts: Sequence[Quality], logits: NDArray[np.float64]) -> Reference:
    """What the validation images look like to the runtime, for the drift watch.

    Args:
        verdicts: (n) of the quality gate.
        logits: (n,) of any disease, calibrated.
    """
    accepted = np.array([verdict.accepted for verdict in verdicts])
    return make_reference(
        SPLIT,
        logits[accepted],
        [verdict.ood_score for verdict in verdicts if verdict.ood_score is not None],
        int((~accepted).sum()),
    )


def _load(
    format_name: str,
    precision: str,
    model: bytes,
    representative: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    exact: _Exact,
) -> Converted:
    engine: Engine = _FORMATS[format_name].load(model, 2)
    label = f"{precision} {format_name}"
    shifted, _ = gate.run_engine(engine, representative, f"{label}: representative")
    logits, features = gate.run_engine(engine, validation, f"{label}: validation")
    offset = (exact.representative - shifted).mean(axis=0)
    if precision == "float32":
        offset = np.zeros_like(offset)
    return Converted(
        format_name,
        precision,
        model,
        engine,
        tuple(round(float(value), 6) for value in offset),
        logits + offset,
        features,
    )


def _provenance(
    run: FinishedRun, evaluations: dict[str, Any], representative: list[str]
) -> dict[str, Any]:
    keys = ("recipe", "weights", "data", "source_commit", "outcome")
    return {key: run.description[key] for key in keys} | {
        "training_versions": run.description["versions"],
        "export_versions": installed_versions(_PACKAGES),
        # Scales of int8 weights follow the sums of this kind of processor to their last digits.
        "export_processor": processor_kind(),
        "representative": representative,
        "evaluations": evaluations,
        "elsewhere": _read_elsewhere(run),
    }


def read_evaluations(run: FinishedRun) -> dict[str, Any]:
    """What `train evaluate` measured on test and external images, by part; figures only.

    Raises:
        InvalidValueError: The external images are of other sources than those that the recipe
            holds out, as which the card and the manifest describe them.
    """
    found = {}
    for part in ("test", "external"):
        file = run.folder / f"evaluation-{part}" / "evaluation.json"
        if file.is_file():
            document = json.loads(file.read_text(encoding="utf-8"))
            held_out = run.recipe.data.held_out
            strange = set(document.get("sources", ())) - set(held_out)
            if part == "external" and held_out and strange:
                raise InvalidValueError(
                    f"{file.parent} is of films of {', '.join(sorted(strange))}, and the recipe "
                    f"holds out {', '.join(held_out)}: remove that folder, and run `train evaluate "
                    f"{run.folder} --part external` with the table that holds these"
                )
            found[part] = {
                "images": document["images"],
                "auc": document["auc"],
                "points": [
                    {key: point[key] for key in ("name", "sensitivity", "specificity", "accuracy")}
                    for point in document["points"]
                ],
            }
    return found


def _read_elsewhere(run: FinishedRun) -> dict[str, Any]:
    """What `train elsewhere` measured on sources that the recipe held out; figures only."""
    file = run.folder / "elsewhere" / "elsewhere.json"
    if not file.is_file():
        return {}
    document = json.loads(file.read_text(encoding="utf-8"))
    return {
        key: [row for row in document[key] if row["source"] in run.recipe.data.held_out]
        for key in ("comparisons", "called")
    }
