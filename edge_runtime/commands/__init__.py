"""The verbs of `cxr-edge`: one module each, with `add_arguments` and `run`."""
