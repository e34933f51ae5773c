#!/usr/bin/env bash
# A corpus through a real Slurm array on a real Gluster: submit, status, the merge job, and what
# happens when tasks are cancelled, told to stop, or lose their node.
# ctest: labels=cluster timeout=420
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

submit=$SOURCE/slurm-scripts/submit
status=$SOURCE/slurm-scripts/status
slidemill() { "$BIN/slidemill" "$@"; }

cluster_up --nodes 3 --uts
export SLIDEMILL_BIN=$BIN SLIDEMILL_SITE_CONF=$SCRATCH/site.conf
site() { # SETTING...
    printf '%s\n' NODES_PER_TASK=2 TASKS_PER_NODE=1 CPUS_PER_TASK=1 MEM=1G TIME=20 ARRAY_LIMIT=3 \
        MERGE_TIME=10 MERGE_MEM=1G "$@" >"$SLIDEMILL_SITE_CONF"
}

# new_corpus NAME: an empty output folder and a fresh catalog of the slides: $catalog, $pyramids
new_corpus() {
    catalog=$MNT_DIST/$1.smc pyramids=$MNT_DIST/$1-pyramids logs=$MNT_DIST/$1.smc.logs
    mkdir "$pyramids"
    run slidemill catalog create "$slides" --output "$catalog"
    expect_code 0
}

# submitted [ARGUMENTS...]: submits the catalog; ids in $array and $merge
submitted() {
    run "$submit" "$catalog" "$pyramids" "$@"
    expect_code 0
    array=$(awk '$1 == "array" { print $2 }' <<<"$out")
    merge=$(awk '$1 == "merge" { print $2 }' <<<"$out")
    [[ $array =~ ^[0-9]+$ && $merge =~ ^[0-9]+$ ]] || fail "submit said: $out"
}

state_of_job() { squeue --noheader --states=all --jobs="$1" --format=%T; }

# until_true SECONDS COMMAND...: fails the claim when the time is over
until_true() {
    wait_for "$@" || fail "not within $1 s: ${*:2}: $(squeue) $(tail -n 20 "$logs"/*.log 2>&1)"
}

n_outputs() { [[ $(find "$pyramids" -name '*.ome.tiff' 2>/dev/null | wc -l) -ge $1 ]]; }
is_running() { [[ $(state_of_job "$1") == RUNNING ]]; }
logged() { grep -qE "$2" "$logs"/ingest-"$1".log 2>/dev/null; } # ARRAY_TASK PATTERN

# all_done: the merge job was content, every output is what the catalog says and what a conversion
# by hand makes
all_done() {
    wait_jobs "$array,$merge" 180 || fail "the jobs are not through: $(squeue)"
    local left
    left=$(slidemill catalog list "$catalog" --format jsonl | grep -vc '"state":"done"')
    [[ $left -eq 0 ]] || fail "$left slides are not done: $(slidemill catalog status "$catalog"; tail -n 20 "$logs"/*.log)"
    [[ $(jobcomp_exit "$merge") == 0 ]] || fail "merge job: exit $(jobcomp_exit "$merge"): $(tail -n 20 "$logs"/merge-"$merge".log)"
    run slidemill catalog export "$catalog" --what outputs --output "$SCRATCH/outputs.sha256"
    expect_code 0
    [[ $(wc -l <"$SCRATCH/outputs.sha256") -eq $n_slides ]] || fail "$(wc -l <"$SCRATCH/outputs.sha256") outputs of $n_slides slides"
    (cd "$pyramids" && sha256sum --quiet -c "$SCRATCH/outputs.sha256") || fail "outputs differ from the catalog"
    sed 's/ .*//' "$SCRATCH/outputs.sha256" | sort >"$SCRATCH/digests"
    [[ -e $SCRATCH/digests.first ]] || cp "$SCRATCH/digests" "$SCRATCH/digests.first"
    cmp -s "$SCRATCH/digests" "$SCRATCH/digests.first" || fail "other bytes than in the first run"
    [[ -z $(find "$pyramids" -name '.*.??????') ]] || fail "temporaries: $(find "$pyramids" -name '.*')"
}

# jobcomp_exit JOB: exit code of a job that has ended
jobcomp_exit() { scontrol --oneliner show job "$1" | sed -nE 's/.* ExitCode=([0-9]+):.*/\1/p'; }

