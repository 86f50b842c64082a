"""From a file's bytes to the tensor that a model takes: find, read, decode, prepare."""
