#!/usr/bin/env bash
# `cmake --install` brings programs, their man pages, the Slurm scripts, the module file and the
# documents, and they work from there, wherever that is.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"
prefix=$SCRATCH/prefix

claim "install"
run cmake --install "${SLIDEMILL_BUILD_DIR:?}" --prefix "$prefix"
expect_code 0

claim "every program has a man page, and nothing else is installed as a program"
for program in "$BIN"/slidemill "$BIN"/slidemill-*; do
    name=${program##*/}
    [[ $name != slidemill-worker ]] || continue # a helper, see below
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

claim "the worker is where only our programs look"
[[ -x $prefix/libexec/slidemill/slidemill-worker ]] || fail "libexec/slidemill/slidemill-worker is missing"
[[ ! -e $prefix/bin/slidemill-worker ]] || fail "it is in bin"

claim "the installed tree may be moved"
mv "$prefix" "$SCRATCH/moved elsewhere"
prefix="$SCRATCH/moved elsewhere"

claim "the installed dispatcher finds the installed commands"
for program in "$BIN"/slidemill-*; do
    [[ -x $program && $program != */slidemill-worker ]] || continue
    run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" "${program##*/slidemill-}" --version
    expect_code 0
done

claim "submit and status are reached through it, and find it again"
for script in submit status; do
    run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" $script --help
    expect_code 0
    expect_out "Usage: slidemill $script *"
done
: >"$SCRATCH/c.smc"
mkdir "$SCRATCH/c.smc.d" "$SCRATCH/path"
printf '#!/bin/sh\n' >"$SCRATCH/path/squeue"
chmod +x "$SCRATCH/path/squeue"
run env -u SLIDEMILL_BIN -u SLIDEMILL_SITE_CONF PATH="$SCRATCH/path:/usr/bin:/bin" \
    "$prefix/bin/slidemill" status "$SCRATCH/c.smc"
expect_code 2
expect_out "queue    no job of this catalog*"
expect_err "slidemill catalog status: $SCRATCH/c.smc:*"

claim "the worker is found from a moved tree"
head -c 100000 /dev/urandom >"$SCRATCH/noise.svs"
mkdir "$SCRATCH/root" "$SCRATCH/out"
mv "$SCRATCH/noise.svs" "$SCRATCH/root/"
run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" catalog create "$SCRATCH/root" --output "$SCRATCH/real.smc"
expect_code 0
run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" ingest --catalog "$SCRATCH/real.smc" --out "$SCRATCH/out"
expect_code 1
run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" catalog merge "$SCRATCH/real.smc"
run env PATH=/usr/bin:/bin "$prefix/bin/slidemill" catalog list "$SCRATCH/real.smc" --class format --format jsonl
expect_out '*noise.svs*'

claim "the module file finds its prefix by itself"
module=$(echo "$prefix"/share/slidemill/modulefiles/slidemill/*)
[[ $module == */"${SLIDEMILL_VERSION:?}" ]] || fail "module file: $module"
if command -v tclsh >/dev/null; then
    cat >"$SCRATCH/module.tcl" <<'TCL'
proc module-whatis text {}
proc conflict name {}
proc prepend-path {name path} { puts "$name=$path" }
set ModulesCurrentModulefile [lindex $argv 0]
source $ModulesCurrentModulefile
TCL
    run env MANPATH=/usr/share/man tclsh "$SCRATCH/module.tcl" "$module"
    expect_out "PATH=$prefix/bin"$'\n'"MANPATH=$prefix/share/man"
fi

claim "packages: MPI in one of its own, nothing else depends on it"
if command -v cpack >/dev/null && command -v dpkg-deb >/dev/null && command -v dpkg-shlibdeps >/dev/null; then
    run cpack -G DEB --config "$SLIDEMILL_BUILD_DIR/CPackConfig.cmake" -B "$SCRATCH/packages"
    expect_code 0
    for deb in "$SCRATCH"/packages/*.deb; do
        dpkg-deb -x "$deb" "$SCRATCH/unpacked"
        name=${deb##*/}
        depends=$(dpkg-deb -f "$deb" Depends)
        files=$(dpkg-deb -c "$deb")
        [[ $depends == *libc6* ]] || fail "$name: Depends: $depends"
        case $name in
        slidemill-mpi_*)
            [[ $files == *bin/slidemill-ingest* && $files != *bin/slidemill-convert* ]] || fail "$name: $files"
            [[ $depends == *"slidemill (= $SLIDEMILL_VERSION)"* ]] || fail "$name: Depends: $depends"
            ;;
        slidemill_*)
            [[ $files == *libexec/slidemill/slidemill-worker* ]] || fail "$name: $files"
            [[ $depends != *mpi* ]] || fail "$name: Depends: $depends"
            ;;
        *) fail "a package named $name" ;;
        esac
    done
    run "$SCRATCH/unpacked/usr/bin/slidemill" ingest --version
    expect_code 0
    run "$SCRATCH/unpacked/usr/bin/slidemill" submit --help
    expect_code 0
else
    echo "packages: not looked at, cpack or dpkg-dev is not here"
fi
finish
