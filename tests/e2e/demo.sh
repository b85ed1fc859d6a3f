#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# perf/demo where everything is installed: it calls no package manager, needs no network, passes its arguments on, and shows a table.
set -eu
cd "$(dirname "$0")/../.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for tool in apt-get apt sudo curl wget; do
	printf '#!/bin/sh\necho "%s was called: $*" >>%s/called\nexit 1\n' $tool "$tmp" >"$tmp/$tool"
	chmod +x "$tmp/$tool"
done
export PATH=$tmp:$PATH

# A network of its own that has loopback and nothing else.
alone=()
if unshare -n ip link set lo up 2>/dev/null; then
	alone=(unshare -n)
elif unshare -rn ip link set lo up 2>/dev/null; then
	alone=(unshare -rn)
else
	echo 'skipped: no network namespaces: the demo may use the network here'
fi
demo() {
	if [ ${#alone[@]} -gt 0 ]; then
		# shellcheck disable=SC2016  # the inner shell expands it
		"${alone[@]}" sh -c 'ip link set lo up && exec "$@"' sh perf/demo "$@"
	else
		perf/demo "$@"
	fi
}

demo -m 128M --dirty-rate 20M >"$tmp/out" 2>"$tmp/err" </dev/null || { echo "perf/demo: status $?"; cat "$tmp/out" "$tmp/err"; exit 1; }
cat "$tmp/out"
[ ! -e "$tmp/called" ] || { cat "$tmp/called"; exit 1; }
grep -qi 'downtime' "$tmp/out" || { echo 'no table with the downtime'; exit 1; }
grep -qiE 'verif' "$tmp/out" || { echo 'no word about verification'; exit 1; }

# From elsewhere, and through a link, as newcomers call it.
here=$PWD
(cd / && "$here/perf/demo" -m 16M -J) >"$tmp/out" 2>"$tmp/err" </dev/null || { cat "$tmp/err"; exit 1; }
python3 -c 'import json, sys; assert json.load(sys.stdin)["verify"] == "ok"' <"$tmp/out" || { cat "$tmp/out"; exit 1; }
status=0
perf/demo -m nonsense >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
[ $status = 2 ] || { echo "perf/demo -m nonsense: status $status, not 2"; cat "$tmp/err"; exit 1; }
