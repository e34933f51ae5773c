#!/usr/bin/env bash
# mosaic and codec-limit: the benchmark's input is what it says, and the floor counts what it says.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

for tool in mosaic codec-limit; do
    [[ -x $BIN/$tool ]] || skip "$tool is not built"
done
command -v tiffinfo >/dev/null || skip "tiffinfo is not installed"
PYTHON=${SLIDEMILL_PYTHON:-}
[[ -n $PYTHON ]] || skip "Python is not installed"
cd "$SCRATCH" || exit 1

# tiles.py FILE: per tiled directory "width height cols rows", then "offset digest" tile by tile.
cat >tiles.py <<'PY'
import hashlib, struct, sys
data = open(sys.argv[1], "rb").read()
big = data[2] == 43
def number(at, n): return int.from_bytes(data[at:at + n], "little")
size = {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}
ifd = number(8, 8) if big else number(4, 4)
while ifd:
    count, entry, step, room = (number(ifd, 8), ifd + 8, 20, 8) if big else (number(ifd, 2), ifd + 2, 12, 4)
    tags = {}
    for at in range(entry, entry + count * step, step):
        tag, kind, n = number(at, 2), number(at + 2, 2), number(at + 4, room)
        value = at + 4 + room
        if kind in (3, 4, 16):
            place = value if n * size[kind] <= room else number(value, room)
            tags[tag] = [number(place + i * size[kind], size[kind]) for i in range(n)]
    ifd = number(entry + count * step, room)
    if 324 in tags:
        w, h, tw, th = (tags[t][0] for t in (256, 257, 322, 323))
        print(w, h, -(-w // tw), -(-h // th))
        for offset, n in zip(tags[324], tags[325]):
            print(offset, hashlib.sha256(data[offset:offset + n]).hexdigest())
PY
tiles() { "$PYTHON" tiles.py "$1"; }
# digests FILE: of level 0, in grid order
digests() { tiles "$1" | awk 'NF == 4 { n++; next } n == 1 { print $2 }'; }

claim "a synthetic slide needs no input and is always the same"
run "$BIN/mosaic" --synthetic small.svs
expect_code 0
run "$BIN/mosaic" --synthetic again.svs
expect_code 0
cmp -s small.svs again.svs || fail "two runs differ"
run tiffinfo small.svs
expect_code 0
expect_out "*Image Width: 2220 Image Length: 2967*JPEG Tables: (289 bytes)*"
expect_err ""
[[ $(digests small.svs | sort -u | wc -l) -ge 120 ]] || fail "its 130 tiles are not all different"

claim "level 0 is made of the source's inner tiles, bit for bit"
run "$BIN/mosaic" --width 5000 --height 4100 --levels 1,4,16 small.svs rows.svs
expect_code 0
run tiffinfo rows.svs
expect_err ""
# 2220 x 2967 px in tiles of 240: column 10 of 10 and row 13 of 13 are cut off by the edge
digests small.svs | awk '(NR - 1) % 10 < 9 && NR <= 120' | sort -u >inner
digests rows.svs | sort -u >used
[[ -z $(comm -13 inner used) ]] || fail "a tile is not one of the source's inner tiles"
[[ $(wc -l <used) -ge 80 ]] || fail "only $(wc -l <used) of 108 tiles are used"
[[ $(digests rows.svs | wc -l) -eq $((21 * 18)) ]] || fail "level 0 has not 21 x 18 tiles"
digests rows.svs | awk '(NR - 1) % 21 && $1 == last { n++ } { last = $1 } END { exit n > 0 }' ||
    fail "a tile stands beside itself"

claim "reduced levels have the sizes that were asked for"
[[ $(tiles rows.svs | awk 'NF == 4 { print $1 "x" $2 }' | xargs) == "5000x4100 1250x1025 312x256" ]] ||
    fail "levels: $(tiles rows.svs | awk 'NF == 4')"

claim "--order changes where the tiles lie and nothing else"
for order in columns shuffled; do
    run "$BIN/mosaic" --width 5000 --height 4100 --levels 1,4,16 --order $order small.svs $order.svs
    expect_code 0
    cmp -s <(tiles rows.svs | awk '{ print $NF }') <(tiles $order.svs | awk '{ print $NF }') ||
        fail "$order: another tile at some place"
done
# offsets FILE: of level 0 in grid order
offsets() { tiles "$1" | awk 'NF == 4 { n++; next } n == 1 { print $1 }'; }
offsets rows.svs | sort -nc 2>/dev/null || fail "rows: not row by row"
offsets columns.svs | awk '{ print (NR - 1) % 21, int((NR - 1) / 21), $1 }' | sort -n -k1,1 -k2,2 |
    awk '{ print $3 }' | sort -nc 2>/dev/null || fail "columns: not column by column"
near=$(offsets shuffled.svs | awk 'NR > 1 && $1 > last && $1 - last < 60000 { n++ } { last = $1 } END { print n + 0 }')
[[ $near -lt 40 ]] || fail "shuffled: $near of 378 tiles follow their neighbour"

claim "--bigtiff decides the header"
for choice in yes:43 no:42 auto:42; do
    run "$BIN/mosaic" --width 500 --height 500 --bigtiff ${choice%:*} small.svs big.svs
    [[ $(od -An -tu1 -j2 -N1 big.svs | tr -d ' ') == "${choice#*:}" ]] || fail "${choice%:*}"
done

claim "OpenSlide sees an Aperio slide with its levels"
if command -v openslide-show-properties >/dev/null; then
    run openslide-show-properties shuffled.svs
    expect_code 0
    expect_out "*aperio.AppMag: '20'*level-count: '3'*level\[1\].downsample: '4*level\[2\].downsample: '16*"
    expect_out "*openslide.mpp-x: '0.499'*openslide.vendor: 'aperio'*"
else
    echo "note: openslide-show-properties is not installed, not asked"
fi

claim "a reduced level shows what level 0 shows"
if command -v vips >/dev/null; then
    # error X Y: mean difference of the level's pixels at 0,0 and of level 0's mean at X,Y
    error() {
        vips crop mean.v a.v "$1" "$2" 280 230 && vips crop level.v b.v 0 0 280 230 &&
            vips subtract a.v b.v difference.v && vips abs difference.v absolute.v &&
            vips avg absolute.v
    }
    for level in 1:4 2:16; do
        run vips openslideload shuffled.svs full.v --rgb
        expect_code 0
        run vips openslideload shuffled.svs level.v --rgb --level "${level%:*}"
        expect_code 0
        run vips shrink full.v mean.v "${level#*:}" "${level#*:}"
        right=$(error 0 0)
        wrong=$(error 15 15)
        awk -v right="$right" -v wrong="$wrong" 'BEGIN { exit !(right > 0 && right < 7 && right < wrong / 2) }' ||
            fail "level ${level%:*}: mean error $right, and $wrong beside the place"
    done
else
    echo "note: vips is not installed, pixels not compared"
fi

claim "the codec limit encodes every tile of every level"
# 256 px tiles: 20x17 + 10x9 + 5x5 + 3x2 + 2x1 + 1; of 240 px without level 0: 11x9 + 6x5 + 3x3 + 2x2 + 1
for row in transcode:256:464 zstd:256:464 copy-pyramid:240:143 decode:256:0 decode-half:256:0; do
    IFS=: read -r work px want <<<"$row"
    run "$BIN/codec-limit" --threads 3 --work "$work" --tile-px "$px" rows.svs
    expect_code 0
    expect_out "*\"work\": \"$work\", \"threads\": 3,*\"tiles_decoded\": 378, \"tiles_encoded\": $want,*"
done
run "$BIN/codec-limit" --work retile --tile-px 512 rows.svs
expect_out "*\"tiles_encoded\": $((378 + 5 * 5 + 3 * 3 + 2 * 1 + 1)),*" # 2500 px is 5 tiles of 512

claim "what cannot be done is one line and the right exit code"
while IFS='|' read -r want command message; do
    # shellcheck disable=SC2086 # words on purpose
    run "$BIN"/$command
    expect_code "$want"
    expect_err "*$message*"
    [[ $want -eq 2 || $(grep -c "^${command%% *}: " <<<"$err") -eq 1 ]] || fail "not one line: $err"
done <<'END'
2|mosaic --levels 1,3 small.svs x.svs|3 does not divide
2|mosaic --levels 4,1 small.svs x.svs|is not a list like 1,4,16
2|mosaic --levels 1, small.svs x.svs|is not a list like 1,4,16
2|mosaic small.svs|SLIDE and OUT are needed
2|mosaic --synthetic small.svs x.svs|takes OUT only
2|mosaic --synthetic --levels 1,4 x.svs|leave --levels out
65|mosaic tiles.py x.svs|libtiff cannot open it
74|mosaic small.svs none/x.svs|none/x.svs.part
2|codec-limit --tile-px 100 small.svs|not a multiple of 16
65|codec-limit tiles.py|libtiff cannot open it
END
[[ ! -e x.svs ]] || fail "a failed run left its output"

claim "a garbled source tile stops the mosaic and leaves nothing"
cp small.svs bad.svs
offset=$(offsets small.svs | sed -n 12p)
printf '\xff\xd9\xff\xd9\xff\xd9\xff\xd9' | dd of=bad.svs bs=1 seek="$offset" conv=notrunc 2>/dev/null
run "$BIN/mosaic" --width 500 --height 500 bad.svs x.svs
expect_code 65
expect_err "mosaic: *JPEG*"
run "$BIN/codec-limit" bad.svs
expect_code 65
expect_err "codec-limit: *JPEG*"

claim "no temporary file stays"
shopt -s nullglob
left=(*.part)
[[ ${#left[@]} -eq 0 ]] || fail "${left[*]}"
finish
