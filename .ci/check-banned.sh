#!/usr/bin/env bash
# Calls that have a better replacement, which is printed. Comments and strings do not count.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# regular expression (extended), then what to write instead
BANNED='
\b(atoi|atol|atoll|atof)[[:space:]]*\(	strtoull with its end and errno looked at, or an option row (common/opts.h)
\bstrtok(_r)?[[:space:]]*\(	strcspn/strspn or strchr
\b(strcpy|strncpy|stpcpy)[[:space:]]*\(	memcpy of a known length, or snprintf
\b(strcat|strncat)[[:space:]]*\(	sm_buf_printf or snprintf
\bv?sprintf[[:space:]]*\(	snprintf, its result compared with the room
\bv?f?scanf[[:space:]]*\(|\bv?sscanf[[:space:]]*\(	strtoull/strtod with the end pointer looked at
\balloca[[:space:]]*\(	a fixed array, or sm_malloc_array and free
\bgets[[:space:]]*\(	getline or fgets
\b(malloc|realloc)[[:space:]]*\([^;]*[^*( ][[:space:]]*\*[[:space:]]*[^)]	sm_malloc_array or reallocarray: they check the product
^[[:space:]]*close[[:space:]]*\(	look at the result after a write; (void)close(fd) if it was only read
'

# FILE:LINE:TEXT of every line, without comments and the contents of strings.
bare() {
    awk '
    FNR == 1 { block = 0 }
    {
        out = ""; n = length($0); quote = ""
        for (i = 1; i <= n; i++) {
            c = substr($0, i, 1); two = substr($0, i, 2)
            if (block) { if (two == "*/") { block = 0; i++ } }
            else if (quote != "") {
                if (c == "\\") i++
                else if (c == quote) { quote = ""; out = out c }
            }
            else if (two == "/*") { block = 1; i++ }
            else if (two == "//") break
            else { if (c == "\"" || c == "\047") quote = c; out = out c }
        }
        print FILENAME ":" FNR ":" out
    }' "$@"
}

mapfile -t files < <(c_files common tiler ingest bench tests)
text=$(bare "${files[@]}")
while IFS=$'\t' read -r pattern instead; do
    [[ -n $pattern ]] || continue
    # ^ is the start of the code, after FILE:LINE:
    while IFS=: read -r file line what; do
        [[ -n $line ]] || continue
        # a test chooses its own sizes, and what it closes is no product of ours
        [[ $file == tests/* && $pattern =~ close|malloc ]] && continue
        fault "$file:$line" "${what#"${what%%[![:space:]]*}"}"
        printf '    instead: %s\n' "$instead"
    done < <(grep -E "${pattern/#^/^[^:]*:[0-9]+:}" <<<"$text")
done <<<"$BANNED"
finish check-banned "${#files[@]}" files
