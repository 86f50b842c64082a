"""Which images, whose, how they are split, read and varied."""