# Mosaics that take a second or so each, so that jobs can be caught in the middle.
slides=$MNT_DIST/slides
n_slides=12
tiles=$(source_slides | grep -m1 '\.svs$')
for ((i = 0; i < n_slides; i++)); do
    mkdir -p "$slides/$((i % 3))/case $i"
    "$BIN/mosaic" --width $((6000 + 1200 * i)) --height 8000 "$tiles" "$slides/$((i % 3))/case $i/$i.svs" ||
        fail "no slides could be made"
done

claim "an array of three shards, two ranks each on two nodes by pmix, with tokens; a merge job after it"
site LAUNCH=pmix GRES=gluster_io:1 LICENSES=brick0:1,brick1:1
new_corpus first
submitted --shards 3 -- --levels dyadic
expect_out "*shards 0-2, at most 3 *"
second=$(run "$submit" "$catalog" "$pyramids"; echo "$code $err")
[[ $second == "75 submit: "*"a submission is still in the queue (job $array "* ]] || fail "a second submission: $second"
run "$status" "$catalog"
expect_code 0
expect_out "array    $array: *"$'\n'"merge    $merge: 1 pending (Dependency)"$'\n'"*"
all_done
for shard in 0 1 2; do
    logged "${array}_$shard" 'launch=pmix' || fail "shard $shard was not started by pmix"
    logged "${array}_$shard" 'shard done' || fail "shard $shard: $(tail -n 5 "$logs/ingest-${array}_$shard.log")"
done
hosts=$(sed -nE 's/.*"host":"([^"]*)".*/\1/p' "$catalog".d/journal/merged/* | sort -u | wc -l)
[[ $hosts -ge 2 ]] || fail "the ranks ran on $hosts host(s)"

claim "nothing is left to submit"
run "$submit" "$catalog" "$pyramids"
expect_code 0
expect_out "Nothing to submit: every slide is done."

claim "a task that is told to stop hands back its slides, requeues itself and finishes; by mpirun"
site LAUNCH=mpirun
new_corpus second
submitted --shards 2 --limit 1 -- --levels dyadic
until_true 60 n_outputs 1
scancel --batch --signal=TERM "${array}_0"
until_true 60 logged "${array}_0" 'told to stop'
until_true 60 logged "${array}_0" 'restart=1 .*launch=mpirun'
all_done
logged "${array}_0" 'exit 75.*back into the queue' || fail "$(cat "$logs/ingest-${array}_0.log")"

claim "a cancelled task stays cancelled; the merge job says what is left; the next submission finishes"
site
new_corpus third
SLIDEMILL_TEST_WORKER=hang@case submitted --shards 3 -- --levels dyadic
until_true 60 is_running "${array}_1"
until_true 60 logged "${array}_1" 'launch='
sleep 1
scancel "$array"
wait_jobs "$array,$merge" 90 || fail "not over after scancel: $(squeue)"
[[ $(state_of_job "${array}_1") == CANCELLED ]] || fail "task 1 is $(state_of_job "${array}_1")"
[[ $(jobcomp_exit "$merge") == 1 ]] || fail "merge job: exit $(jobcomp_exit "$merge")"
submitted -- --levels dyadic
all_done

claim "a task whose node dies is put back by Slurm and finishes on others"
site LAUNCH=pmix
new_corpus fourth
submitted --shards 1 -- --levels dyadic
until_true 60 n_outputs 2
node=$(squeue --noheader --jobs="${array}_0" --format=%B)
run node kill "$node"
expect_code 0
scontrol update "nodename=$node" state=down reason=test
until_true 60 logged "${array}_0" 'restart=1 .*launch=pmix'
all_done
run node start "$node"
expect_code 0

claim "a licence that the cluster does not have is refused, nothing is submitted"
site LICENSES=nosuch:1
run slidemill catalog create "$slides" --output "$MNT_DIST/fifth.smc"
run "$submit" "$MNT_DIST/fifth.smc" "$MNT_DIST/fifth-pyramids"
expect_code 2
expect_err "*nothing was submitted*"
[[ -z $(squeue --noheader) ]] || fail "in the queue: $(squeue)"
finish
