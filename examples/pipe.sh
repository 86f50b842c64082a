#!/bin/sh
# Screens the files named on the command line through `cxr-edge pipe`; prints each response.
# Needs: cxr-edge on the path. JSON strings are escaped by hand: backslash and double quote.
number=0
for file in "$@"; do
    number=$((number + 1))
    escaped=$(printf '%s' "$file" | sed 's/\\/\\\\/g; s/"/\\"/g')
    printf '{"id": %d, "path": "%s"}\n' "$number" "$escaped"
done | cxr-edge pipe --force
