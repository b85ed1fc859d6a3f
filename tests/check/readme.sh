#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The C code in README.md compiles as it stands there.
set -eu
cd "$(dirname "$0")/../.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
awk -v dir="$tmp" '/^```c$/ { n++; inside = 1; next } /^```/ { inside = 0 } inside { print > dir "/" n ".c" }' README.md
for block in "$tmp"/*.c; do
	[ -e "$block" ] || { echo 'README.md has no C code'; exit 1; }
	"${CC:-cc}" -std=gnu11 -Icore -Wall -Wextra -Werror -c "$block" -o "$tmp/block.o" || { cat "$block"; exit 1; }
done
echo "$(find "$tmp" -name '*.c' | wc -l) blocks"
