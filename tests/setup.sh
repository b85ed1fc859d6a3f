# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# setup.sh: a library for perf/demo and tests/run: install the Debian packages that are missing.
#
#   . tests/setup.sh
#   setup_packages                                   what building takes
#   setup_packages "${SETUP_BUILD[@]}" "${SETUP_TESTS[@]}"

# To build the library and migperf.
SETUP_BUILD=(meson ninja-build pkg-config gcc libc6-dev liburing-dev libnuma-dev liblz4-dev libxxhash-dev libjansson-dev python3)
# To build and run the tests besides.
# shellcheck disable=SC2034  # for who sources this
SETUP_TESTS=(g++ patch clang libclang-rt-14-dev clang-format libcunit1-dev iproute2 spin valgrind shellcheck)

setup_fail() {
	printf '%s: %s\n' "$(basename "$0")" "$1" >&2
	return 1
}

# setup_packages [PACKAGE...]: returns 0 when all are installed. Touches neither apt nor the network when nothing is missing.
setup_packages() {
	local package missing=() log as_root=()
	[ $# -gt 0 ] || set -- "${SETUP_BUILD[@]}"
	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
		setup_fail "this is not Debian: install by hand what corresponds to: $*" || return
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null ||
			setup_fail "not root, and no sudo here; as root run: apt-get install ${missing[*]}" || return
		as_root=(sudo)
		# sudo may ask for a password where somebody can answer; elsewhere it must not wait for one.
		[ -t 0 ] || as_root=(sudo -n)
	fi
	as_root+=(env DEBIAN_FRONTEND=noninteractive)
	log=$(mktemp)
	printf 'installing %s\n' "${missing[*]}" >&2
	# -o DPkg::Lock::Timeout: another apt may be at work for a while, on a machine that has just booted for one.
	if ! "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 -q update >"$log" 2>&1 </dev/null; then
		setup_fail "apt-get update failed ($(setup_why "$log")); check the network and /etc/apt/sources.list, then run this again"
		rm -f "$log"
		return 1
	fi
	if ! "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 -q -y --no-install-recommends install "${missing[@]}" \
		>"$log" 2>&1 </dev/null; then
		setup_fail "apt-get install failed ($(setup_why "$log")); run by hand: apt-get install ${missing[*]}"
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}

# The line of an apt log that says most, or its last.
setup_why() {
	{ grep -E '^(E|W|Err):? ?' "$1" || cat "$1"; } | tail -n 1
}
