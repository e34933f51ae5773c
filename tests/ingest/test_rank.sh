#!/usr/bin/env bash
# ctest: labels=mpi timeout=180
# Ranks: with and without a launcher, messages, errors that are everybody's.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# What a launcher around this test says is not about the programs it starts.
for name in ${!OMPI_COMM_WORLD_*} ${!PMIX_*} ${!PMI_*} ${!SLURM_STEP*}; do unset "$name"; done

claim "without a launcher there is one rank"
run "$BIN/schedule-bench" --items 1000 --slides 500 --scratch "$SCRATCH"
expect_code 0
expect_out '{"ranks":1,*"slides":500,"message_assignments_per_s":*}'

claim "tasks of srun that know nothing of each other are refused"
run env SLURM_STEP_NUM_TASKS=4 "$BIN/slidemill-ingest" --catalog "$SCRATCH/none.smc" --out "$SCRATCH/out"
expect_code 2
expect_err 'slidemill ingest: srun started 4 tasks but MPI (*) sees one; use srun --mpi=pmix*'
[[ ! -e $SCRATCH/out ]] || fail "a folder was made"

claim "one task of srun is one rank"
run env SLURM_STEP_NUM_TASKS=1 "$BIN/slidemill-ingest" --catalog "$SCRATCH/none.smc" --out "$SCRATCH/out"
expect_code 2
expect_err '*none.smc: no such catalog*'

claim "help needs no MPI"
run env OMPI_COMM_WORLD_SIZE=2 "$BIN/slidemill-ingest" --help
expect_code 0

[[ $failures -eq 0 ]] || finish
command -v mpirun >/dev/null || skip "no mpirun"
ranks() { # N COMMAND...; MPI's libraries leak
    ASAN_OPTIONS=detect_leaks=0 run mpirun --oversubscribe -n "$@"
}

ranks 2 "$BIN/schedule-bench" --items 1000 --slides 500 --scratch "$SCRATCH"
[[ $out != '{"ranks":1,'* ]] || skip "slidemill was built without MPI, or with another one than mpirun's"

claim "every slide goes out and comes back, on 2, 3 and 16 ranks"
for n in 2 3 16; do
    ranks "$n" "$BIN/schedule-bench" --items 1000 --slides 3000 --scratch "$SCRATCH"
    expect_code 0
    expect_out '{"ranks":'"$n"',*"slides":3000,"message_assignments_per_s":*}'
    [[ $(grep -c ranks <<<"$out") -eq 1 ]] || fail "not one line of output: $out"
done

claim "64 ranks get at least 5,000 assignments a second"
ranks 64 "$BIN/schedule-bench" --items 1000 --slides 50000 --scratch "$SCRATCH"
expect_code 0
rate=${out##*\"message_assignments_per_s\":}
rate=${rate%\}}
case $BIN in
*asan* | *tsan*) ;;
*) [[ $rate -ge 5000 ]] || fail "$rate assignments a second" ;;
esac

claim "what rank 0 refuses is said once, and every rank ends"
ranks 3 "$BIN/slidemill-ingest" --catalog "$SCRATCH/none.smc" --out "$SCRATCH/out"
expect_code 2
[[ $(grep -c 'none.smc: no such catalog' <<<"$err") -eq 1 ]] || fail "stderr: $err"

finish
