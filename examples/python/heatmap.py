"""Where the model sees arguments: python heatmap.py FILE PICTURE.jpeg."""

import sys

from edge_runtime import Screener
from edge_runtime.records.heatmap import overlay_jpeg

examination = Screener.load().examine(sys.argv[1])
picture = overlay_jpeg(examination)
if picture is None:  # refused or damaged: what the network answers there means nothing
    sys.exit(f"no heatmap: {examination.record.status}")
with open(sys.argv[2], "wb") as file:
    file.write(picture)
