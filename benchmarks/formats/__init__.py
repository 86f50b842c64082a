"""Every form of a model, and every program around it, side by side."""
