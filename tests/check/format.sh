#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every C file is as clang-format leaves it, every script passes shellcheck.
set -eu
cd "$(dirname "$0")/../.."

status=0
for tool in clang-format shellcheck; do
	command -v $tool >/dev/null || { echo "skipped: no $tool here (apt-get install $tool)"; exit 77; }
done
# Where there is git, only its files: someone's scratch is no concern of ours.
sources() {
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard -- "$@"
	else
		find . -path ./build -prune -o -type f -print0 | grep -zE "$(printf '%s|' "$@" | sed 's/[.]/\\./g; s/\*/.*/g; s/|$//')"
	fi
}

while IFS= read -r -d '' file; do
	clang-format "$file" | cmp -s - "$file" || { echo "clang-format -i $file"; status=1; }
done < <(sources '*.c' '*.h')
scripts=()
while IFS= read -r -d '' file; do
	case $file in */corpus/*) continue ;; esac # bytes
	case $(head -c 64 "$file" | head -n 1) in
	'#!'*bash | '#!'*/sh | '# shellcheck shell='*) scripts+=("$file") ;;
	esac
done < <(sources .ci/run perf/demo 'tests/*')
shellcheck -x "${scripts[@]}" || status=1
exit $status
