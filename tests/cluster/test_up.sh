#!/usr/bin/env bash
# The cluster of tests/cluster is one: jobs run on its nodes, files lie on its bricks, faults can be
# made and mended, and nothing of it stays.
# ctest: labels=cluster timeout=180
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up=$CLUSTER_TOOLS/up down=$CLUSTER_TOOLS/down

# nothing_of DIR: processes, mounts and shared memory
nothing_of() {
    local left
    left=$(pgrep -af -- "$1" | grep -v '^[0-9]* pgrep '; mounts_below "$1"; ls -d "$1" 2>/dev/null)
    [[ -z $left ]] || fail "still there: $left"
}

claim "wrong options are refused"
for words in "--nodes 0" "--nodes 4x" "--bricks 5" "--brick-fs zfs" \
    "--brick-fs xfs --brick-size 9m" "--dir" "--dir /etc" "--dir /tmp/a,b" \
    "--no-slurm --no-gluster" "--nonsense" "--volume-option" "--volume-option client.event-threads" \
    "--volume-option =1" "--volume-option client.event-threads="; do
    # shellcheck disable=SC2086 # several words
    run "$up" $words
    expect_code 2
    expect_err "up: *see --help"
done
run "$up" --help
expect_code 0
expect_out "Usage: *"

cluster_up --nodes 3 --cpus 2 --uts --volume-option performance.io-thread-count=3 \
    --volume-option client.event-threads=3

claim "up says how to use what is up"
expect_out "*$MNT_DIST2*nodes n1..n3*. $CLUSTER_DIR/env*down $CLUSTER_DIR*"

claim "options of the volumes are those that were given, for the clients from the start"
for volume in dist rep; do
    run gl volume get "$volume" performance.io-thread-count
    expect_out "*performance.io-thread-count *3*"
done
run grep -m 1 -o 'option event-threads .*' "$CLUSTER_DIR/log/mnt-dist.log"
expect_out "option event-threads 3"

claim "every node is idle"
run sinfo -h -N -o '%N %t'
expect_out $'n1 idle\nn2 idle\nn3 idle'

claim "an array runs on several nodes, which have names of their own"
run sbatch --parsable --array=0-5 -o "$SCRATCH/array.%a" --gres=gluster_io:1 -L brick0:1 \
    --wrap "echo \$SLURMD_NODENAME \$(hostname); sleep 1"
expect_code 0
wait_jobs "$out" 60 || fail "not done after 60 s: $(squeue)"
run sort -u "$SCRATCH"/array.*
[[ $(wc -l <<<"$out") -ge 2 ]] || fail "only on: $out"
while read -r name host; do
    [[ $name == n[123] && $host == "$name" ]] || fail "node '$name' is host '$host'"
done <<<"$out"
[[ $(cat "$SCRATCH"/array.* | wc -l) -eq 6 ]] || fail "not six tasks: $(cat "$SCRATCH"/array.*)"

claim "the index of an array ends at 1000"
run sbatch --array=1001 --wrap true
expect_code 1
expect_err "*Invalid job array*"

claim "countable resources: what there is is granted, what there is not is refused"
run sbatch --hold -L brick9:1 --wrap true
expect_err "*Invalid license*"
run sbatch -N1 --gres=gluster_io:5 --wrap true
expect_err "*node configuration is not available*"
run scontrol -o show lic
expect_out "*LicenseName=brick3 Total=2*"

claim "srun --mpi=pmix starts one job of two ranks on two nodes"
cat >"$SCRATCH/ranks.c" <<'C'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    int rank, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    rank++;
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("%s %d\n", getenv("SLURMD_NODENAME"), sum);
    return MPI_Finalize();
}
C
if ! command -v mpicc >/dev/null; then
    echo "left out, mpicc is not installed: $CLAIM"
elif mpicc -o "$SCRATCH/ranks" "$SCRATCH/ranks.c"; then
    run timeout 60 srun --mpi=pmix -N2 -n2 "$SCRATCH/ranks"
    expect_code 0
    [[ $(sort -u <<<"$out") == n[123]\ 3$'\n'n[123]\ 3 ]] || fail "ranks said: $out $err"
    claim "mpirun inside a job does, too"
    run timeout 60 srun -n1 mpirun -n 2 "$SCRATCH/ranks"
    [[ $out == n[123]\ 3$'\n'n[123]\ 3 ]] || fail "ranks said: $out $err"
else
    fail "mpicc does not compile"
fi

claim "a file is seen by both clients of dist, and lies on the brick that is named"
make_slides "$MNT_DIST/in" 12
seen() { [[ $(find "$MNT_DIST2/in" -type f | wc -l) -eq 12 ]]; }
wait_for 5 seen || fail "the other mount has: $(ls -R "$MNT_DIST2")"
sums() { (cd "$1" && find in -type f -print0 | sort -z | xargs -0 sha256sum); }
sums "$MNT_DIST" >"$SCRATCH/sums"
[[ $(sums "$MNT_DIST2") == "$(<"$SCRATCH/sums")" ]] || fail "the mounts differ"
[[ $(cut -d ' ' -f 1 "$SCRATCH/sums" | sort -u | wc -l) -eq 12 ]] || fail "not 12 digests"
while read -r _ file; do
    cmp -s "$(brick path dist "$(brick of "$MNT_DIST/$file")")/$file" "$MNT_DIST/$file" ||
        fail "$file is not on brick '$(brick of "$MNT_DIST/$file")'"
done <"$SCRATCH/sums"

