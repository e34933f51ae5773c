#!/usr/bin/env bash
# The dispatcher: which program runs, what it is given, what comes back.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

# A place of its own, with programs that tell how they were called.
mkdir -p "$SCRATCH/bin" "$SCRATCH/libexec/slidemill" "$SCRATCH/path"
cp "$BIN/slidemill" "$SCRATCH/bin/"
fake() {
    # shellcheck disable=SC2016 # expanded by the fake
    printf '#!/bin/sh\necho "%s:$#:$*"\n%s\n' "$2" "${3:-}" >"$1"
    chmod +x "$1"
}
fake "$SCRATCH/bin/slidemill-convert" beside 'exit 65'
fake "$SCRATCH/libexec/slidemill/slidemill-info" libexec
fake "$SCRATCH/libexec/slidemill/slidemill-convert" wrong-convert
fake "$SCRATCH/path/slidemill-extra" path
fake "$SCRATCH/path/slidemill-info" wrong-info
slidemill=$SCRATCH/bin/slidemill
export PATH=$SCRATCH/path:$PATH

claim "arguments and exit codes pass through"
run "$slidemill" convert "a b" --force ''
expect_code 65
expect_out "beside:3:a b --force "

claim "libexec comes after the own folder and before PATH"
run "$slidemill" info x
expect_code 0
expect_out "libexec:1:x"

claim "PATH is searched last"
run "$slidemill" extra
expect_out "path:0:"

claim "relative entries of PATH are not searched"
cd "$SCRATCH/path" || exit 1
PATH=.::/usr/bin:/bin run "$slidemill" extra
expect_code 2
cd "$SCRATCH" || exit 1

claim "a symbolic link finds the programs beside its target"
ln -s "$slidemill" "$SCRATCH/path/slidemill"
run slidemill convert y
expect_out "beside:1:y"

claim "help COMMAND is COMMAND --help"
run "$slidemill" help convert
expect_out "beside:1:--help"

claim "a mistyped command is refused with a suggestion"
run "$slidemill" convrt in out
expect_code 2
expect_out ""
expect_err "slidemill: 'convrt' is not a command; did you mean convert?"

claim "what is not installed is not suggested"
run "$slidemill" verfy
expect_code 2
expect_err "slidemill: 'verfy' is not a command; try 'slidemill help'"

claim "a command is a word, not a path"
for word in ../bin/convert 'con vert' '' /bin/sh; do
    run "$slidemill" "$word"
    expect_code 2
    expect_out ""
done

claim "control characters do not reach the terminal"
run "$slidemill" $'a\033[2Jb'
expect_code 2
[[ $err != *$'\033'* ]] || fail "an escape in '$err'"

claim "unknown options are refused"
run "$slidemill" --frobnicate
expect_code 2
expect_err "slidemill: '--frobnicate' is not an option*"

claim "the list has what is installed, and only that"
run "$slidemill"
listing=$out
expect_code 0
expect_out "Usage: slidemill COMMAND*convert *info *"
[[ $out != *"  verify "* ]] || fail "verify is listed"
for word in help --help -h; do
    run "$slidemill" $word
    expect_code 0
    [[ $out == "$listing" ]] || fail "$word prints something else"
done

claim "--version"
run "$slidemill" --version
expect_code 0
expect_out "slidemill ${SLIDEMILL_VERSION:?}"

claim "a list that cannot be written is an error"
if [[ -w /dev/full ]]; then
    for word in help --version --man-page; do
        "$slidemill" $word >/dev/full 2>"$SCRATCH/.err"
        code=$? err=$(<"$SCRATCH/.err")
        expect_code 74
        expect_err "slidemill: standard output: *"
    done
fi

claim "a signal ends the program, not a wrapper around it"
# shellcheck disable=SC2016 # expanded by the fake
fake "$SCRATCH/bin/slidemill-suicide" x 'kill -TERM $$'
run "$slidemill" suicide
expect_code 143

finish
