"""The DICOM receiver and what it sends back (extra `dicom`)."""
