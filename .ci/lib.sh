# shellcheck shell=bash
# Shared by the check scripts.
set -uo pipefail
ROOT=${SLIDEMILL_SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
cd "$ROOT" || exit 1

faults=0
# fault PLACE MESSAGE
fault() {
    printf '%s: %s\n' "$1" "$2"
    faults=$((faults + 1))
}

# finish NAME N WHAT: the verdict, said once
finish() {
    if [[ $faults -gt 0 ]]; then
        printf '%s: %d fault(s)\n' "$1" "$faults"
        exit 1
    fi
    printf '%s: %d %s, no fault\n' "$1" "$2" "$3"
    exit 0
}

# c_files FOLDERS...: the C sources and headers in those folders that exist
c_files() {
    local folder
    for folder in "$@"; do
        [[ ! -d $folder ]] || find "$folder" -name '*.[ch]' -type f
    done | LC_ALL=C sort
}
