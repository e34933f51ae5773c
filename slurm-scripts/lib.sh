# shellcheck shell=bash
# What submit and status share: settings of the site, the programs, the names of a catalog's jobs.

# Exit codes as everywhere in slidemill (docs/exit-codes.md).
# shellcheck disable=SC2034 # for those who source this
readonly EX_USAGE=2 EX_BUSY=75

SELF=${0##*/}
case $SELF in
slidemill-*) SELF="slidemill ${SELF#slidemill-}" ;; # `slidemill submit` becomes slidemill-submit
esac

say() { printf '%s\n' "$*"; }
die() { # CODE MESSAGE...
    local code=$1
    shift
    printf '%s: %s\n' "$SELF" "$*" >&2
    exit "$code"
}

have() { command -v "$1" >/dev/null 2>&1; }

# read_site FILE: defaults, then the site's own values. "" looks in the usual places.
read_site() {
    PARTITION='' ACCOUNT='' QOS='' TIME=12:00:00
    NODES_PER_TASK=1 TASKS_PER_NODE=4 CPUS_PER_TASK=2 MEM=8G
    ARRAY_LIMIT=8 SHARD_BYTES=250G MAX_RESTARTS=20
    GRES='' LICENSES='' LAUNCH=auto MODULES='' SCRATCH='' PROGRAMS='' LOG_DIR=''
    MERGE_TIME=00:30:00 MERGE_MEM=4G EXTRA_SBATCH=()

    local file=$1 place
    for place in "${SLIDEMILL_SITE_CONF:-}" /etc/slidemill/site.conf "$HERE/site.conf"; do
        [[ -z $file && -n $place ]] || continue
        if [[ -e $place || $place == "${SLIDEMILL_SITE_CONF:-}" ]]; then
            file=$place
        fi
    done
    [[ -n $file ]] || return 0
    [[ -f $file && -r $file ]] || die $EX_USAGE "$file: cannot read the site's settings"
    place=$(bash -n "$file" 2>&1) || die $EX_USAGE "${place%%$'\n'*}"
    # shellcheck source=site.conf
    source "$file" || die $EX_USAGE "$file: failed when it was read as a shell script"
    SITE=$file
    check_site
}

# site_matches NAME PATTERN WHAT: a wrong value is said with its name, before anything is submitted
site_matches() {
    [[ ${!1} =~ ^($2)$ ]] || die $EX_USAGE "$SITE: $1=${!1}: $3"
}

check_site() {
    local name
    for name in NODES_PER_TASK TASKS_PER_NODE CPUS_PER_TASK ARRAY_LIMIT; do
        site_matches "$name" '[1-9][0-9]{0,5}' 'a number from 1 is wanted'
    done
    site_matches MAX_RESTARTS '[0-9]{1,4}' 'a number is wanted'
    site_matches LAUNCH 'auto|pmix|pmi2|mpirun|plain' 'auto, pmix, pmi2, mpirun or plain is wanted'
    [[ $LAUNCH != plain || $((NODES_PER_TASK * TASKS_PER_NODE)) -eq 1 ]] ||
        die $EX_USAGE "$SITE: LAUNCH=plain starts one rank, so NODES_PER_TASK and TASKS_PER_NODE must be 1"
}

# find_programs: the folder of slidemill in $BIN. From the site's settings, the environment, the
# installed tree this script is part of, or PATH.
find_programs() {
    local folder
    [[ -z $PROGRAMS || -x $PROGRAMS/slidemill ]] ||
        die $EX_USAGE "$SITE: PROGRAMS=$PROGRAMS: slidemill is not there"
    for folder in "$PROGRAMS" "${SLIDEMILL_BIN:-}" "$HERE/../../../bin"; do
        if [[ -n $folder && -x $folder/slidemill ]]; then
            BIN=$(cd "$folder" && pwd)
            return 0
        fi
    done
    folder=$(command -v slidemill) ||
        die $EX_USAGE "the program slidemill is not in PATH; set PROGRAMS in site.conf"
    BIN=$(cd "$(dirname "$folder")" && pwd)
}

# find_catalog PATH: its absolute name in $CATALOG; the names of its jobs in $ARRAY_NAME, $MERGE_NAME.
# They hold a digest of the path, so that every submission of a catalog is found again.
find_catalog() {
    local digest
    [[ -f $1 && -d $1.d ]] ||
        die $EX_USAGE "$1: no catalog here; 'slidemill catalog create ROOT -o $1' makes one"
    CATALOG=$(realpath -- "$1") || die $EX_USAGE "$1: its path cannot be resolved"
    digest=$(printf '%s' "$CATALOG" | sha256sum)
    ARRAY_NAME=slidemill-ingest-${digest:0:12}
    MERGE_NAME=slidemill-merge-${digest:0:12}
}

# jobs_of_catalog FORMAT: squeue's lines of this catalog, one per array task
jobs_of_catalog() { squeue --noheader --array --name="$ARRAY_NAME,$MERGE_NAME" --format="$1"; }

slidemill() { "$BIN/slidemill" "$@"; }
