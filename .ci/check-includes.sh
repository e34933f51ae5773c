#!/usr/bin/env bash
# Dependencies run one way, common <- tiler <- ingest; includes are written from the root; a
# third-party header stands only in the files that wrap its library (of our own headers only in
# jpeg_error.h, which just those files include). Also: every source file is named in a CMake list,
# since those lists are written by hand.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# header (extended regular expression) -> files that may include it (glob patterns)
RULES='
liburing\.h|liburing/.*          common/ring.c
openssl/.*                       common/digest.c
xxhash\.h                        common/digest.c
sqlite3\.h                       common/catalog*.c
openslide(-features)?\.h         tiler/slide_openslide.c tiler/versions.c
jpeglib\.h|jerror\.h|jconfig\.h  tiler/*_jpeg.c tiler/retile.c tiler/jpeg_error.h tiler/versions.c bench/*.c
setjmp\.h                        tiler/*_jpeg.c tiler/retile.c tiler/jpeg_error.h bench/*.c
tiffio\.h|tiff\.h|tiffvers\.h    tiler/tiff_dirs.c tiler/decode_tiff.c tiler/encode_lzw.c tiler/verify.c tiler/versions.c bench/*.c
openjpeg.*                       tiler/decode_jp2k.c
zstd\.h|zstd_errors\.h           tiler/decode_tiff.c tiler/encode_zstd.c tiler/versions.c bench/*.c
libdeflate\.h                    tiler/encode_deflate.c
expat\.h                         tiler/slide_ome.c
cjson/.*|cJSON\.h                tiler/report.c tiler/cmd_*.c ingest/job.c ingest/journal*.c ingest/cmd_*.c ingest/catalog_*.c ingest/run_log.c bench/report_results.c bench/report_lines.[ch] bench/model_setup.c bench/model_report.c bench/bricks_json.c bench/compare.c bench/ingest_*.c bench/peers_*.c bench/result.[ch]
mpi\.h                           ingest/rank.c
'
# The C library, POSIX and Linux.
SYSTEM='(assert|complex|ctype|dirent|endian|errno|fcntl|fenv|float|fnmatch|ftw|getopt|glob|immintrin|inttypes|iso646|langinfo|libgen|limits|locale|malloc|math|poll|pthread|pwd|sched|semaphore|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|termios|threads|time|uchar|unistd|wchar|wctype)\.h|(sys|linux|arpa|netinet)/[a-z_]+\.h'

lower_layers() { # the folders a file of this folder may include from
    case $1 in
    common/*) echo 'common' ;;
    tiler/*) echo 'common|tiler' ;;
    ingest/*) echo 'common|tiler|ingest' ;;
    bench/*) echo 'common|tiler|ingest|bench' ;;
    esac
}

check_third_party() { # FILE LINE HEADER
    local rule pattern
    while read -r rule files; do
        [[ -n $rule && $3 =~ ^($rule)$ ]] || continue
        for pattern in $files; do
            # shellcheck disable=SC2053 # a glob on purpose
            [[ $1 == $pattern ]] && return
        done
        fault "$1:$2" "<$3> may be included only by $files"
        return
    done <<<"$RULES"
    [[ $3 =~ ^($SYSTEM)$ ]] ||
        fault "$1:$2" "<$3> is in no row of .ci/check-includes.sh: say there who may include it"
}

set -f # the patterns of RULES are matched, never expanded
n=0
while IFS= read -r file; do
    n=$((n + 1))
    allowed=$(lower_layers "$file")
    while IFS=: read -r line text; do
        if [[ $text =~ \#[[:space:]]*include[[:space:]]*\"([^\"]+)\" ]]; then
            header=${BASH_REMATCH[1]}
            [[ $header =~ ^($allowed)/ ]] ||
                fault "$file:$line" "\"$header\": $file may include only from ${allowed//|/, }/ and writes the folder"
        elif [[ $text =~ \#[[:space:]]*include[[:space:]]*\<([^>]+)\> ]]; then
            check_third_party "$file" "$line" "${BASH_REMATCH[1]}"
        fi
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file")
    if [[ $file == *.c ]] && ! grep -qE "(^|[[:space:]/(])${file##*/}([[:space:])]|$)" "${file%/*}/CMakeLists.txt"; then
        fault "$file" "is named in no list of ${file%/*}/CMakeLists.txt"
    fi
done < <(c_files common tiler ingest bench)
finish check-includes "$n" files
