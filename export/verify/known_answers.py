"""Known-answer vectors: synthetic images whose tensor hash and logits travel in the bundle."""

from __future__ import annotations

import base64
import hashlib
import io

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from PIL import Image

from edge_runtime.bundle.manifest import KnownAnswer
from edge_runtime.engines.engine import Engine
from edge_runtime.engines.interpreter import InterpreterEngine
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import InputSpec, prepare

# Within a family the int8 outputs are the same bytes on x86-64 and Arm; the margin is for the
# float summation of the ONNX outputs. OpenVINO fuses, and so rounds, as the processor has it: with
# and without VNNI up to 0.06 apart on these, 0.16 on others. tflite-runtime's x86 kernels round
# otherwise than its Arm kernels (which equal the reference kernels used here), hence its wide
# margin.
TOLERANCE = {"litert-xnnpack": 0.02, "onnxruntime": 0.02, "openvino": 0.3, "tflite-builtin": 1.0}

# The large one is decoded at half scale, so the draft mode of the JPEG decoder is covered too.
_IMAGES = (
    ("phantom-normal", 7, False, 400, 440),
    ("phantom-pneumonia", 8, True, 400, 440),
    ("phantom-half-scale", 9, True, 960, 1000),
)


def make_known_answers(
    spec: InputSpec,
    engines: dict[str, Engine],
    offsets: dict[str, tuple[float, ...]],
) -> tuple[KnownAnswer, ...]:
    """One vector per image.

    Args:
        spec: The model's input.
        engines: By family, each loaded with the bundle's file.
        offsets: By family, the file's logit offset.
    """
    answers = []
    for name, seed, pneumonia, height, width in _IMAGES:
        # Pictures without noise compress well; the bundle stays small.
        buffer = io.BytesIO()
        drawn = Image.fromarray(draw_phantom(seed, pneumonia, height, width))
        drawn.save(buffer, format="JPEG", quality=40)
        pixels = prepare(buffer.getvalue(), spec)
        logits = {}
        for family, engine in engines.items():
            mean = engine.run(pixels).evidence_map.mean(axis=(0, 1), dtype="float64")
            logits[family] = tuple(
                round(float(value + offset), 6)
                for value, offset in zip(mean, offsets[family], strict=True)
            )
        answers.append(
            KnownAnswer(
                name=name,
                image_base64=base64.b64encode(buffer.getvalue()).decode(),
                tensor_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
                logits=logits,
                tolerance={family: TOLERANCE[family] for family in engines},
            )
        )
    return tuple(answers)


def reference_kernels(model: bytes) -> Engine:
    """LiteRT's reference kernels: what tflite-runtime computes on Arm."""
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    return InterpreterEngine("litert reference kernels", "tflite-builtin", interpreter)
