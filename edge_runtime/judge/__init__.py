"""From a model's outputs to a decision: scores, quality gate, calibration, operating points."""
