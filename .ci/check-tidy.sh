#!/usr/bin/env bash
# clang-tidy 14 with .clang-tidy finds nothing. Takes a minute or two, so only .ci/run runs it.
# usage: check-tidy.sh BUILD-FOLDER [FILE...]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=${1:?a build folder with compile_commands.json}
shift
if ! command -v clang-tidy-14 >/dev/null; then
    echo "check-tidy: skipped, clang-tidy-14 is not installed"
    exit 77
fi
files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then
    mapfile -t files < <(c_files common tiler ingest bench | grep '\.c$')
fi

# $0 is the build folder, $1 the file; the analyzer should see the assertions that a release build leaves out
export ANALYZER_H=$ROOT/.ci/analyzer.h
# shellcheck disable=SC2016 # expanded by the inner shell
one='clang-tidy-14 --quiet -p "$0" --extra-arg=-UNDEBUG \
    $([[ $1 == */error.c ]] || echo "--extra-arg=-include$ANALYZER_H") "$1" 2>/dev/null'
found=$(printf '%s\0' "${files[@]}" |
    xargs -0 -n 1 -P "$(nproc 2>/dev/null || echo 2)" bash -c "$one" "$build")
status=$?
[[ -z $found ]] || printf '%s\n' "${found//"$PWD/"/}"
[[ $status -eq 0 ]] || fault clang-tidy "see above"
finish check-tidy "${#files[@]}" files
