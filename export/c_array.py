"""A bundle's .tflite as C source for microcontrollers and other builds without a file system.

    model.c, model.h     the file as an aligned array, and all that a program must know of it
    known_answers.h      prepared tensors and the logits that each engine family must give
    operators.txt        the operators that the target's resolver must register
    cxr_edge.c, .h       preparation, quality gate and decision in portable C99
    parameters.c         what the bundle says, for these

Needs LiteRT to read the file, not TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import BundledFile, Manifest
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import least_size, prepare
from edge_runtime.judge.operating_point import OperatingPoint
from export.c_parameters import PORTABLE, SOURCES, write_parameters
from export.site import as_site_judges, load_site

_PER_LINE = 16
_ALIGNMENT = 16  # what the microcontroller interpreter asks of a model's address


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the file itself says."""

    operators: tuple[tuple[str, int], ...]  # name and how often
    input_scale: float
    input_zero_point: int
    map_scale: float
    map_zero_point: int
    arena_bytes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a bundle's .tflite as C source: the array, a header with all that a program must\n"
        "know, known answers, and the operators that a target must have."
    )
    parser.epilog = "example: python -m export c-array edge_runtime/models/default --output build/c"
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--site", type=Path, metavar="FILE", help="a site profile to judge by")


def run(arguments: argparse.Namespace) -> int:
    facts = write_c_array(arguments.bundle, arguments.output, arguments.site)
    for name, count in facts.operators:
        print(f"{name:24} {count}")
    print(f"activations alive at once: {facts.arena_bytes / 1e6:.2f} MB at most")
    return 0


def write_c_array(bundle: Path, output: Path, site: Path | None = None) -> Facts:
    """Write the files into `output`, to judge as a site profile says where there is one.

    Raises:
        BundleError: The bundle is incomplete or altered.
        InvalidValueError: It has no .tflite file.
    """
    opened = load_bundle(bundle)
    manifest = opened.manifest
    file = manifest.model_file("tflite")
    if file is None:
        raise InvalidValueError(f"{bundle} has no .tflite file")
    profile = load_site(opened, site)
    judged = as_site_judges(manifest, profile)
    model = opened.read(file)
    facts = read_facts(model)
    output.mkdir(parents=True, exist_ok=True)
    sources = {
        "model.h": _header(judged, file, facts, len(model), opened.sha256),
        "model.c": _array("cxr_model", model),
        "known_answers.h": _known_answers(manifest),
        "parameters.c": write_parameters(manifest, opened.sha256, profile),
        "operators.txt": "".join(f"{name} {count}\n" for name, count in facts.operators),
    }
    for name, text in sources.items():
        (output / name).write_text(text, encoding="utf-8")
    for name in SOURCES:
        (output / name).write_bytes((PORTABLE / name).read_bytes())
    return facts


