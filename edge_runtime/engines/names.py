"""The engines' names and what installs them; imports nothing, so that `doctor` can rely on it."""

from __future__ import annotations

# In the order in which `auto` tries them.
ENGINE_NAMES = ("litert", "onnxruntime", "openvino", "tflite-runtime")
REQUIRES = {
    "litert": "pip install ai-edge-litert",
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install openvino",
    "tflite-runtime": 'pip install tflite-runtime "numpy<2" (Python up to 3.11)',
}
MODULES = {
    "litert": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tflite-runtime": "tflite_runtime",
}
