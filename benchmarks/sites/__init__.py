"""What `cxr-edge adapt` is worth at hospitals, and what its guard sees."""
