#!/usr/bin/env bash
# Faults of the storage under a corpus: bricks that die, hang, fill up or lie, a mount that goes
# away. Each claim ends with the same pyramids as a calm run, or with a slide named and kept safe.
# A word on the command line runs only that scene. SLIDEMILL_LONG=1: more rounds, longer faults.
# ctest: labels=cluster timeout=900
# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

only=${1:-}
slidemill() { "$BIN/slidemill" "$@"; }
long() { [[ ${SLIDEMILL_LONG:-0} != 0 ]]; }
# choose SHORT LONG
choose() { if long; then echo "$2"; else echo "$1"; fi; }

cluster_up --no-slurm --bricks 2 --brick-fs xfs --brick-size 400m
# DHT puts new files elsewhere when a brick has less than 10 % left; here that is not the point.
gl volume set dist cluster.min-free-disk 0 >/dev/null

n_slides=10
# Decoding and encoding all of it takes long enough to be met in the middle.
slow=(--levels dyadic --tiles transcode --codec jpeg --quality 80 --threads 1 --workers 2)

# --- a corpus and its runs -------------------------------------------------------------------

# new_corpus NAME SLIDES OUT-MOUNT CATALOG-MOUNT: $catalog, $pyramids, $root; of earlier ones only
# the catalogs stay
new_corpus() {
    root=$2 pyramids=$3/$1-pyramids catalog=$4/$1.smc log=$SCRATCH/$1.log
    rm -rf "$MNT_DIST"/*-pyramids "$MNT_REP"/*-pyramids
    mkdir "$pyramids"
    run slidemill catalog create "$root" --output "$catalog"
    expect_code 0
}

# ingest OPTIONS...: to its end; what it said is in $log.
ingest() {
    timeout 200 "$BIN/slidemill" ingest --catalog "$catalog" --out "$pyramids" "${slow[@]}" "$@" \
        >"$log.out" 2>"$log"
    code=$? err=$(tail -n 15 "$log")
}

# ingest_begins OPTIONS...: in the background; returns when a slide is done
ingest_begins() {
    ingest_at_once "$@"
    wait_for 60 has_logged ' event=done ' || fail "no slide is done: $(tail -n 15 "$log")"
}

ingest_at_once() {
    : >"$log"
    timeout 300 "$BIN/slidemill" ingest --catalog "$catalog" --out "$pyramids" "${slow[@]}" "$@" \
        >"$log.out" 2>"$log" &
    job=$!
}

ingest_ends() {
    wait "$job"
    code=$? err=$(tail -n 15 "$log")
}

# A fault after the end proves nothing.
still_runs() { kill -0 "$job" 2>/dev/null || fail "it was over before the fault: $(tail -n 3 "$log")"; }

has_logged() { grep -qE -- "$1" "$log" 2>/dev/null; }

# with_class CLASS: the paths of the slides that failed so, one a line
with_class() { slidemill catalog list "$catalog" --class "$1" --format jsonl | sed -nE 's/.*"path":"([^"]*)".*/\1/p'; }

count_state() { slidemill catalog list "$catalog" --state "$1" --format jsonl | wc -l; }

# digests_of: "digest path" of the outputs the catalog knows, sorted by path
digests_of() { slidemill catalog export "$catalog" --what outputs | sort -k2; }

# whole: nothing under a final name but what the catalog says, and no temporaries
whole() {
    run slidemill catalog merge "$catalog"
    expect_code 0
    digests_of >"$SCRATCH/outputs"
    (cd "$pyramids" && sha256sum --quiet --strict -c "$SCRATCH/outputs") >"$SCRATCH/check" 2>&1 ||
        fail "outputs are not those of the catalog: $(head -n 5 "$SCRATCH/check")"
    local files
    files=$(find "$pyramids" -type f -printf x | wc -c) # names may hold newlines
    [[ $files -eq $(wc -l <"$SCRATCH/outputs") ]] ||
        fail "$files files, $(wc -l <"$SCRATCH/outputs") outputs: $(find "$pyramids" -type f)"
}

# all_as_calm: every slide done, each output the bytes of the calm run
all_as_calm() {
    whole
    cmp -s "$SCRATCH/outputs" "$SCRATCH/calm" ||
        fail "not what a calm run makes: $(diff "$SCRATCH/calm" "$SCRATCH/outputs" | head -n 5)"
    [[ $(count_state "done") -eq $n_slides ]] || fail "$(slidemill catalog status "$catalog")"
}

# back VOLUME-MOUNT: every slide can be read again
back() { wait_for 30 all_seen "$1" || fail "$1 is not back: $(ls "$1" 2>&1)"; }
all_seen() { [[ $(find "$1/slides" -type f -exec head -c1 {} \; 2>/dev/null | wc -c) -ge $n_slides ]]; }

# brick_path FILE: as the brick holds it
brick_path() { echo "$(brick path dist "$(brick of "$1")")/${1#"$MNT_DIST"/}"; }

# flip FILE OFFSET: a byte, on the brick, with the times kept
flip() {
    local path
    path=$(brick_path "$1")
    touch -r "$path" "$SCRATCH/times"
    printf '\x5a\xa5' | dd of="$path" bs=1 seek="$2" conv=notrunc status=none
    touch -r "$SCRATCH/times" "$path"
    echo 3 >/proc/sys/vm/drop_caches
}

make_sources() {
    local i tiles
    tiles=$(source_slides | grep -m1 '\.svs$')
    mkdir -p "$MNT_DIST/slides" "$MNT_REP/slides"
    for ((i = 0; i < n_slides; i++)); do
        mkdir -p "$MNT_DIST/slides/$((i % 3))"
        "$BIN/mosaic" --width $((5000 + 600 * i)) --height 5000 "$tiles" \
            "$MNT_DIST/slides/$((i % 3))/slide-$i.svs" || fail "no slides could be made"
    done
    cp -r "$MNT_DIST/slides" "$MNT_REP/"
}

# --- scenes ----------------------------------------------------------------------------------

scene_calm() {
    claim "a calm run makes the pyramids that all others are compared with"
    new_corpus calm "$MNT_DIST/slides" "$MNT_DIST" "$MNT_REP"
    ingest
    expect_code 0
    whole
    cp "$SCRATCH/outputs" "$SCRATCH/calm"
    [[ $(wc -l <"$SCRATCH/calm") -eq $n_slides ]] || fail "outputs: $(<"$SCRATCH/calm")"
}

# The catalog and its journals lie on the bricks that die, too.
scene_distribute() {
    local round
    for ((round = 0; round < $(choose 1 6); round++)); do
        claim "bricks of a distribute volume that die and come back cost time only (round $round)"
        new_corpus "dist$round" "$MNT_DIST/slides" "$MNT_DIST" "$MNT_DIST"
        ingest_begins --retry-for 90
        still_runs
        for index in $((round % 2)) $(((round + 1) % 2)); do
            brick kill dist "$index"
            sleep 4
            brick start dist
            back "$MNT_DIST"
        done
        ingest_ends
        expect_code 0
        has_logged ' event=retry ' || fail "no slide met the fault: $err"
        all_as_calm
    done
}

scene_replica() {
    claim "a brick of a replica volume that dies costs nothing"
    new_corpus replica "$MNT_REP/slides" "$MNT_REP" "$MNT_REP"
    ingest_begins
    still_runs
    brick kill rep 0
    sleep 3
    ingest_ends
    expect_code 0
    brick start rep
    back "$MNT_REP"
    all_as_calm
}

scene_hung() {
    local hung=1
    claim "a brick that hangs is told with slide and stage, others go on, and at its return all is done"
    new_corpus hung "$MNT_DIST/slides" "$MNT_REP" "$MNT_REP"
    echo 3 >/proc/sys/vm/drop_caches
    ingest_at_once --stall 2 --retry-for 90 --workers 3
    wait_for 30 has_logged ' event=start ' || fail "$(<"$log")"
    brick stop dist "$hung"
    wait_for 20 has_logged 'event=stalled slide=[0-2]/slide-[0-9].svs stage=[a-z]' ||
        fail "no stalled slide is told: $(<"$log")"
    wait_for 40 others_done "dist-$((1 - hung))/data" || fail "others did not go on: $(<"$log")"
    sleep "$(choose 1 30)"
    brick cont dist "$hung"
    ingest_ends
    expect_code 0
    all_as_calm
}

# While one brick hangs, all slides of the other are done.
others_done() {
    [[ $(grep -c "event=done .*brick=[^ ]*$1" "$log") -eq $(find "$CLUSTER_DIR/brick/$1/slides" -name '*.svs' -size +1k | wc -l) ]]
}

scene_full() {
    local full=1 filler free
    claim "a full brick: what should go there fails and says why, the rest is done, nothing half is seen"
    new_corpus full "$MNT_REP/slides" "$MNT_DIST" "$MNT_REP"
    filler=$CLUSTER_DIR/brick/dist-$full/filler
    free=$(df --output=avail -B1 "$CLUSTER_DIR/brick/dist-$full" | tail -n 1)
    fallocate -l $((free - 6000000)) "$filler"
    ingest --retry-for 4
    expect_code 1
    has_logged 'event=failed slide=[0-2]/slide-[0-9].svs class=io message=.*No space left on device' ||
        fail "no slide says so: $err"
    whole
    [[ $(count_state failed) -gt 0 && $(count_state "done") -gt 0 ]] ||
        fail "$(slidemill catalog status "$catalog")"
    [[ $(with_class io | wc -l) -eq $(count_state failed) ]] || fail "other classes than io: $err"
    [[ $(($(count_state failed) + $(count_state "done"))) -eq $n_slides ]] || fail "some are neither"

    claim "with room made, retry and a run finish"
    rm "$filler"
    run slidemill catalog retry "$catalog" --class io
    expect_code 0
    ingest
    expect_code 0
    all_as_calm
}

# mount_again MOUNT VOLUME
mount_again() {
    timeout 30 mount -t glusterfs -o "log-file=$CLUSTER_DIR/log/${1##*/}.log" "$GLUSTER_HOST:/$2" "$1"
    wait_for 20 mountpoint -q "$1" || fail "$1 cannot be mounted"
}

scene_mount() {
    local how
    for how in killed unmounted; do
        claim "a mount that is $how for a while: slides are tried again and all are done"
        new_corpus "mount-$how" "$MNT_DIST/slides" "$MNT_DIST" "$MNT_REP"
        ingest_begins --retry-for 120
        still_runs
        # shellcheck disable=SC2046
        [[ $how == unmounted ]] || kill -KILL $(client_of "$MNT_DIST")
        umount -l "$MNT_DIST"
        sleep "$(choose 5 30)"
        mount_again "$MNT_DIST" dist
        ingest_ends
        expect_code 0
        has_logged ' event=retry ' || fail "no slide met the fault: $err"
        all_as_calm
    done

    claim "the catalog's own mount dies: the run ends, a second one finishes, nothing is lost"
    new_corpus mount-catalog "$MNT_DIST/slides" "$MNT_REP" "$MNT_DIST"
    ingest_begins --retry-for 5
    still_runs
    # shellcheck disable=SC2046
    kill -KILL $(client_of "$MNT_DIST")
    umount -l "$MNT_DIST"
    ingest_ends
    expect_code 74
    mount_again "$MNT_DIST" dist
    ingest
    expect_code 0
    all_as_calm

    claim "an output folder that is a bare mount point gets nothing while it is not mounted"
    new_corpus bare "$MNT_DIST/slides" "$MNT_DIST" "$MNT_REP"
    local there=$pyramids
    pyramids=$SCRATCH/bare
    mkdir "$pyramids"
    mount --bind "$there" "$pyramids"
    run slidemill plan --catalog "$catalog" --shards 2
    expect_code 0
    ingest --shard 0
    expect_code 0
    umount "$pyramids"
    ingest --shard 1
    expect_code 74
    has_logged "is not the folder that the first run, on .* wrote to" || fail "$err"
    [[ -z $(ls -A "$pyramids") ]] || fail "$(ls -A "$pyramids")"
    mount --bind "$there" "$pyramids"
    ingest --shard 1
    expect_code 0
    all_as_calm
    umount "$pyramids"
}

# client_of MOUNT: the process behind it
client_of() { pgrep -f -- "glusterfs .*--volfile-id=/[a-z]* $1\$"; }

scene_flipped() {
    local victim=1/slide-4.svs output=2/slide-5.ome.tiff
    claim "a byte that changed on the brick is found by its digest; the others are done"
    (cd "$MNT_DIST/slides" && find . -name '*.svs' -printf '%P\n' | sort | xargs sha256sum) >"$SCRATCH/sources.sha256"
    flip "$MNT_DIST/slides/$victim" 700000
    new_corpus flipped "$MNT_DIST/slides" "$MNT_DIST" "$MNT_REP"
    run slidemill catalog import "$catalog" "$SCRATCH/sources.sha256"
    expect_code 0
    ingest
    expect_code 1
    has_logged "event=quarantined slide=$victim class=digest message=.*is expected; nothing was published" ||
        fail "it is not named: $err"
    whole
    [[ $(count_state quarantined) -eq 1 && $(count_state "done") -eq $((n_slides - 1)) ]] ||
        fail "$(slidemill catalog status "$catalog")"
    [[ ! -e $pyramids/${victim%.svs}.ome.tiff ]] || fail "a pyramid was made of it"

    claim "put right, retried, it is done"
    cp "$MNT_REP/slides/$victim" "$MNT_DIST/slides/$victim"
    run slidemill catalog retry "$catalog" --state quarantined
    expect_code 0
    ingest
    expect_code 0
    all_as_calm

    claim "a byte of a pyramid that changed on the brick is found by verify, and made anew"
    flip "$pyramids/$output" 300000
    run slidemill catalog verify "$catalog" --what outputs
    expect_code 1
    [[ $(with_class output) == "${output%.ome.tiff}.svs" ]] || fail "named: $(with_class output); $err"
    run slidemill catalog retry "$catalog" --class output
    expect_code 0
    ingest
    expect_code 0
    all_as_calm
}

scene_changed() {
    local victim=0/slide-3.svs
    claim "a slide that was written after the scan is not taken; the others are done"
    new_corpus changed "$MNT_DIST/slides" "$MNT_DIST" "$MNT_REP"
    printf 'more' >>"$MNT_DIST/slides/$victim"
    ingest
    expect_code 1
    has_logged "event=failed slide=$victim class=changed message=.*scan again" || fail "$err"
    whole
    [[ $(count_state "done") -eq $((n_slides - 1)) ]] || fail "$(slidemill catalog status "$catalog")"

    claim "after a scan it is converted"
    run slidemill catalog scan "$catalog"
    expect_code 0
    ingest
    expect_code 0
    whole
    [[ $(count_state "done") -eq $n_slides ]] || fail "$(slidemill catalog status "$catalog")"
    cp "$MNT_REP/slides/$victim" "$MNT_DIST/slides/$victim"
}

scene_scan() {
    local before n_all
    claim "a scan while a brick is down says so and records nothing as gone"
    new_corpus scan "$MNT_DIST/slides" "$MNT_REP" "$MNT_REP"
    before=$(slidemill catalog list "$catalog" --format csv | cut -d, -f1-4)
    brick kill dist 0
    run slidemill catalog scan "$catalog"
    expect_code 74
    expect_err "*dist-0/data*"
    [[ -z $(slidemill catalog list "$catalog" --missing --format jsonl) ]] || fail "missing: $(slidemill catalog list "$catalog" --missing)"
    [[ $(slidemill catalog list "$catalog" --format csv | cut -d, -f1-4) == "$before" ]] || fail "the list changed"
    brick start dist
    back "$MNT_DIST"
    run slidemill catalog scan "$catalog"
    expect_code 0
    [[ $(count_state new) -eq $n_slides ]] || fail "$(slidemill catalog status "$catalog")"

    claim "nor does a scan of a mount point without its mount"
    new_corpus scan-mount "$MNT_DIST" "$MNT_REP" "$MNT_REP"
    n_all=$(slidemill catalog list "$catalog" --format jsonl | wc -l)
    umount -l "$MNT_DIST"
    run slidemill catalog scan "$catalog"
    expect_code 74
    [[ -z $(slidemill catalog list "$catalog" --missing --format jsonl) ]] || fail "missing: $(slidemill catalog list "$catalog" --missing)"
    mount_again "$MNT_DIST" dist
    run slidemill catalog scan "$catalog"
    expect_code 0
    [[ $(count_state new) -eq $n_all ]] || fail "$(slidemill catalog status "$catalog")"
}

# Names that programs fall over, on the mount; no newline survives into a line of the log.
scene_names() {
    local tree=$MNT_DIST/odd name small
    small=$(source_slides | head -n 1)
    claim "odd names are carried through; a link out of the tree is refused; a far too long name fails alone"
    mkdir -p "$tree/ sp ace" "$MNT_DIST/outside"
    cp "$small" "$MNT_DIST/outside/secret.svs"
    for name in '-rf.svs' $'new\nline.svs' 'quote"\back.svs' $'\u00e4\u00f6 \u4e2d.svs' '%s%n.svs' \
        '$'"(date) ;.svs" ' sp ace/*.svs' "$(printf 'x%.0s' {1..236}).svs"; do
        cp "$small" "$tree/$name" || fail "$name cannot be made"
    done
    ln -s ../outside/secret.svs "$tree/out.svs"
    ln -s ../outside "$tree/outdir"
    ln -s /etc "$tree/etc"
    new_corpus names "$tree" "$MNT_DIST" "$MNT_REP"
    [[ $out$err == *"out.svs"* ]] || fail "the link is not told: $out $err"
    slow=(--levels source)
    ingest
    expect_code 0
    whole
    [[ $(count_state "done") -eq 8 ]] || fail "$(slidemill catalog status "$catalog"; cat "$log")"
    [[ -z $(find "$pyramids" -name '*secret*' -o -name 'out*') ]] || fail "$(find "$pyramids")"
    ! grep -vqE '^[0-9]{4}-|^time=' "$log" || fail "a line of the log was broken: $(grep -vE '^time=' "$log")"

    claim "a name that leaves no room for a temporary beside it fails alone, and says why"
    cp "$small" "$tree/$(printf 'y%.0s' {1..251}).svs"
    run slidemill catalog scan "$catalog"
    expect_code 0
    ingest --retry-for 3
    expect_code 1
    has_logged 'event=failed slide=y*\.svs .*message=.*(too long|name)' || fail "$err"
    rm -rf "$tree"
}

make_sources
for scene in calm distribute replica hung full mount flipped changed scan names; do
    [[ -z $only || $scene == calm || $scene == "$only" ]] || continue
    since=$SECONDS
    "scene_$scene"
    echo "$scene: $((SECONDS - since)) s"
done
finish
