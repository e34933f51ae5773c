#!/usr/bin/env bash
# ctest: labels=cluster timeout=400
# slidemill bench bricks on a real GlusterFS volume: every brick is found, a full one and a dead one
# are named and cost the others nothing, ranks share the streams, nothing stays.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cluster_up --no-slurm --brick-fs xfs --brick-size 400m

BUDGET=64M TIME=20 bench_options=()
left() { find "$MNT_DIST" -maxdepth 1 -name '.slidemill-bench.*'; }
files_written() { [[ $(find "$MNT_DIST"/.slidemill-bench.* -size +1M 2>/dev/null | wc -l) -ge 8 ]]; }
bench() { # OPTIONS... MOUNT; some MPI libraries leak
    ASAN_OPTIONS=detect_leaks=0 run "$@" "$BIN/slidemill-bench" bricks --quiet --repeats 2 \
        "${bench_options[@]}" --streams-max 2 --budget "$BUDGET" --time "$TIME" --json "$SCRATCH/out.jsonl" "$MOUNT"
}

claim "all four bricks are found and measured"
MOUNT=$MNT_DIST
bench
expect_code 0
expect_out "*: 4 bricks, 1 rank, 2 repeats*dist-0/data*dist-1/data*dist-2/data*dist-3/data*"
expect_out "*All bricks at once*read * of the bricks' sum*write *--streams-per-brick [12]"
[[ -z $(left) ]] || fail "left: $(left)"
for i in 0 1 2 3; do
    grep -q '"brick":"[^"]*dist-'"$i"'/data","number":'$((i + 1))',"test":"slide"' "$SCRATCH/out.jsonl" ||
        fail "no slide reads of brick $i"
done

claim "a brick whose disk is slow is found by name"
# 4 MB/s: far below what the others give on any machine, however busy. Its disk has to be asked for
# the bytes, hence --drop-caches.
run brick throttle dist 2 4000000
if [[ $code -eq 77 ]]; then
    echo "no slow brick: ${err#brick: }"
else
    expect_code 0
    bench_options=(--drop-caches) TIME=40
    bench
    bench_options=() TIME=20
    expect_code 0
    expect_out "*brick 3 of 4 (*dist-2/data) reads at *% of the median*"
    # shellcheck disable=SC2154 # out is set by run; others may be named on a machine with much to do
    slowest=$(sed -nE 's/^brick ([0-9]+) of .* reads at ([0-9]+)% of the median$/\2 \1/p' <<<"$out" |
        sort -n | head -n 1)
    [[ $slowest == *" 3" ]] || fail "slowest: $slowest: $out"
    brick throttle dist 2 0
fi

claim "a replica set is one brick"
MOUNT=$MNT_REP
bench
expect_code 0
expect_out "*: 2 bricks, *rep-replicate-0*rep-replicate-1*"

claim "ranks share the streams of a brick"
MOUNT=$MNT_DIST
if command -v mpirun >/dev/null; then
    bench mpirun --oversubscribe -n 2
    if [[ $out == *"1 rank,"* ]]; then
        echo "built without MPI: not tried with ranks"
    else
        expect_code 0
        expect_out "*: 4 bricks, 2 ranks, 2 repeats*--streams-per-brick [12]"
        [[ $(grep -c '"what":"bricks"' "$SCRATCH/out.jsonl") -eq 1 ]] || fail "not one result"
    fi
    [[ -z $(left) ]] || fail "left: $(left)"
fi

claim "a brick that fills up is named, and the others are measured"
full=$(brick path dist 1)
free_kib=$(df --output=avail -k "$full" | tail -1)
# more than the tenth below which GlusterFS puts new files elsewhere, less than the probe files
fallocate -l $((free_kib - 50000))K "$full/../ballast" || fail "cannot fill the brick"
BUDGET=480M
bench
expect_code 74
expect_out "*brick 2 of 4 was not measured to the end: *No space left on device*--streams-per-brick*"
[[ $out != *"brick 1 of 4 was not"* ]] || fail "brick 1 as well: $out"
[[ -z $(left) ]] || fail "left: $(left)"
rm -f "$full/../ballast"

BUDGET=64M
sleep 6 # GlusterFS looks at free space now and then

claim "a brick that dies while it is measured is named, the others are measured"
"$BIN/slidemill-bench" bricks --repeats 3 --streams-max 2 --budget 64M --time 30 --quiet "$MNT_DIST" \
    >"$SCRATCH/dying" 2>&1 </dev/null &
pid=$!
wait_for 20 files_written ||
    fail "no probe files"
sleep 2
brick kill dist 2
wait $pid
code=$? out=$(<"$SCRATCH/dying") err=
expect_code 74
expect_out "*brick 3 of 4 was not measured to the end: *--streams-per-brick*"
brick start dist
sleep 4

claim "the next run removes what could not be removed"
bench
expect_code 0
[[ -z $(left) ]] || fail "left: $(left)"

claim "a brick that is nearly full takes no file, and is missed"
fallocate -l $((free_kib - 2048))K "$full/../ballast" || fail "cannot fill the brick"
BUDGET=64M
bench
expect_code 74
expect_out "*: 3 bricks,*only 3 of 4 bricks took a file: *--streams-per-brick*"
rm -f "$full/../ballast"

finish
