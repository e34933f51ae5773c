#!/usr/bin/env bash
# Nothing is lost on a cluster: steps, launchers, ranks, nodes and merge jobs are killed in the middle
# of an array; what is submitted again ends with the bytes of a run that nobody disturbed. Short form:
# 3 kills; SLIDEMILL_LONG=1: 40. SLIDEMILL_SEED repeats the choices.
# ctest: labels=cluster timeout=3600
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

submit=$SOURCE/slurm-scripts/submit
slidemill() { "$BIN/slidemill" "$@"; }
seed=${SLIDEMILL_SEED:-$SRANDOM}
RANDOM=$((seed % 32768))
echo "SLIDEMILL_SEED=$seed"
kinds=(stepd mpirun node)
moments=3
[[ ${SLIDEMILL_LONG:-0} == 0 ]] || kinds=(stepd mpirun node rank worker merge) moments=40

cluster_up --nodes 3 --uts
export SLIDEMILL_BIN=$BIN SLIDEMILL_SITE_CONF=$SCRATCH/site.conf
export TMPDIR=$SCRATCH/node # of all nodes, so that what stays there is seen
mkdir "$TMPDIR"
site() { # SETTING...
    printf '%s\n' NODES_PER_TASK=2 TASKS_PER_NODE=1 CPUS_PER_TASK=1 MEM=1G TIME=20 ARRAY_LIMIT=2 \
        MERGE_TIME=10 MERGE_MEM=1G "$@" >"$SLIDEMILL_SITE_CONF"
}

# new_corpus NAME: an empty output folder and a fresh catalog of the slides: $catalog, $pyramids
new_corpus() {
    home=$MNT_DIST/$1
    catalog=$home/c.smc pyramids=$home/pyramids
    mkdir -p "$pyramids"
    run slidemill catalog create "$slides" --output "$catalog"
    expect_code 0
}

# submitted: ids in $array and $merge; 1: not accepted, the reason in $code and $err
submitted() {
    run "$submit" "$catalog" "$pyramids" "$@" -- --levels dyadic
    array=$(awk '$1 == "array" { print $2 }' <<<"$out")
    merge=$(awk '$1 == "merge" { print $2 }' <<<"$out")
    [[ $code -eq 0 && $array =~ ^[0-9]+$ ]]
}

