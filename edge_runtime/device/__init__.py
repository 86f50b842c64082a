"""The machine underneath: what it is, whether it is right, how fast it is."""
