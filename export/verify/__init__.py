"""No bundle leaves unless it keeps what the float model knows."""
