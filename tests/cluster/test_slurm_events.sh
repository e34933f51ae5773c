#!/usr/bin/env bash
# What Slurm does to tasks: a time limit, kept or overrun, a cancelled task, a node that is drained,
# set down, resumed. Four corpora go through it at the same time. The arrays finish by themselves
# where the documents say so, else with the next submission, and no slide is made twice.
# ctest: labels=cluster timeout=420
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

submit=$SOURCE/slurm-scripts/submit
slidemill() { "$BIN/slidemill" "$@"; }
long() { [[ ${SLIDEMILL_LONG:-0} != 0 ]]; }

cluster_up --nodes 4 --uts --bricks 2
n_slides=6
if long; then n_slides=24; fi
make_slides "$MNT_DIST/slides" "$n_slides" || die "no slides could be made"

# The programs, but that one slide hangs till a task was started again HANG_STARTS times.
programs=$SCRATCH/programs
mkdir "$programs"
for program in "$BIN"/slidemill*; do
    ln -s "$program" "$programs/"
done
rm "$programs/slidemill-ingest"
cat >"$programs/slidemill-ingest" <<WRAPPER
#!/usr/bin/env bash
[[ \${SLURM_RESTART_COUNT:-0} -ge \${HANG_STARTS:-0} ]] || export SLIDEMILL_TEST_WORKER=hang@slide-000
exec '$BIN/slidemill-ingest' "\$@"
WRAPPER
chmod +x "$programs/slidemill-ingest"
export SLIDEMILL_SITE_CONF=$SCRATCH/site.conf
printf '%s\n' "PROGRAMS=$programs" NODES_PER_TASK=1 TASKS_PER_NODE=1 CPUS_PER_TASK=1 MEM=500M \
    TIME=20 ARRAY_LIMIT=3 MERGE_TIME=10 MERGE_MEM=500M LAUNCH=plain >"$SLIDEMILL_SITE_CONF"

# Each corpus is known by its name; ids of its jobs in array[NAME], merge[NAME]
declare -A array merge
catalog_of() { echo "$MNT_DIST/$1.smc"; }
log_of() { echo "$MNT_DIST/$1.smc.logs/ingest-${array[$1]}_${2:-0}.log"; }

# submitted NAME [ARGUMENTS...]
submitted() {
    local name=$1
    shift
    run "$submit" "$(catalog_of "$name")" "$MNT_DIST/$name-pyramids" "$@"
    expect_code 0
    array[$name]=$(awk '$1 == "array" { print $2 }' <<<"$out")
    merge[$name]=$(awk '$1 == "merge" { print $2 }' <<<"$out")
    [[ ${array[$name]} =~ ^[0-9]+$ && ${merge[$name]} =~ ^[0-9]+$ ]] || die "submit said: $out $err"
}

begin() {
    run slidemill catalog create "$MNT_DIST/slides" --output "$(catalog_of "$1")"
    expect_code 0
    submitted "$@"
}

# task_is NAME TASK STATE
task_is() { [[ $(squeue --noheader --states=all --jobs="${array[$1]}_$2" --format=%T 2>/dev/null) == "$3" ]]; }
job_exit() { scontrol --oneliner show job "$1" | sed -nE 's/.* ExitCode=([0-9]+):.*/\1/p' | head -n 1; }
logged() { grep -qE "$3" "$(log_of "$1" "$2")" 2>/dev/null; } # NAME TASK PATTERN
# hangs NAME TASK START: the slide that hangs is at work in that start
hangs() {
    logged "$1" "$2" "restart=$3 .*launch=" || return 1
    [[ $(sed -n "/restart=$3 /,\$p" "$(log_of "$1" "$2")" | grep -c 'event=start') -ge 1 ]]
}
until_true() {
    wait_for "$@" || fail "not within $1 s: ${*:2}: $(squeue --states=all | head -n 30) $(tail -n 20 "$MNT_DIST"/*.logs/*.log)"
}
over() { wait_jobs "${array[$1]},${merge[$1]}" "$2" || fail "not through: $(squeue) $(tail -n 20 "$(log_of "$1")")"; }

# resume NODE: one that answers may have been taken back already
resume() {
    local said
    said=$(scontrol update "nodename=$1" state=resume 2>&1) || [[ $said == *"Invalid node state"* ]] || fail "$said"
}

