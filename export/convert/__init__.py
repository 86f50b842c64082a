"""From a Keras model to int8 and float files of two formats."""
