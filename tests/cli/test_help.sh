#!/usr/bin/env bash
# Every program's own words: --help, --version, the man page, and the dispatcher's list agree.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

programs=0
for program in "$BIN"/slidemill "$BIN"/slidemill-*; do
    [[ -x $program ]] || continue
    name=${program##*/}
    [[ $name != slidemill-worker ]] || continue # internal: no page, not listed
    programs=$((programs + 1))

    claim "$name --help"
    run "$program" --help
    expect_code 0
    expect_out "Usage: slidemill*"
    expect_err ""
    wide=$(awk 'length($0) > 80' <<<"$out")
    [[ -z $wide ]] || fail "lines of more than 80 columns: $wide"
    [[ $out != *$'\033'* ]] || fail "escapes without a terminal"

    claim "$name --version"
    run "$program" --version
    expect_code 0
    expect_out "${name/-/ } ${SLIDEMILL_VERSION:?}*"

    claim "$name: an unknown option"
    run "$program" --no-such-option-at-all
    expect_code 2
    expect_out ""
    expect_err "*--no-such-option-at-all*"

    claim "$name: the man page"
    run "$program" --man-page
    expect_code 0
    printf '%s\n' "$out" >"$SCRATCH/$name.1"
    page=$out
    if command -v mandoc >/dev/null; then
        run mandoc -T lint -W error "$SCRATCH/$name.1"
        expect_code 0
        [[ $code -eq 0 ]] || fail "mandoc: $out"
    fi

    if [[ $name != slidemill ]]; then
        claim "$name: one summary in the man page and in the dispatcher's list"
        run "$BIN/slidemill"
        summary=$(awk -v c="${name#slidemill-}" '$1 == c { $1 = ""; print substr($0, 2) }' <<<"$out")
        [[ -n $summary ]] || fail "'slidemill' does not list it"
        grep -qxF -- "${name//-/\\-} \\- ${summary//-/\\-}" <<<"$page" ||
            fail "NAME of the man page does not say '$summary'"
    fi
done
claim "there are programs"
[[ $programs -gt 0 ]] || fail "none in $BIN"
finish
