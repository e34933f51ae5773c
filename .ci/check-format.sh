#!/usr/bin/env bash
# clang-format 14 leaves every source as it is.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! command -v clang-format-14 >/dev/null; then
    echo "check-format: skipped, clang-format-14 is not installed"
    exit 77
fi
n=0
while IFS= read -r file; do
    n=$((n + 1))
    if ! clang-format-14 --style=file --dry-run --Werror "$file" >/dev/null 2>&1; then
        fault "$file" "clang-format-14 would change it:"
        diff -u "$file" <(clang-format-14 --style=file "$file") | sed -n '3,12p'
    fi
done < <(c_files common tiler ingest bench tests)
finish check-format "$n" files
