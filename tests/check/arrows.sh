#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Who may include whom (docs/architecture.md). perf sees what any embedder sees; the deciding code sees no system at all.
set -eu
cd "$(dirname "$0")/../.."

bad=0
# complain PATTERN WHAT < lines "file:line:#include ...": those that do not match the pattern are wrong.
complain() {
	local found
	found=$(grep -vE "^[^:]+:[0-9]+:#include ($1)" || true)
	[ -n "$found" ] || return 0
	printf '%s:\n%s\n' "$2" "$found"
	return 1
}

# quoted FOLDER: its includes by quotes. system FOLDER: those by angle brackets.
quoted() { grep -rnHE '^#include "' --include='*.[ch]' "$1" || true; }
system() { grep -rnHE '^#include <' --include='*.[ch]' "$1" || true; }

quoted numa | complain '"numa/' 'numa includes only its own' || bad=1
quoted streams | complain '"(streams|numa)/' 'streams includes streams and numa' || bad=1
quoted tcp | complain '"(tcp|streams)/' 'tcp includes tcp and streams' || bad=1
quoted rdma | complain '"(rdma|streams)/' 'rdma includes rdma and streams' || bad=1
quoted core | complain '"(core|streams|numa)/' 'core includes core, streams and numa' || bad=1
quoted perf | complain '"perf/' 'perf includes perf, and of sluice <sluice.h>' || bad=1
quoted core/decide | complain '"core/(decide/|[a-z_]+\.h")' 'core/decide includes no other room and no other part of core' || bad=1
# xxhash.h computes check sums; snprintf() for error texts is all that stdio.h is for.
pure='assert|errno|inttypes|limits|math|stdalign|stdarg|stdbool|stddef|stdint|stdio|stdlib|string|xxhash'
system core/decide | complain "<($pure)\.h>" 'core/decide includes nothing that does I/O, tells the time or runs threads' || bad=1
if grep -rnE '\b(f?printf|puts|fopen|perror|rand|random|getenv|malloc_usable_size)\(' --include='*.[ch]' core/decide; then
	echo 'core/decide does no I/O and reads nothing from outside'
	bad=1
fi
# sluice.h is the only header that is installed, so it may rest on nothing but the language.
system core/sluice.h | complain '<std(def|int)\.h>' 'sluice.h includes only freestanding headers' || bad=1
exit $bad
