#!/usr/bin/env bash
# The ways a site may start the ranks of an array task: one rank without a launcher (also of a build
# without MPI), PMI2 with another MPI (MPICH), and programs that only an environment module brings.
# pmix and mpirun are in test_array.sh.
# ctest: labels=cluster timeout=600
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

submit=$SOURCE/slurm-scripts/submit
slidemill() { "$BIN/slidemill" "$@"; }

cluster_up --nodes 2 --uts
export SLIDEMILL_SITE_CONF=$SCRATCH/site.conf
slides=$MNT_DIST/slides
make_slides "$slides" 6 || exit 1

# corpus NAME PROGRAMS SETTING...: a fresh catalog through submit, with the programs in that folder
corpus() {
    catalog=$MNT_DIST/$1.smc pyramids=$MNT_DIST/$1-pyramids logs=$MNT_DIST/$1.smc.logs
    printf '%s\n' CPUS_PER_TASK=1 MEM=1G TIME=20 ARRAY_LIMIT=2 MERGE_TIME=10 MERGE_MEM=1G \
        "PROGRAMS=$2" "${@:3}" >"$SLIDEMILL_SITE_CONF"
    mkdir "$pyramids"
    run slidemill catalog create "$slides" --output "$catalog"
    expect_code 0
    run "$submit" "$catalog" "$pyramids" --shards 2
    expect_code 0
    array=$(awk '$1 == "array" { print $2 }' <<<"$out")
    merge=$(awk '$1 == "merge" { print $2 }' <<<"$out")
    wait_jobs "$array,$merge" 180 || fail "the jobs are not through: $(squeue)"
}

logs_of_array() { cat "$logs"/ingest-"$array"_*.log; }

# all_done RANKS HOW: every slide is done, by so many ranks, started so
all_done() {
    local left
    left=$(slidemill catalog list "$catalog" --format jsonl | grep -vc '"state":"done"')
    [[ $left -eq 0 ]] || fail "$left slides are not done: $(logs_of_array)"
    [[ $(logs_of_array | grep -c "launch=$2: ") -eq 2 ]] || fail "not two tasks by $2: $(logs_of_array)"
    [[ $(logs_of_array | grep -cE "event=start .* ranks=$1 ") -eq 2 ]] || fail "not $1 rank(s) each: $(logs_of_array)"
}

# a_build FOLDER OPTION...: slidemill of these sources with other options, and links to the rest
a_build() {
    run cmake -S "$SOURCE" -B "$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF "${@:2}"
    expect_code 0
    run cmake --build "$1" --parallel 2 --target slidemill-ingest slidemill-worker
    expect_code 0
    local program
    for program in "$BIN"/*; do
        [[ -e $1/bin/${program##*/} ]] || ln -s "$program" "$1/bin/"
    done
}

claim "one rank without a launcher"
corpus plain "$BIN" NODES_PER_TASK=1 TASKS_PER_NODE=1 LAUNCH=plain
all_done 1 plain

claim "so does auto where one rank is asked for"
corpus auto "$BIN" NODES_PER_TASK=1 TASKS_PER_NODE=1 LAUNCH=auto
all_done 1 plain

claim "programs that only an environment module brings: the login node has none that ingest"
if [[ -r /etc/profile.d/modules.sh ]]; then
    run cmake --install "$SLIDEMILL_BUILD_DIR" --prefix "$SCRATCH/prefix"
    expect_code 0
    mkdir "$SCRATCH/login"
    for program in "$SCRATCH/prefix/bin"/*; do
        [[ ${program##*/} == slidemill-ingest ]] || ln -s "$program" "$SCRATCH/login/"
    done
    export MODULEPATH=$SCRATCH/prefix/share/slidemill/modulefiles
    corpus modules "$SCRATCH/login" NODES_PER_TASK=1 TASKS_PER_NODE=2 LAUNCH=pmix MODULES=slidemill
    all_done 2 pmix
    grep -qF " $SCRATCH/prefix/bin/slidemill-ingest " <<<"$(logs_of_array)" || fail "another program ran: $(logs_of_array)"

    claim "a module that the nodes do not have ends the task with 2 and is named"
    corpus nomodule "$SCRATCH/login" NODES_PER_TASK=1 TASKS_PER_NODE=1 MODULES=nosuch
    grep -qF 'module load nosuch failed' <<<"$(logs_of_array)" || fail "$(logs_of_array)"
    [[ $(scontrol --oneliner show job "${array}_0" | sed -nE 's/.* ExitCode=([0-9]+):.*/\1/p') == 2 ]] ||
        fail "$(scontrol show job "${array}_0")"
    unset MODULEPATH
else
    echo "not tried: environment-modules is not installed"
fi

claim "a build without MPI takes a shard as one rank"
a_build "$SCRATCH/build" -DSM_MPI=OFF
corpus nompi "$SCRATCH/build/bin" NODES_PER_TASK=1 TASKS_PER_NODE=1
all_done 1 plain

claim "two ranks on two nodes by srun --mpi=pmi2, linked to MPICH"
if command -v mpicc.mpich >/dev/null; then
    a_build "$SCRATCH/build" -DSM_MPI=ON -DMPI_C_COMPILER=mpicc.mpich
    libraries=$(ldd "$SCRATCH/build/bin/slidemill-ingest")
    [[ $libraries == *libmpich* ]] || fail "it is not linked to MPICH: $libraries"
    corpus pmi2 "$SCRATCH/build/bin" NODES_PER_TASK=2 TASKS_PER_NODE=1 LAUNCH=pmi2
    all_done 2 pmi2
    hosts=$(sed -nE 's/.*"host":"([^"]*)".*/\1/p' "$catalog".d/journal/merged/* | sort -u | wc -l)
    [[ $hosts -eq 2 ]] || fail "the ranks ran on $hosts host(s)"

    claim "Open MPI under --mpi=pmi2 says what is wrong, instead of running every slide twice"
    corpus wrong "$BIN" NODES_PER_TASK=2 TASKS_PER_NODE=1 LAUNCH=pmi2
    grep -qE 'srun started 2 tasks but MPI|OMPI was not built with SLURM' <<<"$(logs_of_array)" ||
        fail "$(logs_of_array)"
    [[ -z $(find "$pyramids" -name '*.tiff') ]] || fail "something was converted: $(logs_of_array)"
else
    echo "not tried: mpich is not installed"
fi
finish
