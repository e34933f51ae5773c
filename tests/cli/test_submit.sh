#!/usr/bin/env bash
# `submit` and `status` against a Slurm that only notes what it was asked: options, number of shards,
# the array's indices, refusals. The real Slurm is in tests/cluster/test_array.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

submit=$SOURCE/slurm-scripts/submit
status=$SOURCE/slurm-scripts/status
export SLIDEMILL_BIN=$BIN SLIDEMILL_SITE_CONF=$SCRATCH/site.conf
mkdir -p "$SCRATCH/path" "$SCRATCH/root" "$SCRATCH/out dir"
out_dir="$SCRATCH/out dir"

# tool NAME BODY: a program in front of PATH
tool() {
    printf '#!/bin/bash\n%s\n' "$2" >"$SCRATCH/path/$1"
    chmod +x "$SCRATCH/path/$1"
}
export PATH=$SCRATCH/path:$PATH
export CALLS=$SCRATCH/calls
# shellcheck disable=SC2016 # expanded by the tools
tool sbatch 'printf "%s\n" "$@" --END-- >>"$CALLS"; echo $((100 + $(grep -c -- --END-- "$CALLS")))'
tool squeue ''
cluster() { # MaxArraySize MaxJobCount
    tool scontrol "printf 'MaxArraySize            = %s\nMaxJobCount             = %s\n' $1 $2"
}
cluster 1001 10000
site() { printf '%s\n' "$@" >"$SLIDEMILL_SITE_CONF"; }
site ARRAY_LIMIT=2
# array_spec: what the array's --array said
array_spec() { grep -A1 -x -- --array "$CALLS" | sed -n 2p; }
# asked WORDS...: the words stood one after the other on some sbatch command line
asked() {
    local text
    text=$(<"$CALLS")
    [[ $'\n'$text$'\n' == *$'\n'"$(printf '%s\n' "$@")"$'\n'* ]] || fail "sbatch was not given '$*': $text"
}

for i in 1 2 3 4 5 6 7; do
    head -c $((100000 * i)) /dev/urandom >"$SCRATCH/root/$i.svs"
done
catalog=$SCRATCH/a,b\ c.smc
"$BIN/slidemill" catalog create "$SCRATCH/root" --output "$catalog" >/dev/null || fail "catalog create"

claim "wrong command lines and settings"
for script in "$submit" "$status"; do
    run "$script" --help
    expect_code 0
    expect_out "Usage: *"
    run "$script"
    expect_code 2
    run "$script" --nope x
    expect_code 2
    expect_err "*--nope: no such option*"
    run "$script" "$SCRATCH/none.smc" "$out_dir"
    expect_code 2
done
run "$submit" "$SCRATCH/none.smc" "$out_dir"
expect_err "*none.smc: no catalog here*catalog create*"
run "$submit" "$catalog" out
expect_code 2
expect_err "submit: out: OUT must be an absolute path*"
for wrong in "$SCRATCH/nope/deeper" "$catalog"; do
    run "$submit" "$catalog" "$wrong"
    expect_code 2
    expect_err "*not a folder*"
done
for option in --shards=0 --shards=x --shards=-1 --shards=08 --limit=0 --shard-bytes=5X --shard-bytes=; do
    run "$submit" --dry-run "$option" "$catalog" "$out_dir"
    expect_code 2
    expect_err "submit: ${option%%=*}*"
done
run "$submit" --keep-plan --shards 3 "$catalog" "$out_dir"
expect_code 2
run "$submit" --site "$SCRATCH/none.conf" "$catalog" "$out_dir"
expect_code 2
expect_err "*none.conf: cannot read*"
while read -r setting; do
    site "$setting"
    run "$submit" --dry-run "$catalog" "$out_dir"
    expect_code 2
    expect_err "*site.conf: *"