def read_facts(model: bytes) -> Facts:
    """Operators, quantisation and an estimate of the working memory of an int8 .tflite."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    names = [str(operation["op_name"]) for operation in operations]
    (source,) = interpreter.get_input_details()
    target = next(d for d in interpreter.get_output_details() if len(d["shape"]) == 4)
    return Facts(
        operators=tuple((name, names.count(name)) for name in sorted(set(names))),
        input_scale=float(source["quantization"][0]),
        input_zero_point=int(source["quantization"][1]),
        map_scale=float(target["quantization"][0]),
        map_zero_point=int(target["quantization"][1]),
        arena_bytes=_arena(operations, tensors, int(source["index"])),
    )


def _arena(operations: list[Any], tensors: dict[int, Any], source: int) -> int:
    """Largest sum of the activations that are alive at the same time.

    A lower bound of a planner's arena: no padding, scratch buffers or bookkeeping.
    """
    made = {int(o) for operation in operations for o in operation["outputs"]} | {source}
    last: dict[int, int] = {}
    first = {source: 0}
    for step, operation in enumerate(operations):
        for index in map(int, operation["outputs"]):
            first.setdefault(index, step)
            last[index] = step
        for index in map(int, operation["inputs"]):
            if index in made:
                last[index] = step
    for operation in operations[-1:]:
        for index in map(int, operation["outputs"]):
            last[index] = len(operations)

    def size(index: int) -> int:
        tensor = tensors[index]
        return int(np.prod(tensor["shape"])) * int(np.dtype(tensor["dtype"]).itemsize)

    return max(
        sum(size(i) for i in made if i in last and first[i] <= step <= last[i])
        for step in range(len(operations))
    )


def _threshold_lines(name: str, point: OperatingPoint) -> list[str]:
    """At or above CXR_THRESHOLD it is pneumonia, but from CXR_UNCERTAIN_FROM up to _TO unsure."""
    lines = [f"#define CXR_THRESHOLD_{name} {point.threshold!r}f"]
    if point.uncertain:
        low, high = point.uncertain
        lines.append(f"#define CXR_UNCERTAIN_FROM_{name} {low!r}f")
        lines.append(f"#define CXR_UNCERTAIN_TO_{name} {high!r}f")
    return lines


def _header(manifest: Manifest, file: BundledFile, facts: Facts, size: int, digest: str) -> str:
    spec, outputs = manifest.input, manifest.outputs
    rows, columns, units = outputs.map_shape
    named = [(point.name, point) for point in manifest.operating_points]
    named += [
        (f"{point.name}_{population.name}", point)
        for population in manifest.populations
        for point in population.operating_points
    ]
    points = "\n".join(
        line for name, point in named for line in _threshold_lines(name.upper(), point)
    )
    points += _findings(manifest)
    offsets = ", ".join(f"{value!r}f" for value in file.logit_offset)
    return f"""/* {manifest.name} {manifest.version}. Generated; do not edit.
 *
 * {manifest.intended_use}
 *
 * Input: {spec.height} x {spec.width} grey pixels, uint8, one channel, row after row. They are the
 * quantised values: scale {facts.input_scale!r} and zero point {facts.input_zero_point} are the
 * normalisation, nothing is to be computed. How a picture becomes these pixels:
 * cxr_edge.h; check yours with known_answers.h.
 *
 * Output 0..: the evidence map, {rows} x {columns} x {units}, int8. For each unit
 *     logit = mean(map_scale * (q - map_zero_point)) + offset
 * {_told_probability(manifest)}
 */
#ifndef CXR_MODEL_H
#define CXR_MODEL_H

#define CXR_BUNDLE_SHA256 "{digest}"
#define CXR_INPUT_HEIGHT {spec.height}
#define CXR_INPUT_WIDTH {spec.width}
/* A JPEG may be decoded at 1/2, 1/4 or 1/8 scale while it stays at least this large. */
#define CXR_LEAST_HEIGHT {least_size(spec)[0]}
#define CXR_LEAST_WIDTH {least_size(spec)[1]}
#define CXR_INPUT_SCALE {facts.input_scale!r}f
#define CXR_INPUT_ZERO_POINT {facts.input_zero_point}
#define CXR_MAP_ROWS {rows}
#define CXR_MAP_COLUMNS {columns}
#define CXR_MAP_UNITS {units}
#define CXR_MAP_SCALE {facts.map_scale!r}f
#define CXR_MAP_ZERO_POINT ({facts.map_zero_point})
#define CXR_FEATURES {outputs.features}
#define CXR_TEMPERATURE {manifest.calibration.temperature!r}f
{points}
/* Activations alive at the same time, at most; a planner needs this and some tens of kB more. */
#define CXR_ARENA_BYTES_AT_LEAST {facts.arena_bytes}

static const float cxr_logit_offset[CXR_MAP_UNITS] = {{{offsets}}};

#define CXR_MODEL_SIZE {size}
extern const unsigned char cxr_model[CXR_MODEL_SIZE];

