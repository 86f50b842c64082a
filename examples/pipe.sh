#!/bin/sh
# Screens the files named on the command line through `cxr-edge pipe`; prints each response, and
# exits with 1 if a film was not judged (refused or an error). A program of your own reads "status"
# first: "ok" has a "decision" (normal, uncertain, pneumonia), "rejected" has only the flags that say
# why the film may not be judged, "error" has a code. Nothing but "ok" says anything of the patient.
command -v cxr-edge >/dev/null || {
    echo "cxr-edge is not on the PATH: install it, or activate its environment" >&2
    exit 127
}
number=0
for file in "$@"; do
    number=$((number + 1))
    # JSON strings are escaped by hand: backslash and double quote.
    escaped=$(printf '%s' "$file" | sed 's/\\/\\\\/g; s/"/\\"/g')
    printf '{"id": %d, "path": "%s"}\n' "$number" "$escaped"
done | cxr-edge pipe | {
    judged=0
    while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in *'"status": "ok"'*) judged=$((judged + 1)) ;; esac
    done
    [ "$judged" -eq $# ]
}
