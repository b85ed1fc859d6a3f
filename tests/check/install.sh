#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `meson install` leaves behind is all that an embedder needs: header, libraries, pkg-config file; and the tool with its page.
set -eu
cd "$(dirname "$0")/../.."
: "${SLUICE_BUILD:?the build directory}"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root meson install -C "$SLUICE_BUILD" --no-rebuild --quiet
find "$root" -type f -o -type l | sed "s|^$root||" | sort

pc=$(find "$root" -name sluice.pc)
libs=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$root
[ "$(find "$root" -name '*.h' | wc -l)" = 1 ] || { echo 'one header is public'; exit 1; }

# shellcheck disable=SC2046  # pkg-config's words are words
"${CC:-cc}" -Wall -Wextra -Werror tests/check/embedder.c -o "$root/shared" $(pkg-config --cflags --libs sluice)
LD_LIBRARY_PATH=$libs "$root/shared"
ldd "$root/shared" | grep -q 'libsluice\.so\.0' || { echo 'linked without the soname libsluice.so.0'; exit 1; }

# Static: the library's own needs come from Libs.private and Requires.private.
static=$(pkg-config --static --libs sluice | sed 's/-lsluice/-l:libsluice.a/')
# shellcheck disable=SC2086,SC2046
"${CC:-cc}" -Wall -Wextra -Werror tests/check/embedder.c -o "$root/static" $(pkg-config --cflags sluice) $static
"$root/static"

for want in bin/migperf share/man/man1/migperf.1; do
	[ -n "$(find "$root" -path "*/$want*")" ] || { echo "$want is not installed"; exit 1; }
done
