#!/usr/bin/env bash
# `cmake --install` brings programs, their man pages and the documents, and they work from there.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"
prefix=$SCRATCH/prefix

claim "install"
run cmake --install "${SLIDEMILL_BUILD_DIR:?}" --prefix "$prefix"
expect_code 0

claim "every program has a man page, and nothing else is installed as a program"
for program in "$BIN"/slidemill "$BIN"/slidemill-*; do
    name=${program##*/}
    [[ -x $prefix/bin/$name ]] || fail "bin/$name is missing"
    grep -q '^\.SH "\{0,1\}EXIT STATUS' "$prefix/share/man/man1/$name.1" || fail "$name.1"
done
for file in "$prefix"/bin/*; do
    [[ ${file##*/} == slidemill* ]] || fail "${file##*/} is installed"
done

claim "documents"
for file in "$SOURCE"/LICENSE "$SOURCE"/README.md "$SOURCE"/docs/*.md; do
    [[ ! -e $file ]] || cmp -s "$file" "$prefix/share/doc/slidemill/${file##*/}" ||
        fail "${file##*/} is not installed"
done

claim "the installed dispatcher finds the installed commands"
for program in "$BIN"/slidemill-*; do
    [[ -x $program ]] || continue
    run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" "${program##*/slidemill-}" --version
    expect_code 0
done
finish