#endif
"""


def _told_probability(manifest: Manifest) -> str:
    if not manifest.findings:
        return "and the probability of pneumonia is 1 / (1 + exp(-logit / temperature))."
    return (
        "and edge_runtime/judge/scores.py says how they become the probability of any finding\n"
        " * (disease_logit) and of each (finding_probabilities)."
    )


def _findings(manifest: Manifest) -> str:
    """Names, temperatures and thresholds of each finding, of models that tell several; else ""."""
    if not manifest.findings:
        return ""

    def listed(values: Iterable[float]) -> str:
        return "{" + ", ".join(f"{value!r}f" for value in values) + "}"

    names = ", ".join(json.dumps(finding.name) for finding in manifest.findings)
    lines = [
        "",
        "/* Each finding by itself, in the order of the units (of softmax: after the first). */",
        f"#define CXR_FINDINGS {len(manifest.findings)}",
        f"#define CXR_FINDING_NAMES {{{names}}}",
        f"#define CXR_FINDING_TEMPERATURES {listed(f.temperature for f in manifest.findings)}",
    ]
    for i, point in enumerate(manifest.operating_points):
        own = [finding.operating_points[i] for finding in manifest.findings]
        name = point.name.upper()
        lines.append(f"#define CXR_FINDING_THRESHOLDS_{name} {listed(p.threshold for p in own)}")
        bands = [p.uncertain for p in own if p.uncertain]
        if len(bands) == len(own):
            low, high = (listed(band[end] for band in bands) for end in (0, 1))
            lines.append(f"#define CXR_FINDING_UNCERTAIN_FROM_{name} {low}")
            lines.append(f"#define CXR_FINDING_UNCERTAIN_TO_{name} {high}")
    return "\n".join(lines)


def _array(name: str, data: bytes) -> str:
    lines = [
        "".join(f"0x{value:02x}," for value in data[i : i + _PER_LINE])
        for i in range(0, len(data), _PER_LINE)
    ]
    return (
        '#include "model.h"\n\n'
        "#if defined(__GNUC__)\n"
        f"__attribute__((aligned({_ALIGNMENT})))\n"
        "#endif\n"
        f"const unsigned char {name}[CXR_MODEL_SIZE] = {{\n" + "\n".join(lines) + "\n};\n"
    )


def _known_answers(manifest: Manifest) -> str:
    families = sorted({f for answer in manifest.known_answers for f in answer.logits})
    size = manifest.input.height * manifest.input.width
    units = manifest.outputs.map_shape[2]
    parts = [
        "/* Generated; do not edit. Prepared tensors and the logits (offset included, before the",
        " * temperature) that each family of engines must give for them, to the tolerance. */",
        "#ifndef CXR_KNOWN_ANSWERS_H",
        "#define CXR_KNOWN_ANSWERS_H",
        "",
        f"#define CXR_KNOWN_ANSWERS {len(manifest.known_answers)}",
    ]
    for family in families:
        name = family.replace("-", "_")
        rows = [
            "{" + ", ".join(f"{v!r}f" for v in answer.logits[family]) + "}"
            for answer in manifest.known_answers
        ]
        tolerance = max(answer.tolerance[family] for answer in manifest.known_answers)
        parts += [
            f"#define CXR_TOLERANCE_{name} {tolerance!r}f",
            f"static const float cxr_logits_{name}[CXR_KNOWN_ANSWERS][{units}] = {{",
            *(f"    {row}," for row in rows),
            "};",
        ]
    parts.append(f"static const unsigned char cxr_known_tensors[CXR_KNOWN_ANSWERS][{size}] = {{")
    for answer in manifest.known_answers:
        pixels = prepare(answer.image, manifest.input).tobytes()
        parts.append("{")
        parts += [
            "".join(f"{value}," for value in pixels[i : i + 2 * _PER_LINE])
            for i in range(0, len(pixels), 2 * _PER_LINE)
        ]
        parts.append("},")
    return "\n".join([*parts, "};", "", "#endif", ""])
