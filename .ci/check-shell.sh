#!/usr/bin/env bash
# ShellCheck finds nothing in any script of the tree.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! command -v shellcheck >/dev/null; then
    echo "check-shell: skipped, shellcheck is not installed"
    exit 77
fi
n=0
while IFS= read -r file; do
    [[ $file == *.sh ]] || head -n 1 "$file" | grep -qaE '^#!.*[/ ](ba)?sh' || continue
    n=$((n + 1))
    shellcheck --external-sources --source-path=SCRIPTDIR "$file" || fault "$file" "see above"
done < <(find bootstrap .ci slurm-scripts bench tests -type f ! -path 'tests/*corpus/*' ! -name '*.[ch]' | sort)
finish check-shell "$n" scripts
