"""MODEL_CARD.md, written from the manifest alone. Source: Mitchell et al., Model Cards, 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.bundle.manifest import Manifest, ModelMetrics
from edge_runtime.judge.population import Population
from edge_runtime.statistics.estimates import Estimate


def write_model_card(manifest: Manifest) -> str:
    """The card as Markdown; every figure stands in manifest.json."""
    provenance = manifest.provenance
    spec = manifest.input
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        "Generated from `manifest.json` by `python -m export`; change that, not this file.",
        "",
        "## Intended use",
        "",
        manifest.intended_use,
        "",
        *_for_whom(provenance["recipe"].get("about", {})),
        "## Model",
        "",
        f"- Input: {spec.height} x {spec.width} {spec.dtype} greyscale, {spec.resize_filter} "
        f"stretch; a JPEG is decoded down to {spec.decode_oversampling:g} times that; scale 1/128, "
        f"zero point {spec.zero_point}",
        f"- Output: evidence map {' x '.join(map(str, manifest.outputs.map_shape))} (its mean is "
        f"the logit) and {_told_features(manifest)}; "
        f"{manifest.outputs.activation}",
        f"- Labels: {', '.join(manifest.labels)}"
        + (
            "; a film may show several"
            if manifest.outputs.activation == "sigmoid" and len(manifest.labels) > 2
            else ""
        ),
        f"- Temperature: {manifest.calibration.temperature} (chosen on "
        f"{manifest.calibration.split})",
        f"- Recipe `{provenance['recipe']['name']}`, seed {provenance['recipe']['seed']}, weights "
        f"from {provenance['weights']['source']}, data fingerprint "
        f"`{provenance['data']['fingerprint'][:16]}`",
        "",
        "| file | format | precision | bytes |",
        "|---|---|---|---|",
        *(
            f"| {f.path} | {f.format} | {f.precision} | {f.size_bytes} |"
            for f in manifest.files
            if f.format
        ),
        "",
        "## Operating points",
        "",
        "| name | threshold | sensitivity (95 %) | specificity (95 %) | split | rule |",
        "|---|---|---|---|---|---|",
        *(
            f"| {p.name} | {p.threshold:.4f} | {p.sensitivity:.3f} | "
            f"{p.specificity:.3f} | {p.split} | {p.rule} |"
            for p in manifest.operating_points
        ),
        "",
        *_own_points(manifest),
        "## Accuracy kept",
        "",
        *(
            ["**This model may know nothing: its AUC on validation is not above the floor.**", ""]
            if provenance.get("weak")
            else []
        ),
        "DeLong intervals; differences are paired, on the same images. Validation is held out by "
        "patient from the training sources: it is easier than any clinic.",
        "",
        "| model | engine | split | images | AUC (95 %) | difference to float (95 %) | p | "
        "equal decisions | largest probability difference |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_metrics_row(row) for row in manifest.metrics if row.finding is None),
        "",
        *_finding_lines(manifest),
        *_population_lines(
            provenance.get("populations", []), bool(manifest.populations), manifest.positive
        ),
        "## Test split, and films that were held out",
        "",
        *_evaluation_lines(
            provenance.get("evaluations", {}),
            provenance["recipe"].get("data", {}).get("held_out", ()),
        ),
        "",
        *_elsewhere_lines(provenance.get("elsewhere", {})),
        "## Quality gate",
        "",
        *_quality_lines(manifest),
        "",
        "## Training data",
        "",
        f"{provenance['recipe'].get('about', {}).get('data') or 'Not stated.'} Images: "
        + ", ".join(f"{key} {count}" for key, count in provenance["data"]["counts"].items())
        + ".",
        "",
        *_source_lines(provenance.get("sources", {})),
    ]
    return "\n".join(lines)


def _told_features(manifest: Manifest) -> str:
    units = manifest.provenance.get("side_units", 0)
    pooled = manifest.outputs.features - units
    also = f", with {units} behind them that tell a mirrored film" if units else ""
    return f"{pooled} pooled features{also}"


def _own_points(manifest: Manifest) -> list[str]:
    """Of populations that the points above do not serve."""
    if not manifest.populations:
        return []
    return [
        "Of a population's own films alone, and in force where a DICOM file states the age, or "
        "where `--population` names it:",
        "",
        "| whose | ages | name | threshold | uncertain | sensitivity (95 %) | specificity (95 %) |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {each.name} | {_told_ages(each)} | {p.name} | {p.threshold:.4f} | "
            + (f"{p.uncertain[0]:.4f} to {p.uncertain[1]:.4f}" if p.uncertain else "")
            + f" | {p.sensitivity:.3f} | {p.specificity:.3f} |"
            for each in manifest.populations
            for p in each.operating_points
        ),
        "",
    ]


def _finding_lines(manifest: Manifest) -> list[str]:
    """Of models that tell several."""
    if not manifest.findings:
        return []
    kept: dict[str, list[str]] = {finding.name: [] for finding in manifest.findings}
    for row in manifest.metrics:
        if row.finding is not None and row.difference is not None:
            kept[row.finding].append(f"{row.model} {row.difference:+.4f}")
    return [
        "## Findings",
        "",
        "A film is called abnormal by the probability of any finding; each finding is present or "
        "absent by its own threshold. Validation patients, films with a finding against all "
        "others. **Where findings come from different sources, a model that tells the hospital "
        "tells the finding**: these figures flatter as far as the audit of the data says so.",
        "",
        "| finding | films with it | AUC, float (95 %) | less float, AUC | name | threshold | "
        "sensitivity (95 %) | specificity (95 %) |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {f.name} | {f.positives} | {f.auc:.3f} | {'; '.join(kept[f.name])} | {p.name} | "
            f"{p.threshold:.4f} | {p.sensitivity:.3f} | {p.specificity:.3f} |"
            for f in manifest.findings
            for p in f.operating_points
        ),
        "",
    ]


def _told_ages(population: Population) -> str:
    low, high = population.age_years
    return f"under {high:g}" if low == 0 else f"{low:g} and over"


def _for_whom(about: Mapping[str, Any]) -> list[str]:
    lines = []
    for title, key in (("For", "suited"), ("Not for", "unsuited")):
        if about.get(key):
            lines += [f"**{title}** {about[key]}", ""]
    return lines


def _population_lines(
    populations: Sequence[Mapping[str, Any]], own_points: bool, disease: str
) -> list[str]:
    """By population and source, the least specific first."""
    if len(populations) < 2:
        return []
    points = [point["name"] for point in populations[0]["points"]]
    lines = [
        "## By population and source",
        "",
        "Validation patients, the int8 .tflite. Most sources hold one class, and what differs "
        "between two hospitals looks like disease: an AUC over several sources flatters. Refused "
        "and flagged: by the quality gate."
        + (" Children and adults are judged at points of their own." if own_points else ""),
        "",
        f"| films | normal | {disease} | AUC (95 %) | int8 less float, AUC | "
        + " | ".join(f"{p}: specificity, sensitivity" for p in points)
        + " | refused | flagged |",
        "|---" * (7 + len(points)) + "|",
    ]
    for row in populations:
        differences = ", ".join(f"{d['difference']:+.4f}" for d in row["differences"].values())
        cells = [row["name"], row["normal"], row["pneumonia"], _told(row["auc"]), differences]
        cells += [
            (_told(p["specificity"]) or "no normal film")
            + ", "
            + (_told(p["sensitivity"]) or "none ill")
            for p in row["points"]
        ]
        lines.append("| " + " | ".join(map(str, [*cells, row["refused"], row["flagged"]])) + " |")
    return [*lines, ""]


def _elsewhere_lines(elsewhere: Mapping[str, Any]) -> list[str]:
    """Sources that neither training nor validation saw."""
    if not elsewhere:
        return []
    lines = [
        "Sources held out of training and of every choice, patients that training knew by other "
        "films left out; their hospital may have been in training with other patients (`python -m "
        "train elsewhere`, float model); adjusted: within strata of what facts of the film alone "
        "tell (Janes and Pepe, Biometrika 2009).",
        "",
        "| source | finding | films | against | films | AUC (95 %) | of film facts alone | "
        "adjusted AUC (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in elsewhere["comparisons"]:
        age = f"{row['age']} years" if row.get("age") else ""  # older measurements name none
        cells = [", ".join(filter(None, (row["source"], row["view"], age))), row["finding"]]
        cells += [row["positives"], row["against"], row["normals"]]
        cells += [_told(row[key]) for key in ("auc", "facts_auc", "adjusted_auc")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| source | finding | films | operating point | called pneumonia (95 %) |",
              "|---|---|---|---|---|"]  # fmt: skip
    for row in elsewhere["called"]:
        cells = [row["source"], row["finding"], row["films"], row["point"], _told(row["share"])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]


def _source_lines(sources: Mapping[str, Any]) -> list[str]:
    """Every source with the terms that its films came under."""
    if not any(name for name in sources):
        return []
    lines = ["| source | training films | validation films | terms, films |", "|---|---|---|---|"]
    for name, row in sources.items():
        terms = "; ".join(f"{licence}: {count}" for licence, count in row["licences"].items())
        lines.append(f"| {name} | {row['train']} | {row['validation']} | {terms} |")
    return [*lines, ""]


def _told(estimate: Mapping[str, float] | None) -> str:
    return f"{Estimate(**estimate):.3f}" if estimate else ""


def _evaluation_lines(evaluations: Mapping[str, Any], held_out: Sequence[str] = ()) -> list[str]:
    if not evaluations:
        return ["Not evaluated before the export (`python -m train evaluate`)."]
    elsewhere = f"held out: {', '.join(held_out)}" if held_out else "another hospital"
    names = {"test": "public test split", "external": elsewhere}
    lines = [
        "The float model, by `python -m train evaluate`; thresholds as above, nothing was chosen "
        "here.",
        "",
        "| images | AUC (95 %) | operating point | sensitivity (95 %) | specificity (95 %) | "
        "accuracy (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for part, found in evaluations.items():
        count = ", ".join(f"{number} {kind}" for kind, number in found["images"].items())
        for point in found["points"]:
            cells = [f"{names[part]}: {count}", f"{Estimate(**found['auc']):.3f}", point["name"]]
            cells += [
                f"{Estimate(**point[key]):.3f}"
                for key in ("sensitivity", "specificity", "accuracy")
            ]
            lines.append("| " + " | ".join(cells) + " |")
    external = evaluations.get("external")
    if external and external["auc"]["low"] <= 0.5:
        lines += [
            "",
            f"On these films ({elsewhere}) the interval of the AUC holds 0.5, which is chance: "
            "**there this model tells nothing**, and the quality gate does not refuse all of them. "
            "A site has to check its own images before it relies on any score.",
        ]
    elif external:
        lines += [
            "",
            f"On these films ({elsewhere}) the AUC is above chance, and below the test split's. A "
            "site has to check its own images before it relies on any score.",
        ]
    return lines


def _quality_lines(manifest: Manifest) -> list[str]:
    gate = manifest.quality
    if gate is None:
        return ["None: every image gets a score."]
    lines = [
        f"Fitted on {gate.fitted_on}. Refuses images with a side below {gate.min_side_px} px, "
        f"longer than {gate.max_aspect} times their width, coloured (mean chroma above "
        f"{gate.max_chroma}), with a contrast below {gate.min_contrast}, more than "
        f"{gate.max_saturated:.0%} black or white pixels, a correlation with the mean radiograph "
        f"below {gate.min_correlation}, or features more than {gate.features.refuse_above} times "
        "further from the training images than 99.5 % of the validation images; beyond once that "
        "distance they are flagged."
    ]
    rates = manifest.provenance.get("gate", [])
    if rates:
        lines += [
            "",
            "What is wrong with a film is told by linear discriminants on the features, fitted on "
            "training films that were spoilt on purpose. On validation films, of which none was "
            "used for that:",
            "",
            "| films | refused as | refused for any reason (95 %) |",
            "|---|---|---|",
            *(f"| {r['kind']} | {r['flag']} | {_told(r['refused'])} |" for r in rates),
        ]
    return lines


def _metrics_row(row: ModelMetrics) -> str:
    cells = [row.model, row.engine, row.split, str(row.images), str(row.auc)]
    if row.difference is None:
        cells += ["", "", "", ""]
    else:
        d = row.difference
        cells += [
            f"{d:+.4f}",
            f"{d.p_value:.2f}",
            f"{row.agreement:.4f}",
            f"{row.max_probability_difference:.4f}",
        ]
    return "| " + " | ".join(cells) + " |"
