#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The libraries export exactly what sluice.h declares; the header's version is the project's.
set -eu
cd "$(dirname "$0")/../.."
: "${SLUICE_BUILD:?the build directory}"

declared=$(grep -oE '^SLUICE_API [^(]*' core/sluice.h | grep -oE 'sluice_[a-z0-9_]+$' | sort)
exported=$(nm -D --defined-only "$SLUICE_BUILD/libsluice.so" | awk '$2 != "A" { sub("@.*", "", $3); print $3 }' | sort)
[ -n "$declared" ] || { echo 'no declaration found in sluice.h'; exit 1; }
if ! diff <(echo "$declared") <(echo "$exported"); then
	echo '< declared in sluice.h but not exported; > exported but not declared'
	exit 1
fi
# The static one: no name of ours that is not public may get into an embedder's way.
visible=$(nm --defined-only --extern-only "$SLUICE_BUILD/libsluice.a" | awk 'NF == 3 { print $3 }' | sort)
if ! diff <(echo "$declared") <(echo "$visible"); then
	echo '< declared in sluice.h but not in libsluice.a; > visible in libsluice.a but not declared'
	exit 1
fi
defined() { awk -v name="SLUICE_VERSION_$1" '$2 == name { print $3 }' core/sluice.h; }
version=$(awk -F"'" '/^  version:/ { print $2; exit }' meson.build)
[ "${version%.*}" = "$(defined MAJOR).$(defined MINOR)" ] || { echo "sluice.h and meson.build ($version) differ in version"; exit 1; }
echo "$(wc -w <<<"$declared") symbols"
