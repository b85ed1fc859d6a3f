#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every source file is built and every suite is run: files are listed by hand, and a test that nobody lists passes forever.
set -eu
cd "$(dirname "$0")/../.."

bad=0
listed() { # LIST FILE PATTERN
	grep -qE "'$3'" "$1" || { echo "$2 is not listed in $1"; bad=1; }
}
for room in numa streams tcp core perf; do
	while IFS= read -r file; do
		listed "$room/meson.build" "$file" "${file#"$room"/}"
	done < <(find "$room" -name '*.c' -not -path 'perf/bench/*')
done
for file in tests/unit/test_*.c; do
	name=${file#tests/unit/test_}
	listed tests/meson.build "$file" "${name%.c}"
done
for file in tests/fuzz/fuzz_*.c; do
	[ -e "$file" ] || continue
	name=${file#tests/fuzz/fuzz_}
	listed tests/fuzz/meson.build "$file" "${name%.c}"
done
for file in tests/e2e/*.py tests/e2e/*.sh; do
	case $file in */migperf.py) continue ;; esac # what they share
	listed tests/meson.build "$file" "${file##*/}"
done
exit $bad
