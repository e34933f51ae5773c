# shellcheck shell=bash
# What the cluster's scripts share: which processes and mounts belong to a cluster's folder.
# Nothing here trusts a process id alone, and nothing reads the memory (cmdline, environ) of a
# process that may hang on a FUSE mount before the mount's own daemons are dead.

MARK=.slidemill-cluster # in every cluster's folder: without it `down` touches nothing

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

# alive PID: running, not a zombie (a slow init leaves those for seconds)
alive() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    [[ ${stat##*) } != [ZX]* ]]
}

# kill_alive PID: SIGKILL; 1 if it was dead already. kill succeeds with a zombie too, so it is stopped
# first: what is seen stopped was alive, and ends by SIGKILL alone.
kill_alive() {
    local stat i
    kill -STOP "$1" 2>/dev/null || return 1
    for ((i = 0; i < 3000; i++)); do # one that waits for a brick stops late
        read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
        [[ ${stat##*) } != [TZX]* ]] || break
        sleep 0.01
    done
    kill -KILL "$1" 2>/dev/null && [[ ${stat##*) } == T* ]]
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; 1 if it never did
wait_for() {
    local end=$((${EPOCHREALTIME//[!0-9]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME//[!0-9]/} < end)) || return 1
        sleep 0.1
    done
}

# none_alive PID...
none_alive() {
    local pid
    for pid; do
        alive "$pid" && return 1
    done
    return 0
}

# gone PID: not even a zombie
gone() { [[ ! -d /proc/$1 ]]; }

# named PATTERN: the processes whose name is PATTERN (extended, the whole name)
named() { grep -lxsE "$1" /proc/[0-9]*/comm | grep -oE '[0-9]+'; }

# family PID...: these processes and all their descendants
family() {
    (($#)) || return 0
    cat /proc/[0-9]*/stat 2>/dev/null | sed -nE 's/^([0-9]+) \(.*\) . ([0-9]+) .*/\1 \2/p' |
        awk -v roots="$*" '
            { child[$2] = child[$2] " " $1 }
            END {
                n = split(roots, list, " ")
                for (i = 1; i <= n; i++) {
                    print list[i]
                    m = split(child[list[i]], more, " ")
                    for (j = 1; j <= m; j++)
                        list[++n] = more[j]
                }
            }'
}

# gluster_processes DIR: glusterd, bricks, self-heal daemons and FUSE clients started for DIR
gluster_processes() {
    local pid
    for pid in $(named 'gluster(d|fs|fsd)'); do
        [[ $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") == *"$1/"* ]] && echo "$pid"
    done
}

# slurm_daemons DIR: munged, slurmctld and slurmds of DIR, with what they forked
slurm_daemons() {
    local pid found=()
    for pid in $(named 'munged|slurmctld|slurmd'); do
        [[ $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") == *"$1/"* ]] && found+=("$pid")
    done
    family "${found[@]}"
}

# step_daemons DIR [NODE]: the slurmstepds; they rename themselves and leave their slurmd's family,
# but hold its log open
step_daemons() {
    local pid log=$1/log/slurmd-${2:-*}.log
    for pid in $(named slurmstepd); do
        # shellcheck disable=SC2053 # a pattern on purpose
        while read -r file; do
            [[ $file == $log ]] && echo "$pid" && break
        done < <(readlink "/proc/$pid/fd/"* 2>/dev/null)
    done
}

# job_processes DIR [NODE]: what jobs run, known by their environment, and the clients (srun) that
# wait for them. A user's shell has SLURM_CONF too, but no job.
job_processes() {
    local pid
    while read -r pid; do
        if [[ -n ${2:-} ]]; then
            grep -qzxsF "SLURMD_NODENAME=$2" "/proc/$pid/environ" && echo "$pid"
        elif grep -qzsE '^SLURM_JOB_ID=' "/proc/$pid/environ" ||
            grep -qxsE 'srun|sbatch|salloc|squeue|scontrol' "/proc/$pid/comm"; then
            echo "$pid"
        fi
    done < <(grep -lzxsF "SLURM_CONF=$1/etc/slurm.conf" /proc/[0-9]*/environ | grep -oE '[0-9]+')
}

# not_me: the numbers on standard input but this script and its ancestors
not_me() {
    local pid=$$ mine=" "
    while [[ -n $pid && $pid -gt 1 ]]; do
        mine+="$pid "
        pid=$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status" 2>/dev/null)
    done
    while read -r pid; do
        [[ $mine == *" $pid "* ]] || echo "$pid"
    done
}

# kill_all SECONDS COMMAND...: SIGKILL to the processes that COMMAND lists, again and again until
# it lists none that lives; 1 if some outlive SECONDS. SIGCONT: a stopped process dies all the
# same, but its parent hears of it sooner.
kill_all() {
    local end=$((${EPOCHREALTIME//[!0-9]/} + $1 * 1000000)) pids
    shift
    while :; do
        mapfile -t pids < <("$@" | not_me | sort -un)
        none_alive "${pids[@]}" && return 0
        kill -KILL "${pids[@]}" 2>/dev/null
        kill -CONT "${pids[@]}" 2>/dev/null
        ((${EPOCHREALTIME//[!0-9]/} < end)) || return 1
        sleep 0.1
    done
}

# mounts_below DIR: the mount points, the deepest first
mounts_below() {
    awk -v d="$1/" 'index($2, d) == 1 { print length($2), $2 }' /proc/self/mounts |
        sort -rn | cut -d ' ' -f 2
}

# cluster_folder: the cluster that $CLUSTER_DIR names, checked
cluster_folder() {
    [[ -n ${CLUSTER_DIR:-} ]] || die "CLUSTER_DIR is not set: source DIR/env first" 2
    [[ -f $CLUSTER_DIR/$MARK ]] || die "$CLUSTER_DIR: no cluster here; tests/cluster/up starts one"
    # shellcheck source=/dev/null
    source "$CLUSTER_DIR/env"
}
