#!/usr/bin/env bash
# bootstrap's package step, with a package manager that only tells what it was asked, and the demo's
# search for its slide. Nothing is installed, built or downloaded.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

tree=$SCRATCH/tree
mkdir -p "$tree" "$SCRATCH/path"
cp "$SOURCE/bootstrap" "$tree/"

# tool NAME BODY: a program in front of PATH; each call is noted in calls
tool() {
    # shellcheck disable=SC2016 # expanded by the tool
    printf '#!/bin/sh\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$SCRATCH" "$2" >"$SCRATCH/path/$1"
    chmod +x "$SCRATCH/path/$1"
}
calls() { cat "$SCRATCH/calls" 2>/dev/null; }
export PATH=$SCRATCH/path:$PATH
tool id 'echo 0'

claim "wrong command lines"
run "$tree/bootstrap"
expect_code 2
run "$tree/bootstrap" dmeo
expect_code 2
expect_err "*'dmeo' is neither*"
run "$tree/bootstrap" demo test
expect_code 2
run "$tree/bootstrap" test --jobs zero
expect_code 2

claim "with every package there apt-get is not run at all"
tool dpkg-query 'echo installed'
tool apt-get 'exit 100'
run "$tree/bootstrap" deps
expect_code 0
[[ $(calls) != *apt-get* ]] || fail "apt-get was run"

claim "only what is missing is installed, and it is named"
# shellcheck disable=SC2016 # expanded by the tool
tool dpkg-query 'case $3 in libtiff-dev|valgrind) exit 1;; liburing-dev) echo config-files;; *) echo installed;; esac'
tool apt-get ''
rm -f "$SCRATCH/calls"
run "$tree/bootstrap" deps
expect_code 0
expect_out "*to install: libtiff-dev liburing-dev*"
[[ $(calls) == *" install "*" libtiff-dev liburing-dev"* ]] || fail "calls: $(calls)"
[[ $(calls) == *" install "*" valgrind"* ]] || fail "calls: $(calls)"
[[ $(calls | grep install) != *libexpat1-dev* ]] || fail "what was there was installed again"

claim "a library that cannot be installed ends it, with the way out"
# shellcheck disable=SC2016 # expanded by the tool
tool apt-get 'case "$*" in *update*) exit 0;; esac; echo "E: no network"; exit 100'
run "$tree/bootstrap" build
expect_code 1
expect_err "*E: no network*could not install: libtiff-dev liburing-dev*apt-get install*--no-deps*"
[[ $err == *"apt-get update && apt-get install --no-install-recommends libtiff-dev liburing-dev"* ]] ||
    fail "what to run is not said: $err"

claim "a missing test tool does not end it"
# shellcheck disable=SC2016 # expanded by the tool
tool dpkg-query 'case $3 in valgrind) exit 1;; *) echo installed;; esac'
run "$tree/bootstrap" deps
expect_code 0
expect_err "*valgrind: not installed*"

claim "without root and sudo it says what root should run"
# shellcheck disable=SC2016 # expanded by the tool
tool dpkg-query 'case $3 in libtiff-dev) exit 1;; *) echo installed;; esac'
tool id 'echo 1000'
mkdir -p "$SCRATCH/few"
for name in bash sh env dirname awk cat mkdir tail nproc; do
    ln -sf "$(command -v $name)" "$SCRATCH/few/$name"
done
PATH=$SCRATCH/path:$SCRATCH/few run "$tree/bootstrap" deps
expect_code 1
expect_err "*no sudo*apt-get install --no-install-recommends libtiff-dev*"

# A stand-in for cmake and for the programs: what they are asked to do is what counts.
tool id 'echo 0'
tool dpkg-query 'echo installed'
tool cmake ''
mkdir -p "$tree/build/release/bin"
program() {
    # shellcheck disable=SC2016 # expanded by the program
    printf '#!/bin/sh\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$SCRATCH" "${2:-}" \
        >"$tree/build/release/bin/$1"
    chmod +x "$tree/build/release/bin/$1"
}
program slidemill
program mosaic
slides=$SCRATCH/slides
mkdir -p "$slides/aperio"