claim "rep keeps two copies"
cp -r "$MNT_DIST/in" "$MNT_REP"
file=$(find "$MNT_REP/in" -type f | sort | head -n 1)
mapfile -t copies < <(brick of "$file")
[[ ${#copies[@]} -eq 2 ]] || fail "copies on: ${copies[*]}"
for index in "${copies[@]}"; do
    cmp -s "$(brick path rep "$index")/${file#"$MNT_REP/"}" "$file" || fail "none on brick $index"
done

claim "with a dead brick dist loses files and rep none; started again, all are back"
file=$(find "$MNT_DIST/in" -type f | sort | head -n 1)
index=$(brick of "$file")
for victim in "dist $index" "rep ${copies[0]}"; do
    # shellcheck disable=SC2086 # volume and index
    brick kill $victim || fail "$victim was not killed"
    # shellcheck disable=SC2086
    brick pid $victim >/dev/null 2>&1 && fail "$victim is alive"
done
unreadable() { ! cat "$file" >/dev/null 2>&1; }
wait_for 5 unreadable || fail "$file can be read without its brick"
run brick of "$file"
expect_code 1
cmp -s "$(brick path rep "${copies[1]}")/${file#"$MNT_DIST/"}" "$MNT_REP/${file#"$MNT_DIST/"}" ||
    fail "rep cannot be read with one of two copies"
brick start dist || fail "dist does not start"
brick start rep || fail "rep does not start"
whole() { [[ $(sums "$MNT_DIST" 2>/dev/null) == "$(<"$SCRATCH/sums")" ]]; }
wait_for 30 whole || fail "dist has: $(ls -R "$MNT_DIST")"

claim "brick and node refuse what there is not"
for words in "brick kill dist 4" "brick kill other 0" "brick kill dist" "brick burn dist 0" \
    "node kill n4" "node kill ../n1" "node kill" "node burn n1"; do
    # shellcheck disable=SC2086 # several words
    run $words
    expect_code 2
done
run brick of "$SCRATCH/sums"
expect_code 1

claim "a job survives its node: it starts again elsewhere, and nothing of it lives on"
one=10000$$ two=20000$$ # seconds nobody else sleeps
run sbatch --parsable --requeue -w n2 -o /dev/null --wrap "env -i setsid sleep $one & sleep $two"
job=$out
sleepers() { pgrep -axf "sleep ($one|$two)"; }
begun() { [[ $(sleepers | wc -l) -eq 2 ]]; }
wait_for 20 begun || fail "the job does not start: $(squeue)"
node kill n2 || fail "n2 was not killed"
run sleepers
[[ -z $out ]] || fail "alive: $out"
scontrol update nodename=n2 state=down reason=test
scontrol update "jobid=$job" reqnodelist=
again() { [[ $(squeue -h -j "$job" -o '%T %N') == RUNNING\ n[13] ]]; }
wait_for 40 again || fail "not started again: $(squeue)"
run node start n2
expect_code 0
idle() { [[ $(sinfo -h -N -n n2 -o %t) == idle ]]; }
wait_for 20 idle || fail "n2 is not idle: $(sinfo -N)"

claim "a second cluster does not meet the first"
other=$SCRATCH-other
run "$up" --dir "$other" --nodes 1 --bricks 2
expect_code 0
(
    # shellcheck source=/dev/null
    source "$other/env"
    [[ $(sinfo -h -N -o '%N %t') == "n1 idle" && -z $(squeue -h) && -z $(ls -A "$MNT_DIST") ]]
) || fail "it is not new"
run "$down" "$other"
expect_code 0
nothing_of "$other"
again || fail "the first one's job is gone: $(squeue)"

claim "what GlusterFS says of an option that it refuses is told, and nothing stays"
run "$up" --dir "$other" --no-slurm --volume-option no.such=1
expect_code 1
expect_err "*up: --volume-option no.such=1 of dist: volume set: failed: *does not exist*"
nothing_of "$other"

claim "a cluster goes with its owner"
sleep 600 &
owner=$!
disown
run "$up" --dir "$other" --no-gluster --nodes 1 --owner "$owner"
expect_code 0
kill -KILL "$owner"
removed() { [[ ! -e $other ]]; }
wait_for 20 removed || fail "$other is there"
nothing_of "$other"

claim "an up that is interrupted leaves nothing"
"$up" --dir "$other" >"$SCRATCH/up.out" 2>&1 &
starting() { [[ -f $other/run/glusterd.pid ]]; }
wait_for 30 starting || fail "glusterd does not start: $(<"$SCRATCH/up.out")"
kill -TERM $!
wait $!
code=$?
expect_code 143
nothing_of "$other"

claim "down ends within 15 s though a brick is stopped, a reader hangs on it and a job runs"
dir=$CLUSTER_DIR
shm=$(<"$dir/run/shm")
brick stop dist "$index" || fail "the brick was not stopped"
dd if="$file" of=/dev/null bs=64k iflag=direct >/dev/null 2>&1 & # past the kernel's cache
reader=$!
sleep 1
alive "$reader" || fail "the reader does not hang"
begin=$SECONDS
run "$down" "$dir"
expect_code 0
((SECONDS - begin <= 15)) || fail "it took $((SECONDS - begin)) s"
nothing_of "$dir"
[[ ! -e $shm ]] || fail "$shm is there"
run sleepers
[[ -z $out ]] || fail "the job lives: $out"
wait "$reader"

claim "down again has nothing to do, and a folder that is no cluster's is left alone"
run "$down" "$dir"
expect_code 0
expect_out "down: no cluster at *"
mkdir -p "$SCRATCH/mine/run"
run "$down" "$SCRATCH/mine"
expect_code 1
[[ -d $SCRATCH/mine/run ]] || fail "it was removed"

claim "another user is told why"
if command -v setpriv >/dev/null; then
    run setpriv --reuid=65534 --clear-groups "$up"
    expect_code 77
    expect_err "*it takes root"
fi

finish
