#!/usr/bin/env bash
# ShellCheck finds nothing in any script of the tree, and no script pipes into `grep -q`: grep leaves at
# the first hit, the writer may then die of SIGPIPE, and pipefail makes a failure of that, now and then.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! command -v shellcheck >/dev/null; then
    echo "check-shell: skipped, shellcheck is not installed"
    exit 77
fi
n=0
while IFS= read -r file; do
    [[ $file == *.sh ]] || grep -qaE '^#!.*[/ ](ba)?sh' <<<"$(head -n 1 "$file" | tr -d '\0')" || continue
    n=$((n + 1))
    shellcheck --external-sources --source-path=SCRIPTDIR "$file" || fault "$file" "see above"
    while IFS=: read -r line _; do
        fault "$file:$line" "a pipe into grep -q; write: grep -q PATTERN <<<\"\$(command)\""
    done < <(grep -nE '^[^#]*[^|]\| *grep +(-[a-zA-Z]* +)*-[a-zA-Z]*q' "$file")
done < <(find bootstrap .ci slurm-scripts bench tests -type f ! -path 'tests/*corpus/*' ! -name '*.[ch]' | sort)
finish check-shell "$n" scripts
