#!/usr/bin/env bash
# slidemill info: what it prints for people and for programs, and how it fails.
# ctest: labels=cli timeout=120
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

slides=${SLIDEMILL_SLIDES:-$SOURCE/../shared/slides}
info=$BIN/slidemill-info

claim "a file that is not there is exit 2 and one line"
run "$info" "$SCRATCH/none.svs"
expect_code 2
expect_out ""
expect_err "slidemill info: $SCRATCH/none.svs: *"
[[ $err != *$'\n'* ]] || fail "more than one line: $err"

claim "FILE must be given"
run "$info"
expect_code 2
expect_err "*FILE is missing*"

claim "what is no slide is exit 65"
echo "no slide" >"$SCRATCH/text.svs"
run "$info" "$SCRATCH/text.svs"
expect_code 65
expect_out ""
expect_err "slidemill info: $SCRATCH/text.svs: not a slide slidemill reads (*)"

claim "a failure is JSON too, on one line, whatever the name holds"
odd=$SCRATCH/$'a"b\n\033[31m\xff.svs'
echo "no slide" >"$odd"
run "$info" --json "$odd"
expect_code 65
expect_out '{"file":"*a\\"b\\n\\u001b[[]31m*.svs","ok":false,"status":"format","message":"*not a slide*"}'
[[ $err != *$'\033'* ]] || fail "an escape in '$err'"
if [[ -n ${SLIDEMILL_PYTHON:-} ]]; then
    "$SLIDEMILL_PYTHON" -c 'import json, sys; json.loads(sys.stdin.buffer.read().decode("utf-8"))' \
        <<<"$out" || fail "not JSON: $out"
fi

claim "a full disk is told"
if [[ -w /dev/full ]]; then
    "$info" --json "$SCRATCH/text.svs" >/dev/full 2>"$SCRATCH/.err"
    code=$? err=$(<"$SCRATCH/.err")
    expect_code 74
    expect_err "*the output cannot be written*"
fi

[[ -d $slides ]] || {
    [[ $failures -eq 0 ]] || exit 1
    skip "no slides"
}
cmu=$slides/aperio/CMU-1-Small-Region.svs

claim "a slide is described for a person"
run "$info" "$cmu"
expect_code 0
expect_err ""
expect_out "$cmu
  vendor      aperio
  reader      aperio
  file        1.94 MB
  size        2220 x 2967 pixels
  scale       0.499 x 0.499 um per pixel
  objective   20x
  ICC profile none
  background  #ffffff
  level *
  0 *2220x2967 *1 *240x240 *10x13 *0 *1.28 MB  JPEG RGB 4:4:4 Q30
  associated  thumbnail, 574x768, jpeg
  associated  label, 387x463, lzw
  associated  macro, 1280x431, jpeg
  note        level 0: tag 530 says 4:2:0, the codestream 4:4:4"

claim "and for a program"
run "$info" --json "$cmu"
expect_code 0
[[ $(wc -l <"$SCRATCH/.out") -eq 1 ]] || fail "more than one line"
expect_out "{\"file\":\"$cmu\",\"ok\":true,\"size_bytes\":1938955,\"reader\":\"aperio\",\
\"vendor\":\"aperio\",\"width_px\":2220,\"height_px\":2967,\"mpp_x\":0.499,\"mpp_y\":0.499,\
\"objective\":20,\"icc_bytes\":0,\"background\":\"ffffff\",\"bigtiff\":false,\
\"big_endian\":false,\"levels\":[[]{\"width_px\":2220,\"height_px\":2967,\"downsample\":1,\
\"tiled\":true,\"tile_width_px\":240,\"tile_height_px\":240,\"columns\":10,\"rows\":13,\
\"codec\":\"jpeg\",\"compression\":7,\"photometric\":2,\"predictor\":1,\"samples\":3,\
\"planar\":false,\"jpeg\":{\"colour\":\"rgb\",\"subsampling\":\"4:4:4\",\"quality\":30,\
\"plain\":true},\"tiles\":130,\"missing\":0,\"bytes\":*}],\"associated\":[[]{\"name\":\
\"thumbnail\",\"width_px\":574,\"height_px\":768,\"codec\":\"jpeg\"},*],\"notes\":[[]\"level 0: \
tag 530 says 4:2:0, the codestream 4:4:4\"]}"

claim "a photometric tag that lies is noted"
run "$info" "$slides/ome-tiff/OS-1-detail.ome.tif"
expect_code 0
expect_out "*JPEG YCbCr 4:2:0 Q75*the photometric tag says RGB, the codestream YCbCr"

claim "unknown is null, and rendered levels have no bytes"
run "$info" --json "$slides/derived/CMU-1-Small-Region.webp.tiff"
expect_code 0
expect_out '*"mpp_x":null,"mpp_y":null,"objective":null,*"codec":"rendered",*"jpeg":null,*"bytes":null*'

claim "several files: all are shown, the first failure is the exit code"
run "$info" "$cmu" "$SCRATCH/text.svs" "$SCRATCH/none.svs" "$cmu"
expect_code 65
expect_err "*text.svs: *none.svs: *"
[[ $(grep -c '^  vendor      aperio$' <<<"$out") -eq 2 ]] || fail "not both slides in '$out'"

claim "a truncated slide says where"
head -c 1000000 "$cmu" >"$SCRATCH/cut.svs"
run "$info" "$SCRATCH/cut.svs"
expect_code 65
expect_err "slidemill info: $SCRATCH/cut.svs: TIFF directory 0 at byte 1275950 cannot be read: *"

finish