# all_done NAME: every slide is done and was made once; outputs are those of the catalog
all_done() {
    local catalog left ends
    catalog=$(catalog_of "$1")
    left=$(slidemill catalog list "$catalog" --format jsonl | grep -vc '"state":"done"')
    [[ $left -eq 0 ]] || fail "$left slides are not done: $(slidemill catalog status "$catalog"; tail -n 20 "$(log_of "$1")")"
    [[ $(job_exit "${merge[$1]}") == 0 ]] || fail "merge job: exit $(job_exit "${merge[$1]}")"
    ends=$(find "$catalog.d/journal" -type f -exec grep -hoE '"outcome":"ok","slide":[0-9]+' {} + | sort | uniq -c)
    [[ $(awk '$1 == 1' <<<"$ends" | wc -l) -eq $n_slides && $(wc -l <<<"$ends") -eq $n_slides ]] ||
        fail "not each slide was made once: $ends"
    slidemill catalog export "$catalog" --what outputs --output "$SCRATCH/$1.sha256" || fail "export"
    [[ $(wc -l <"$SCRATCH/$1.sha256") -eq $n_slides ]] || fail "$(wc -l <"$SCRATCH/$1.sha256") outputs"
    (cd "$MNT_DIST/$1-pyramids" && sha256sum --quiet --strict -c "$SCRATCH/$1.sha256") ||
        fail "outputs differ from the catalog"
    [[ $(find "$MNT_DIST/$1-pyramids" -type f | wc -l) -eq $n_slides ]] ||
        fail "more files than outputs: $(find "$MNT_DIST/$1-pyramids" -type f)"
}

claim "four corpora are submitted"
minute=(--sbatch --time=1 --sbatch "--signal=B:TERM@30" --sbatch "--exclude=n1,n2")
export HANG_STARTS=1
begin limit --shards 1 "${minute[@]}" -- --grace 2
begin overrun --shards 1 "${minute[@]}" -- --grace 1000
begin cancel --shards 3 --sbatch --exclude=n1,n2
export HANG_STARTS=2
begin node --shards 1 --sbatch --exclude=n3,n4
export HANG_STARTS=0

claim "a drained node gives up its task by scontrol requeue, and gets no other"
until_true 60 hangs node 0 0
first=$(squeue --noheader --jobs="${array[node]}_0" --format=%B)
scontrol update "nodename=$first" state=drain reason=test
sleep 2
task_is node 0 RUNNING || fail "draining alone ended the task: $(squeue)"
scontrol requeue "${array[node]}_0"
until_true 60 hangs node 0 1
second=$(squeue --noheader --jobs="${array[node]}_0" --format=%B)
[[ $second =~ ^n[12]$ && $second != "$first" ]] || fail "started on $second after $first was drained"

claim "of an array one task is cancelled; the others end well, the merge job counts what is left"
tasks_left() { [[ $(squeue --noheader --array --jobs="${array[cancel]}" --format=%K | wc -l) -eq 1 ]]; }
until_true 60 tasks_left
task=$(squeue --noheader --array --jobs="${array[cancel]}" --format=%K)
scancel "${array[cancel]}_$task"
over cancel 60
task_is cancel "$task" CANCELLED || fail "task $task: $(squeue --states=all)"
[[ $(job_exit "${merge[cancel]}") == 1 ]] || fail "merge job: exit $(job_exit "${merge[cancel]}")"
! logged cancel "$task" 'back into the queue' || fail "it went back: $(<"$(log_of cancel "$task")")"
done_before=$(slidemill catalog list "$(catalog_of cancel)" --state "done" --format jsonl | wc -l)
[[ $done_before -ge $((n_slides / 3)) && $done_before -lt $n_slides ]] || fail "$done_before slides were done"
submitted cancel

claim "a node that is set down loses its task to another one, which was drained and is resumed"
scontrol update "nodename=$second" state=down reason=test
until_true 30 task_is node 0 PENDING
resume "$first"
resume "$second"
until_true 90 logged node 0 'restart=[2-9] .*shard done'
over node 60
all_done node

claim "the cancelled part is finished by the next submission"
over cancel 60
all_done cancel

claim "a task at its time limit hands back, requeues itself and finishes"
over limit 180
logged limit 0 'restart=0 .*told to stop' || fail "$(<"$(log_of limit)")"
logged limit 0 'exit 75.*back into the queue' || fail "$(<"$(log_of limit)")"
logged limit 0 'restart=1 .*shard done' || fail "$(<"$(log_of limit)")"
all_done limit

claim "a task that Slurm kills at its time limit costs the slide in hand; the next submission finishes"
over overrun 180
task_is overrun 0 TIMEOUT || fail "$(squeue --states=all)"
[[ $(job_exit "${merge[overrun]}") == 1 ]] || fail "merge job: exit $(job_exit "${merge[overrun]}")"
submitted overrun
over overrun 90
all_done overrun
finish
