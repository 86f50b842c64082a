"""Ways in that keep running: hot folder, pipe, web, DICOM."""
