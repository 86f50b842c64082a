"""Backbones, heads, narrow models from wide ones, and where they look."""
