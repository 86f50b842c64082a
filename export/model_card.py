"""MODEL_CARD.md, written from the manifest alone. Source: Mitchell et al., Model Cards, 2019."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_runtime.bundle.manifest import Manifest, ModelMetrics
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
        "**For** frontal radiographs of children of one to five years, as a second reader or to "
        "order a worklist, by people who check every decision.",
        "",
        "**Not for** adults, lateral views, CT, photographs of films, or as the only reason for "
        "or against a treatment. The training data come from one hospital; on another hospital's "
        "images the scores may mean little until they were checked there.",
        "",
        "## Model",
        "",
        f"- Input: {spec.height} x {spec.width} {spec.dtype} greyscale, {spec.resize_filter} "
        f"stretch; scale 1/128, zero point {spec.zero_point}",
        f"- Output: evidence map {' x '.join(map(str, manifest.outputs.map_shape))} (its mean is "
        f"the logit) and {manifest.outputs.features} pooled features; "
        f"{manifest.outputs.activation}",
        f"- Labels: {', '.join(manifest.labels)}",
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
        "## Accuracy kept",
        "",
        "DeLong intervals; differences are paired, on the same images. Validation is held out by "
        "patient from the training split of the same hospital: it is easier than any clinic.",
        "",
        "| model | engine | split | images | AUC (95 %) | difference to float (95 %) | p | "
        "equal decisions | largest probability difference |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_metrics_row(row) for row in manifest.metrics),
        "",
        "## Test split and another hospital",
        "",
        *_evaluation_lines(provenance.get("evaluations", {})),
        "",
        "## Quality gate",
        "",
        *_quality_lines(manifest),
        "",
        "## Training data",
        "",
        "Chest X-Ray Images (Pneumonia), children of one to five years, Guangzhou Women and "
        "Children's Medical Center; Kermany et al., Cell 172:1122 (2018), CC BY 4.0. Images: "
        + ", ".join(f"{key} {count}" for key, count in provenance["data"]["counts"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _evaluation_lines(evaluations: Mapping[str, Any]) -> list[str]:
    if not evaluations:
        return ["Not evaluated before the export (`python -m train evaluate`)."]
    names = {"test": "public test split", "external": "another hospital's adults (NIH ChestX-ray8)"}
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
    if external:
        chance = external["auc"]["low"] <= 0.5
        lines += [
            "",
            "On the other hospital's adults the interval of the AUC holds 0.5, which is chance: "
            "**there this model tells nothing**"
            if chance
            else "On the other hospital's adults the AUC is above chance, and far below the test "
            "split's: **it is not fit for use there**",
            ", and the quality gate does not refuse all of them. Consolidation in a small child, "
            "on films of one hospital, is what it learned; adults differ in size, posture, devices "
            "and disease. A site has to check its own images before it relies on any score.",
        ]
        lines[-2:] = ["".join(lines[-2:])]
    return lines


def _quality_lines(manifest: Manifest) -> list[str]:
    gate = manifest.quality
    if gate is None:
        return ["None: every image gets a score."]
    return [
        f"Fitted on {gate.fitted_on}. Refuses images with a side below {gate.min_side_px} px, "
        f"longer than {gate.max_aspect} times their width, coloured (mean chroma above "
        f"{gate.max_chroma}), with a contrast below {gate.min_contrast}, more than "
        f"{gate.max_saturated:.0%} black or white pixels, a correlation with the mean radiograph "
        f"below {gate.min_correlation}, or features more than {gate.features.refuse_above} times "
        "further from the training images than 99.5 % of the validation images; beyond once that "
        "distance they are flagged."
    ]


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