done <<'LIST'
TASKS_PER_NODE=0
CPUS_PER_TASK=many
LAUNCH=srun
LAUNCH=plain
MAX_RESTARTS=
ARRAY_LIMIT=$(
LIST
site ARRAY_LIMIT=2 PROGRAMS=/nowhere
run "$submit" --dry-run "$catalog" "$out_dir"
expect_code 2
expect_err "*PROGRAMS=/nowhere: slidemill is not there*"
[[ ! -e $CALLS ]] || fail "something was submitted: $(<"$CALLS")"

claim "a dry run says what it would do and changes nothing"
site ARRAY_LIMIT=2
before=$(sha256sum <"$catalog")
run "$submit" --dry-run "$catalog" "$out_dir"
expect_code 0
expect_out "*slidemill plan --catalog *--shards 2*sbatch *--array 0-1%2 *array.sbatch*sbatch *afterany*merge.sbatch*"
[[ ! -e $CALLS && $before == "$(sha256sum <"$catalog")" ]] || fail "something changed"

claim "shards: from the bytes, at least those that run at once, at most what Slurm and the slides allow"
while read -r size limit max_array max_jobs shards; do
    cluster "$max_array" "$max_jobs"
    run "$submit" --dry-run --shard-bytes "$size" --limit "$limit" "$catalog" "$out_dir"
    expect_code 0
    expect_out "*--shards $shards"$'\n'"*"
done <<'LIST'
1T 2 1001 10000 2
1T 1 1001 10000 1
700K 1 1001 10000 4
1000K 1 1001 10000 3
1K 1 1001 10000 7
1K 1 6 10000 5
1K 1 1001 8 4
250G 64 1001 10000 7
LIST
cluster 6 10000
run "$submit" --dry-run --shards 6 "$catalog" "$out_dir"
expect_code 2
expect_err "*this cluster allows 5*"
cluster 1001 10000

claim "what is submitted"
site ARRAY_LIMIT=2 PARTITION=fat ACCOUNT=path QOS=long TIME=1-0 NODES_PER_TASK=2 TASKS_PER_NODE=3 \
    CPUS_PER_TASK=4 MEM=9G 'GRES=gluster_io:2' 'LICENSES=brick0:1,brick1:1' \
    "SCRATCH='/local/\$USER'" "MODULES='gcc openmpi'" MAX_RESTARTS=7 'EXTRA_SBATCH=(--comment "two words")'
run "$submit" --shards 3 --sbatch --exclude=n7 "$catalog" "$out_dir" -- --levels dyadic --quality 90
expect_code 0
expect_out "*array   101 (shards 0-2, at most 2 at a time)*merge   102*status *scancel 101*"
asked --array 0-2%2
asked --signal=B:TERM@120
asked --nodes 2 --ntasks-per-node 3 --cpus-per-task 4
asked --partition fat --account path --qos long --comment "two words"
asked --gres gluster_io:2 --licenses brick0:1,brick1:1
asked --exclude=n7
asked --requeue --open-mode=append
asked --dependency afterany:101
# shellcheck disable=SC2016 # the node fills it in
asked "modules=gcc openmpi" launch=auto 'scratch=/local/$USER' max_restarts=7 -- \
    --catalog "$catalog" --out "$out_dir" --levels dyadic --quality 90
[[ -d $catalog.logs ]] || fail "no folder for the logs"

claim "only shards with work are in the array"
run "$BIN/slidemill" plan --catalog "$catalog" --shards 7
rm "$CALLS"
# As if an array had done some of them.
"$BIN/slidemill" catalog list "$catalog" --format jsonl >"$SCRATCH/list"
for shard in 0 3 6; do
    "$BIN/slidemill" ingest --catalog "$catalog" --out "$out_dir" --shard $shard --quiet >/dev/null 2>&1
    [[ $? -eq 1 ]] || fail "noise was converted"
done
run "$submit" --keep-plan "$catalog" "$out_dir"
expect_code 0
[[ $(array_spec) == 1-2,4-5%2 ]] || fail "array: $(array_spec)"

claim "when nothing is left it says so, and what failed"
for shard in 1 2 4 5; do
    "$BIN/slidemill" ingest --catalog "$catalog" --out "$out_dir" --shard $shard --quiet >/dev/null 2>&1
done
rm "$CALLS"
run "$submit" "$catalog" "$out_dir"
expect_code 1
expect_out "Nothing to submit; 7 slides have failed*catalog retry*"
[[ ! -e $CALLS ]] || fail "something was submitted"
run "$BIN/slidemill" catalog retry "$catalog" --state failed
expect_code 0

claim "a second submission is refused while the first is in the queue"
# shellcheck disable=SC2016 # expanded by the tool
tool squeue 'printf "%s\n" "$@" >"$CALLS.squeue"; echo "41 anna RUNNING"; echo "42 anna PENDING"'
run "$submit" "$catalog" "$out_dir"
expect_code 75
expect_err "submit: *: a submission is still in the queue (job 41 of anna running, job 42 of anna pending)*"
[[ ! -e $CALLS ]] || fail "something was submitted"

claim "the jobs of a catalog have the same names however it is called"
names=$(grep -- --name= "$CALLS.squeue")
ln -s "$catalog" "$SCRATCH/link.smc"
ln -s "$catalog.d" "$SCRATCH/link.smc.d"
run "$submit" "$SCRATCH/link.smc" "$out_dir"
[[ $(grep -- --name= "$CALLS.squeue") == "$names" ]] || fail "$names"

claim "two submissions at the same moment: one is refused"
exec 8>>"$catalog.d/submit.lock"
flock 8
run "$submit" "$catalog" "$out_dir"
expect_code 75
expect_err "*another submission is being made right now*"
exec 8>&-

claim "a Slurm that says no"
tool squeue 'exit 1'
run "$submit" "$catalog" "$out_dir"
expect_code 75
tool squeue ''
tool sbatch 'echo "sbatch: error: invalid partition specified: fat" >&2; exit 1'
run "$submit" "$catalog" "$out_dir"
expect_code 2
expect_err "*invalid partition*nothing was submitted*"
tool scontrol 'exit 1'
run "$submit" "$catalog" "$out_dir"
expect_code 75

claim "status: one line a job, then the catalog; without Slurm the catalog alone"
# shellcheck disable=SC2016 # expanded by the tool
tool squeue 'names="$*"; names=${names#*--name=}; names=${names%% *}; array=${names%,*} merge=${names#*,}
for t in 1 2 3; do echo "41|$array|RUNNING|None|n$t"; done
echo "41|$array|PENDING|Resources|"; echo "42|$merge|PENDING|Dependency|"'
run "$status" "$catalog"
expect_code 0
expect_out "array    41: *3 running*Resources? on n1 n2 n3"$'\n'"merge    42: 1 pending ?Dependency?"$'\n'"*"
tool squeue 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1'
run "$status" "$catalog"
expect_code 0
expect_out "queue    squeue failed: *Unable to contact*"
finish
