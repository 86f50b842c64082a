"""What a training run leaves behind, and how the rest of the workbench reads it."""
