#!/usr/bin/env bash
# What slidemill model takes and says.
# ctest: labels=cli timeout=60
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

small=(--slides 500 --bytes 500000000000 --shards 8 --nodes 2 --ranks-per-node 4)

claim "the text says time, limits, use and idle ranks"
run "$BIN/slidemill-model" "${small[@]}" --fail node:0@300,brick:1@200
expect_code 0
expect_out "500 slides, 500 GB: *days*limited by*server link*in use*cpu*ranks idle*lost work*"

claim "what to buy names every part"
run "$BIN/slidemill-model" "${small[@]}" --buy
expect_code 0
expect_out "*what to buy next*+1 *"
[[ $(grep -c '^  +1 ' <<<"$out") -eq 6 ]] || fail "not six: $out"

claim "a calibration counts, the command line counts more"
printf '{"convert_mb_s": 1, "brick_curve": [[1, 100], [8, 500]], "_of": "nothing"}' >"$SCRATCH/c.json"
run "$BIN/slidemill-model" "${small[@]}" --calibrate "$SCRATCH/c.json" --json
expect_out '*"convert_mb_s":1,*'
run "$BIN/slidemill-model" "${small[@]}" --calibrate "$SCRATCH/c.json" --convert-mb-s 2.5 --json
expect_out '*"convert_mb_s":2.5,*'

claim "an unknown key, a broken file, none"
printf '{"convert_mb": 1}' >"$SCRATCH/c.json"
run "$BIN/slidemill-model" "${small[@]}" --calibrate "$SCRATCH/c.json"
expect_code 65
expect_err "*'convert_mb'*"
printf '{"convert_mb_s": ' >"$SCRATCH/c.json"
run "$BIN/slidemill-model" "${small[@]}" --calibrate "$SCRATCH/c.json"
expect_code 65
run "$BIN/slidemill-model" "${small[@]}" --calibrate "$SCRATCH/none.json"
expect_code 74

claim "wrong numbers and lists"
for words in "--convert-mb-s fast" "--out-ratio -1" "--convert-mb-s 0" "--slow-brick 8:0.5" \
    "--slow-brick 1" "--fail disk:0@1" "--fail node:2@1" "--brick-curve 4:1,2:1" \
    "--mpx-s 100 --convert-mb-s 3"; do
    # shellcheck disable=SC2086 # words on purpose
    run "$BIN/slidemill-model" "${small[@]}" $words
    expect_code 2
    expect_out ""
done

claim "a figure is drawn"
run "$BIN/slidemill-model" "${small[@]}" --svg "$SCRATCH/m.svg"
expect_code 0
[[ $(head -c 4 "$SCRATCH/m.svg") == "<svg" && $(tail -n 1 "$SCRATCH/m.svg") == "</svg>" ]] ||
    fail "no figure: $(head -c 200 "$SCRATCH/m.svg")"
run "$BIN/slidemill-model" "${small[@]}" --svg "$SCRATCH/none/m.svg"
expect_code 74
finish
