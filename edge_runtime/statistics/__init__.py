"""Statistics with their intervals, numpy only; knows no model and no image."""
