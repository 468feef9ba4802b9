# SPDX-License-Identifier: Apache-2.0
# How many lines of C have something in them besides blanks and comments. Called by sizes.sh.
{
    rest = $0
    kept = ""
    while (rest != "") {
        if (inside) { # a comment that began on an earlier line
            end = index(rest, "*/")
            if (!end)
                break
            rest = substr(rest, end + 2)
            inside = 0
        } else if (match(rest, /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\/\*|\/\//)) {
            token = substr(rest, RSTART, RLENGTH)
            kept = kept substr(rest, 1, RSTART - 1)
            rest = substr(rest, RSTART + RLENGTH)
            if (token == "//")
                break
            if (token == "/*")
                inside = 1
            else
                kept = kept token
        } else {
            kept = kept rest
            rest = ""
        }
    }
    n += kept ~ /[^ \t]/
}
END { print n + 0 }
