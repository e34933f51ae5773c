# shellcheck shell=bash
# What the shell tests share: a scratch folder that goes away, and checks that say what they saw.
set -uo pipefail
# shellcheck disable=SC2034 # for those who source this
BIN=${SLIDEMILL_BIN:?the folder of the programs}
# shellcheck disable=SC2034
SOURCE=${SLIDEMILL_SOURCE_DIR:?the folder of the sources}
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/slidemill-test.XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
failures=0

# claim TEXT: what the next checks are about
claim() { CLAIM=$1; }

fail() {
    printf 'FAILED: %s: %s\n' "${CLAIM:-}" "$1"
    failures=$((failures + 1))
}

# run COMMAND...: its exit code in $code, its output in $out, its errors in $err
run() {
    "$@" >"$SCRATCH/.out" 2>"$SCRATCH/.err" </dev/null
    code=$?
    out=$(<"$SCRATCH/.out")
    err=$(<"$SCRATCH/.err")
}

expect_code() { [[ $code -eq $1 ]] || fail "exit code $code, not $1; stderr: $err"; }
# expect_out PATTERN, expect_err PATTERN: as in [[ text == PATTERN ]]
# shellcheck disable=SC2053 # a pattern on purpose
expect_out() { [[ $out == $1 ]] || fail "output: '$out'"; }
# shellcheck disable=SC2053 # a pattern on purpose
expect_err() { [[ $err == $1 ]] || fail "stderr: '$err'"; }

skip() {
    printf 'skipped: %s\n' "$1"
    exit 77
}

# finish: the verdict; the last line of every shell test
finish() {
    [[ $failures -eq 0 ]] || exit 1
    echo "all claims hold"
}
