# shellcheck shell=bash
# What the tests on a real cluster share. A test sources this alone; it brings the checks of
# tests/support/shell.sh along: cluster_up, claims, finish. The cluster ends with the test.
CLUSTER_TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/../support/shell.sh
source "$CLUSTER_TOOLS/../support/shell.sh"
# shellcheck source=SCRIPTDIR/parts.sh
source "$CLUSTER_TOOLS/parts.sh"
PATH=$PATH:/usr/sbin:/sbin

brick() { "$CLUSTER_TOOLS/brick" "$@"; }
node() { "$CLUSTER_TOOLS/node" "$@"; }

# cluster_up OPTIONS...: as of tests/cluster/up; sets what DIR/env sets. A machine that cannot skips
# the test; anything else that fails ends it.
cluster_up() {
    # Not in SCRATCH: nobody should remove a folder that may hold live mounts.
    cluster_of_test=$(mktemp -d "${TMPDIR:-/tmp}/slidemill-cluster.XXXXXX") || exit 1
    trap cluster_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    run "$CLUSTER_TOOLS/up" --dir "$cluster_of_test" --owner $$ "$@"
    if [[ $code -eq 77 ]]; then
        skip "${err##*cannot run here: }"
    elif [[ $code -ne 0 ]]; then
        claim "the cluster comes up"
        fail "exit code $code: $out $err"
        exit 1
    fi
    # shellcheck source=/dev/null
    source "$cluster_of_test/env"
}

# With SLIDEMILL_KEEP_LOGS=1 a test that failed leaves its logs.
cluster_end() {
    local verdict=$? keep=()
    trap '' INT TERM HUP
    if [[ $verdict -ne 0 && $verdict -ne 77 && ${SLIDEMILL_KEEP_LOGS:-0} == 1 ]]; then
        keep=(--keep)
        echo "logs: $cluster_of_test/log"
    fi
    if [[ -f $cluster_of_test/$MARK ]]; then
        "$CLUSTER_TOOLS/down" "${keep[@]}" "$cluster_of_test" >/dev/null || verdict=1
    else
        rmdir "$cluster_of_test" 2>/dev/null # up never got to it
    fi
    rm -rf --one-file-system "$SCRATCH"
    exit "$verdict"
}

# wait_jobs IDS SECONDS: until Slurm has no pending or running job of IDS (comma separated); 1 if it
# still has. A controller that does not answer is no answer.
wait_jobs() { wait_for "$2" jobs_ended "$1"; }

# With wait_for's own pause, a look every 0.2 s.
jobs_ended() {
    local left
    left=$(timeout 10 squeue -h -j "$1" -o %i 2>&1) || [[ $left == *"Invalid job id"* ]] || return 1
    [[ -z $left || $left == *"Invalid job id"* ]] || { sleep 0.1 && return 1; }
}

# wait_state ID STATE SECONDS: until the job is in that state, as squeue names it (RUNNING, ...)
wait_state() { wait_for "$3" job_has_state "$1" "$2"; }

job_has_state() { [[ $(timeout 10 squeue -h -j "$1" -o %T 2>/dev/null) == *"$2"* ]]; }

# The smaller slides of SLIDEMILL_SLIDES, or of the folder where they lie beside the sources; where
# there are none, one that is drawn.
source_slides() {
    local folder=${SLIDEMILL_SLIDES:-$SOURCE/../shared/slides} found
    found=$(find "$folder"/{,aperio,generic-tiff} -maxdepth 1 -type f -size -4096k \
        \( -name '*.svs' -o -name '*.tif' -o -name '*.tiff' \) 2>/dev/null | sort -u)
    if [[ -z $found ]]; then
        found=$SCRATCH/drawn.svs
        [[ -f $found ]] || "$BIN/mosaic" --synthetic --width 1500 --height 1100 "$found" || return 1
    fi
    echo "$found"
}

# make_slides DIR N: N slides of 1 to 4 MB below DIR, spread over folders of two depths. No two have
# the same bytes: some text after the end of the TIFF differs.
make_slides() {
    local from i source to
    mapfile -t from < <(source_slides)
    [[ ${#from[@]} -gt 0 && -n ${from[0]} ]] ||
        die "no slides: neither SLIDEMILL_SLIDES nor $BIN/mosaic"
    for ((i = 0; i < $2; i++)); do
        source=${from[i % ${#from[@]}]}
        printf -v to '%s/case-%02d/%sslide-%03d.%s' "$1" $((i % 5)) \
            "$( ((i % 2)) && echo scans/)" "$i" "${source##*.}"
        mkdir -p "${to%/*}"
        { cat "$source" && printf 'copy %d\n' "$i"; } >"$to" || return 1
    done
}
