"""Training workbench: `python -m train --help`. Used from a checkout, never installed."""
