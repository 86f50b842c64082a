"""Run folder -> model bundle: `python -m export --help`. Used from a checkout, never installed."""
