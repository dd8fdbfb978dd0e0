#!/bin/sh
# A very small agent: it writes the first heading of its task into TODO.txt.
set -eu
heading=$(grep -m 1 '^# ' | cut -c 3-)
echo "- $heading" >> TODO.txt
echo "Note: $heading" > "$FACTORY_OUTBOX/done.md"
