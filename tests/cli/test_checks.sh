#!/usr/bin/env bash
# The check scripts of .ci/ find what they are there for: each is shown a small tree with one fault.
source "$(dirname "${BASH_SOURCE[0]}")/../support/shell.sh"

tree=$SCRATCH/tree
fresh() {
    rm -rf "$tree"
    mkdir -p "$tree/common" "$tree/tiler" "$tree/cmake" "$tree/bench" "$tree/tests"
    cp -r "$SOURCE/.ci" "$SOURCE/.clang-format" "$tree/"
    echo '#include "common/a.h"' >"$tree/common/a.c"
    echo '#include <stdint.h>' >"$tree/common/a.h"
    echo 'add_library(c a.c)' >"$tree/common/CMakeLists.txt"
    echo 'add_library(t b.c ring.c)' >"$tree/tiler/CMakeLists.txt"
    echo 'find_package(TIFF REQUIRED)' >"$tree/CMakeLists.txt"
    printf "BUILD_PACKAGES='\nlibtiff-dev  TIFF\nmake  -\n'\n" >"$tree/bootstrap"
}
check() { SLIDEMILL_SOURCE_DIR=$tree run bash "$tree/.ci/check-$1.sh"; }

claim "a clean tree has no fault"
fresh
for name in includes banned packages; do
    check $name
    expect_code 0
    expect_out "check-$name: *no fault"
done

# includes FILE LINE PATTERN: a file with that line is a fault
includes() {
    claim "$1 with $2"
    fresh
    echo "$2" >"$tree/$1"
    check includes
    expect_code 1
    expect_out "$1:1: *$3*"
}
includes common/a.c '#include "tiler/slide.h"' 'may include only from common/'
includes common/a.c '#include "a.h"' 'may include only from common/'
includes common/a.h '#include <jpeglib.h>' 'may be included only by'
includes tiler/ring.c '#include <liburing.h>' 'may be included only by common/ring.c'
includes tiler/b.c '  #  include <openslide.h>' 'may be included only by tiler/slide_openslide.c'
includes tiler/b.c '#include <unheard_of.h>' 'in no row'

claim "a header of ours shows no third-party type"
fresh
echo '#include <tiffio.h>' >"$tree/tiler/tiff_dirs.h"
check includes
expect_code 1

claim "a source file in no list"
fresh
touch "$tree/common/forgotten.c"
check includes
expect_code 1
expect_out "common/forgotten.c: is named in no list*"

# banned LINE REPLACEMENT
banned() {
    claim "banned: $1"
    fresh
    printf '\n%s\n' "$1" >"$tree/common/a.c"
    check banned
    expect_code 1
    expect_out "common/a.c:2: *instead: *$2*"
}
# shellcheck disable=SC1003
{
    banned 'int n = atoi(text);' strtoull
    banned 'p = strtok(text, ",");' strcspn
    banned 'strcpy(a, b);' memcpy
    banned 'strcat(a, b);' snprintf
    banned 'sprintf(a, "%d", n);' snprintf
    banned 'sscanf(a, "%d", &n);' strtoull
    banned 'p = alloca(n);' sm_malloc_array
    banned 'gets(line);' getline
    banned 'p = malloc(n * sizeof(*p));' sm_malloc_array
    banned '    close(fd);' 'after a write'
}

claim "comments, strings, snprintf and checked closes are left alone"
fresh
cat >"$tree/common/a.c" <<'C'
/* atoi(x), and
 * sprintf(y) */
int f(void); // strcpy(a, b)
const char *s = "gets(\" sscanf(";
int g = snprintf(b, n, "x"); int h = sm_malloc_array(n * 2, 3); void *v = malloc(sizeof(*v));
    (void)close(fd);
    if (close(fd) != 0) return 1;
C
check banned
expect_code 0

claim "a library without a package"
fresh
echo 'pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd>=1.4)' >>"$tree/CMakeLists.txt"
check packages
expect_code 1
expect_out "*libzstd*"

claim "a package without a library"
fresh
echo '# find_package(TIFF)' >"$tree/CMakeLists.txt"
echo 'find_package(ZLIB)' >>"$tree/CMakeLists.txt"
check packages
expect_code 1
expect_out "*ZLIB*libtiff-dev is said to bring TIFF*"

claim "a file that clang-format would change"
fresh
printf 'int  a;\n' >"$tree/common/a.c"
check format
[[ $code -eq 77 ]] || { expect_code 1 && expect_out "common/a.c: *"; }

claim "a script that ShellCheck dislikes"
fresh
# shellcheck disable=SC2016
printf '#!/bin/bash\ncd $1\n' >"$tree/tests/x.sh"
mkdir -p "$tree/slurm-scripts"
check shell
[[ $code -eq 77 ]] || expect_code 1

finish
