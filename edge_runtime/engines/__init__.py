"""Inference engines: one module each with the same names (see `engine`), chosen by `choose`."""
