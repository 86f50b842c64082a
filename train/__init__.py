"""Training workbench: `python -m train --help`. Used from a checkout, never installed."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow uses oneDNN by itself only where the processor has AVX-512 VNNI or AMX; elsewhere a
# training step takes 0.6 of the time with it (decision 43).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