n_done() { slidemill catalog list "$catalog" --state "done" --format jsonl 2>/dev/null | wc -l; }
n_pyramids() { find "$pyramids" -name '*.ome.tiff' ! -name '.*' | wc -l; }
logs_tail() { tail -n 15 "$catalog".logs/*.log 2>&1; }

# as_it_must_be: done, these bytes, books that agree, nothing left lying about
as_it_must_be() {
    local left
    run slidemill catalog merge "$catalog" --wait 60
    expect_code 0
    [[ $(n_done) -eq $n_slides ]] || fail "$(n_done) of $n_slides are done: $(slidemill catalog status "$catalog"; logs_tail)"
    run slidemill catalog export "$catalog" --what outputs --output "$SCRATCH/outputs.sha256"
    (cd "$pyramids" && sha256sum --quiet -c "$SCRATCH/outputs.sha256") || fail "outputs differ from the catalog"
    sort "$SCRATCH/outputs.sha256" >"$SCRATCH/sums"
    [[ -e $SCRATCH/undisturbed ]] || cp "$SCRATCH/sums" "$SCRATCH/undisturbed"
    cmp -s "$SCRATCH/sums" "$SCRATCH/undisturbed" || fail "other bytes than without a kill"
    [[ $(wc -l <"$SCRATCH/sums") -eq $n_slides ]] || fail "$(wc -l <"$SCRATCH/sums") outputs"
    left=$(find "$home" -name '.*.??????')
    [[ -z $left ]] || fail "left over: $left"
    run slidemill catalog fsck "$catalog"
    expect_code 0
    run "${SLIDEMILL_PYTHON:-python3}" "$SOURCE/tests/support/kills.py" "$catalog"
    [[ $code -eq 0 ]] || fail "journals and catalog: $out $err"
}

# ---- victims ----

# of_jobs PATTERN: pids of what jobs run by that name, in random order
of_jobs() {
    local pid
    for pid in $(job_processes "$CLUSTER_DIR"); do
        grep -qxsE "$1" "/proc/$pid/comm" && echo "$pid"
    done | shuf --random-source=<(yes "$RANDOM")
}

# The merge job starts with its array's end and takes a fraction of a second: looked for often, and
# only by its name, which is quick.
kill_merge() {
    local i pid
    for ((i = 0; i < 6000; i++)); do
        for pid in $(named 'slidemill-catal'); do
            grep -qzxsF "SLURM_CONF=$SLURM_CONF" "/proc/$pid/environ" || continue
            grep -qzsE '^SLURM_JOB_ID=' "/proc/$pid/environ" || continue
            killed="merge job"
            kill_alive "$pid" && return
        done
        ((i % 200)) || queued "$merge" || return 1
        sleep 0.01
    done
    return 1
}

kill_node() {
    local name
    name=$(squeue --noheader --states=R --format=%B | shuf --random-source=<(yes "$RANDOM") | head -n 1)
    [[ -n $name ]] || return 1
    run node kill "$name"
    expect_code 0
    dead=$name killed="node $name"
    scontrol update "nodename=$name" state=down reason=test
}

# kill_one KIND: 1 if there is none
kill_one() {
    local pid=''
    case $1 in
    node) kill_node && return ;;
    merge) kill_merge && return ;;
    stepd) pid=$(step_daemons "$CLUSTER_DIR" | shuf --random-source=<(yes "$RANDOM") | head -n 1) ;;
    mpirun) pid=$(of_jobs 'mpirun|orterun|srun' | head -n 1) ;;
    rank) pid=$(of_jobs 'slidemill-inges' | head -n 1) ;;
    worker) pid=$(of_jobs 'slidemill-worke' | head -n 1) ;;
    esac
    [[ -n $pid ]] || return 1
    killed="$(<"/proc/$pid/comm") of $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SLURMD_NODENAME=//p')"
    kill_alive "$pid"
}

# ---- after a kill ----

queued() { [[ -n $(squeue --noheader --jobs="$1" 2>/dev/null) ]]; }

# What Slurm does not bring to an end in time (a step without its daemon, say) is cancelled, as a
# person would. Then all nodes are there again.
settle() {
    wait_jobs "$array,$merge" 100 || {
        echo "cancelled after $kind: $(squeue --noheader --format='%i %T %r' | tr '\n' ';')"
        scancel "$array" "$merge"
        wait_jobs "$array,$merge" 60 || fail "not over after scancel: $(squeue)"
    }
    [[ -z $dead ]] || run node start "$dead"
    dead=''
}

# submit_till_done: the person who submits again until there is nothing to submit
submit_till_done() {
    local i
    for ((i = 0; i < 8; i++)); do
        if submitted; then
            settle
        elif [[ $code -eq 0 && $out == *"Nothing to submit: every slide is done."* ]]; then
            return
        else
            sleep 3 # orphans may still be at it
        fi
    done
    fail "not done after $i submissions: $code $out $err $(logs_tail)"
}

# Mosaics that take about a second each, so that jobs can be caught in the middle.
slides=$MNT_DIST/slides
n_slides=14
tiles=$(source_slides | grep -m1 '\.svs$')
for ((i = 0; i < n_slides; i++)); do
    mkdir -p "$slides/$((i % 3))/case $i"
    "$BIN/mosaic" --width $((4000 + 900 * i)) --height 8000 "$tiles" "$slides/$((i % 3))/case $i/$i.svs" ||
        fail "no slides could be made"
done

claim "without a kill every slide is tried once"
new_corpus undisturbed
run "$BIN/slidemill-ingest" --catalog "$catalog" --out "$pyramids" --levels dyadic --quiet
expect_code 0
cp -a "$home" "$MNT_DIST/unmerged"
as_it_must_be
[[ $(slidemill catalog status "$catalog" --json) == *"\"attempts\":$n_slides,"* ]] || fail "attempts: $(slidemill catalog status "$catalog" --json)"

claim "two merges at once from two mounts fold every event once"
home=$MNT_DIST/unmerged
catalog=$home/c.smc pyramids=$home/pyramids
"$BIN/slidemill" catalog merge "$MNT_DIST2/unmerged/c.smc" >"$SCRATCH/other" 2>&1 &
other=$!
run slidemill catalog merge "$catalog"
expect_code 0
wait "$other" || fail "the other merge: $(<"$SCRATCH/other")"
as_it_must_be
[[ $(slidemill catalog status "$catalog" --json) == *"\"attempts\":$n_slides,"* ]] || fail "events came twice"

claim "two identical runs from two mounts: the second refuses"
new_corpus twice
"$BIN/slidemill-ingest" --catalog "$MNT_DIST2/twice/c.smc" --out "$pyramids" --levels dyadic >"$SCRATCH/other" 2>&1 &
other=$!
wait_for 30 grep -q event=start "$SCRATCH/other" || fail "the first: $(<"$SCRATCH/other")"
run "$BIN/slidemill-ingest" --catalog "$catalog" --out "$pyramids" --levels dyadic
expect_code 75
expect_err "*held by*"
wait "$other" || fail "the first: $(<"$SCRATCH/other")"
as_it_must_be
[[ $(slidemill catalog status "$catalog" --json) == *"\"attempts\":$n_slides,"* ]] || fail "a slide was converted twice"

dead=''
n_killed=0 killed=''
for ((i = 0; n_killed < moments && i < 2 * moments; i++)); do
    kind=${kinds[i % ${#kinds[@]}]}
    launch=$( ((RANDOM % 2)) && echo mpirun || echo pmix)
    [[ $kind != mpirun ]] || launch=mpirun
    claim "kill $i, $kind, launch=$launch"
    site "LAUNCH=$launch"
    new_corpus "corpus$i"
    submitted --shards 2 || fail "submit: $code $err"
    wait_for 60 grep -qs '"begin"' -r "$catalog.d/journal" || fail "nothing begins: $(squeue) $(logs_tail)"
    sleep "$((RANDOM % 3)).$((RANDOM % 10))"
    n_before=$(n_pyramids)
    if kill_one "$kind" && [[ $n_before -lt $n_slides || $kind == merge ]]; then
        n_killed=$((n_killed + 1))
        echo "$CLAIM: killed $killed; $n_before of $n_slides pyramids were there before"
    else
        echo "$CLAIM: too late"
    fi
    settle
    submit_till_done
    as_it_must_be
    rm -rf "$home" 2>/dev/null
done
claim "kills"
[[ $n_killed -ge $((moments - moments / 4)) ]] || fail "only $n_killed of $moments victims were met"
[[ -z $(find "$TMPDIR" -mindepth 1 -name 'slidemill*') ]] || fail "left in scratch: $(ls -A "$TMPDIR")"
finish
