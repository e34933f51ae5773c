#!/usr/bin/env bash
# bootstrap's package lists against what CMake looks for: neither may know a library that the other
# does not.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# name<TAB>package of every row of a *_PACKAGES list
listed() {
    awk '/^[A-Z]+_PACKAGES=/ { inside = 1; next }
         /^\047/ { inside = 0 }
         inside && NF == 2 { print $2 "\t" $1 }' bootstrap
}

# names CMake looks for: find_package(X ...), pkg_check_modules(prefix [options] module ...)
looked_for() {
    local files=(CMakeLists.txt */CMakeLists.txt cmake/*.cmake)
    sed -E 's/#.*//' "${files[@]}" | grep -oE 'find_package\([A-Za-z0-9]+' | cut -d'(' -f2
    sed -E 's/#.*//' "${files[@]}" | grep -oE 'pkg_check_modules\([^)]*\)' |
        sed -E 's/.*\(//; s/\)//' | awk '
            { for (i = 2; i <= NF; i++)
                  if ($i !~ /^(REQUIRED|QUIET|IMPORTED_TARGET|GLOBAL|NO_CMAKE_PATH|NO_CMAKE_ENVIRONMENT_PATH)$/) {
                      sub(/[<>=].*/, "", $i); print $i } }'
}

n=0
wanted=$(looked_for | sort -u)
known=$(listed | cut -f1 | grep -v '^-$' | sort -u)
for name in $wanted; do
    n=$((n + 1))
    grep -qxF -- "$name" <<<"$known" ||
        fault bootstrap "CMake looks for $name, but no package of the lists is said to bring it"
done
for name in $known; do
    grep -qxF -- "$name" <<<"$wanted" ||
        fault bootstrap "$(listed | awk -v n="$name" '$1 == n { print $2 }') is said to bring $name, which CMake does not look for"
done
[[ $n -gt 0 ]] || fault .ci/check-packages.sh "found nothing that CMake looks for"
finish check-packages "$n" libraries