claim "offline and without a slide the demo makes one, and says so"
tool curl 'exit 6'
rm -f "$SCRATCH/calls"
SLIDEMILL_SLIDES=$slides run "$tree/bootstrap" demo
expect_code 0
expect_out "*SYNTHETIC*"
[[ $(calls) == *"mosaic --synthetic $tree/build/demo/synthetic.svs"* ]] || fail "calls: $(calls)"
[[ $(calls) == *"slidemill convert --force $tree/build/demo/synthetic.svs $tree/build/demo/synthetic.ome.tiff"* ]] ||
    fail "calls: $(calls)"
[[ $(calls) == *"slidemill verify $tree/build/demo/synthetic.ome.tiff --against $tree/build/demo/synthetic.svs"* ]] ||
    fail "calls: $(calls)"

claim "a download with another digest is thrown away"
# shellcheck disable=SC2016 # expanded by the tool
tool curl 'while [ $# -gt 1 ]; do [ "$1" = --output ] && echo junk >"$2"; shift; done'
SLIDEMILL_SLIDES=$slides run "$tree/bootstrap" demo
expect_code 0
expect_err "*not the slide expected*"
expect_out "*SYNTHETIC*"
[[ -z $(find "$tree/build/demo" -name 'CMU*') ]] || fail "left behind: $(ls "$tree/build/demo")"

claim "a slide with another digest is passed over"
echo junk >"$slides/aperio/CMU-1-Small-Region.svs"
SLIDEMILL_SLIDES=$slides run "$tree/bootstrap" demo
expect_err "*$slides/aperio/CMU-1-Small-Region.svs: not the slide expected*"

claim "a download with the right digest is converted, and kept for the next time"
sum=$(echo slide | sha256sum)
sed -i "s/^SLIDE_SHA256=.*/SLIDE_SHA256=${sum%% *}/" "$tree/bootstrap"
# shellcheck disable=SC2016 # expanded by the tool
tool curl 'while [ $# -gt 1 ]; do [ "$1" = --output ] && echo slide >"$2"; shift; done'
rm -f "$SCRATCH/calls"
for round in 1 2; do
    SLIDEMILL_SLIDES=$slides run "$tree/bootstrap" demo
    expect_code 0
    [[ $out != *SYNTHETIC* ]] || fail "round $round: synthetic"
done
[[ $(calls | grep -c '^curl .*--output') -eq 1 ]] || fail "calls: $(calls)"
[[ $(calls) == *"convert --force $tree/build/demo/CMU-1-Small-Region.svs $tree/build/demo/CMU-1-Small-Region.ome.tiff"* ]] ||
    fail "calls: $(calls)"

claim "a slide in SLIDEMILL_SLIDES comes first, in its folder aperio or directly"
mkdir -p "$SCRATCH/direct"
echo slide | tee "$slides/aperio/CMU-1-Small-Region.svs" >"$SCRATCH/direct/CMU-1-Small-Region.svs"
for place in "$slides/aperio" "$SCRATCH/direct"; do
    rm -f "$SCRATCH/calls"
    SLIDEMILL_SLIDES=${place%/aperio} run "$tree/bootstrap" demo
    [[ $(calls) == *"convert --force $place/CMU-1-Small-Region.svs "* ]] || fail "calls: $(calls)"
done

claim "a failed conversion fails the demo"
program slidemill 'exit 65'
SLIDEMILL_SLIDES=$slides run "$tree/bootstrap" demo
expect_code 65

claim "an unknown system goes on with what is there"
rm "$SCRATCH/path/dpkg-query" "$SCRATCH/path/apt-get"
for name in fmt sed sha256sum rm ls; do
    ln -sf "$(command -v $name)" "$SCRATCH/few/$name"
done
program slidemill
PATH=$SCRATCH/path:$SCRATCH/few run "$tree/bootstrap" build
expect_code 0
expect_out "*not Debian*libtiff-dev*"

finish
