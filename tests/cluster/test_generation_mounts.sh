#!/usr/bin/env bash
# Two clients of one GlusterFS volume make and read generations of a file: one writer at a time,
# whole files only, and a new start after every kind of death. Files are named by their bricks.
# ctest: labels=cluster timeout=180
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

programs=${SLIDEMILL_BUILD_DIR:?the build folder}/tests
tool=$programs/test-common-generation
[[ -x $tool && -x $programs/test-common-brick ]] || skip "the unit tests are not built (cmocka is missing)"
cluster_up --no-slurm
export TMPDIR=$SCRATCH/node
mkdir "$TMPDIR"

# tidy MOUNT: nothing there but the file, its folder, and in that what belongs to the last few
tidy() {
    local left
    left=$(find "$1/c" -mindepth 1 ! -name 'c.smc' ! -name 'c.smc.d' ! -name lock ! -name lock.holder \
        ! -name 'gen-??????????' ! -name 'gen-??????????.sha256')
    [[ -z $left ]] || fail "left over: $left"
    [[ $(find "$1/c/c.smc.d" -name 'gen-*' | wc -l) -le 6 ]] || fail "too many: $(ls "$1/c/c.smc.d")"
    [[ -z $(ls -A "$TMPDIR") ]] || fail "left over in scratch: $(ls "$TMPDIR")"
}

sums_hold() { (cd "$1/c/c.smc.d" && sha256sum --quiet --strict -c gen-*.sha256); }

# started FILE PATTERN: a tool in the background has said so
started() { grep -q "$2" "$1" 2>/dev/null; }

for pair in "$MNT_DIST $MNT_DIST2" "$MNT_REP $MNT_REP"; do
    read -r one two <<<"$pair"
    a=$one/c/c.smc b=$two/c/c.smc
    mkdir "$one/c"
    of="on ${one##*/mnt-}"

    claim "$of: what one client publishes the other reads at once"
    run "$tool" create "$a"
    expect_code 0
    run "$tool" begin "$b"
    expect_out "next 2 copy 1"

    claim "$of: readers on both mounts see whole generations only, none older than one before"
    "$tool" read "$a" 8 >"$SCRATCH/read.a" 2>&1 &
    readers=$!
    "$tool" read "$b" 8 >"$SCRATCH/read.b" 2>&1 &
    readers+=" $!"
    run "$tool" write "$a" 20
    expect_out 21
    run "$tool" write "$b" 5
    expect_out 26
    for pid in $readers; do
        wait "$pid" || fail "a reader: $(cat "$SCRATCH"/read.[ab])"
    done

    claim "$of: two that write at once take turns"
    "$tool" write "$a" 8 >"$SCRATCH/write.a" 2>&1 &
    writer=$!
    run "$tool" write "$b" 8
    expect_code 0
    wait "$writer" || fail "the other writer: $(<"$SCRATCH/write.a")"
    run "$tool" begin "$a"
    expect_out "next 43 copy 42"
    sums_hold "$two" || fail "digests differ"
    tidy "$two"

    claim "$of: a holder is named on the other mount, stopped too; killed, the lock is free at once"
    rm -f "$SCRATCH/hold" # of the round before
    "$tool" hold "$a" >"$SCRATCH/hold" 2>&1 &
    holder=$!
    wait_for 10 started "$SCRATCH/hold" next || fail "no lock: $(<"$SCRATCH/hold")"
    run "$tool" begin "$b"
    expect_code 75
    expect_err "*c.smc.d/lock: held by $(hostname) pid $holder (tool hold, since 2*"
    kill -STOP "$holder"
    run "$tool" begin "$b"
    expect_code 75
    kill -KILL "$holder"
    wait "$holder" 2>/dev/null
    run "$tool" begin "$b"
    expect_code 0
    tidy "$two"

    claim "$of: a death at any step leaves the old one or the new one, and the other client goes on"
    number=42
    for step in 1 2 3 4 5 6; do
        run env SLIDEMILL_TEST_DIE_AT=$step "$tool" write "$a" 1
        expect_code 137
        claimed=$((step < 3 ? number : number + 1))
        run "$tool" begin "$b"
        expect_out "next $((claimed + 1)) copy $claimed"
        run "$tool" write "$a" 1
        expect_out $((claimed + 1))
        number=$((claimed + 1))
        tidy "$one"
    done
    sums_hold "$one" || fail "digests differ"
done

claim "a lock that went with its brick: of two writers one wins, and nothing is lost"
a=$MNT_DIST/c/c.smc b=$MNT_DIST2/c/c.smc
mkfifo "$SCRATCH/go"
"$tool" slow "$a" <"$SCRATCH/go" >"$SCRATCH/slow" 2>&1 &
slow=$!
exec 8>"$SCRATCH/go"
wait_for 10 started "$SCRATCH/slow" next || fail "no lock: $(<"$SCRATCH/slow")"
index=$(brick of "$a.d/lock")
brick kill dist "$index" || fail "the brick was not killed"
brick start dist || fail "dist does not start"
back() { stat "$a" "$b" "$a.d/lock" "$b.d/lock" >/dev/null 2>&1 && : >"$b.probe" && rm "$b.probe"; }
wait_for 30 back || fail "dist is not back"
sleep 1
run "$tool" write "$b" 1 8>&-
other=$code said=$err
exec 8>&-
wait "$slow"
code=$?
[[ $code -eq 0 || $other -eq 0 ]] || fail "none won: $(<"$SCRATCH/slow"); $said"
[[ $code -ne 0 || $other -ne 0 ]] || fail "both won: $(<"$SCRATCH/slow"); $out"
[[ $code -eq 0 || $code -eq 75 || $code -eq 74 ]] || fail "the first ended with $code: $(<"$SCRATCH/slow")"
run "$tool" begin "$b"
expect_out "next $((number + 2)) copy $((number + 1))"
sums_hold "$MNT_DIST" || fail "digests differ"
tidy "$MNT_DIST2"

claim "a damaged generation is not built upon, and the message says how to go back"
path=$(brick path dist "$(brick of "$a")")/c/c.smc
printf 'X' | dd of="$path" bs=1 seek=77 conv=notrunc 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
run "$tool" write "$b" 1
expect_code 65
expect_err "*generation $((number + 1)) is not what was published*cp --remove-destination"
cp --remove-destination "$a.d/gen-$(printf %010d "$number")" "$a"
sleep 2 # the other client may know the old name for a second
run "$tool" write "$b" 1
expect_out $((number + 2))

claim "a file's brick is named: host and folder on dist, the set of copies on rep"
for i in 1 2 3 4 5 6; do
    echo "$i" >"$MNT_DIST/slide $i) (x"
    echo "$i" >"$MNT_REP/slide $i) (x"
    run "$programs/test-common-brick" "$MNT_DIST/slide $i) (x"
    [[ $out == "$(hostname):$(brick path dist "$(brick of "$MNT_DIST/slide $i) (x")")" ]] || fail "'$out' $err"
    run "$programs/test-common-brick" "$MNT_REP/slide $i) (x"
    expect_out "rep-replicate-[01]"
done
run "$programs/test-common-brick" "$MNT_DIST" /etc/hostname
expect_out "dev:*:*"$'\n'"dev:*:*"

finish
