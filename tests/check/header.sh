#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The one installed header compiles alone, in every language that an embedder may use, without a warning.
set -eu
cd "$(dirname "$0")/../.."

tried=0
try() { # COMPILER LANGUAGE STANDARD
	command -v "$1" >/dev/null || return 0
	printf '#include <sluice.h>\n#include <sluice.h>\n' |
		"$1" -x "$2" -std="$3" -Icore -fsyntax-only -Wall -Wextra -pedantic -Werror - || { echo "$*: not clean"; exit 1; }
	tried=$((tried + 1))
}
for standard in c99 c11 c17 gnu11; do
	try gcc c $standard
	try clang c $standard
done
for standard in c++11 c++17 c++20; do
	try g++ c++ $standard
	try clang++ c++ $standard
done
[ $tried -ge 7 ] || { echo 'needs a C and a C++ compiler'; exit 1; }
echo "$tried compilations"
