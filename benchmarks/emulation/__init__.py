"""The same records on emulated Arm processors."""
