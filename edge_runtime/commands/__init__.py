"""The verbs of `cxr-edge`: one module each, with `add_parser` and `run`."""
