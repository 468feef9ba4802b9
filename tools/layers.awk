# SPDX-License-Identifier: Apache-2.0
# Who may include whom (docs/design.md, "Folders"), as a table. Run by tools/lint.sh over all C
# files; status 1 when a rule is broken.
BEGIN {
    # folder -> folders it may include from
    allow["base"] = "base"
    allow["abi"] = "abi"
    allow["ctl"] = "base"
    allow["guest"] = "guest abi"
    allow["snapshot"] = "snapshot base"
    allow["hypervisor"] = "hypervisor base snapshot abi"
    allow["ctl"] = "base" # what daemon and VMM say to each other
    allow["api"] = "api client base snapshot abi ctl"
    allow["client"] = "client base" # what of api/ the command line tool uses, too
    allow["tools"] = "tools client base snapshot abi trace"
    allow["tests"] = "*"
    # third-party header -> the only files that may use it
    only["linux/kvm.h"] = "^hypervisor/"
    only["libfdt.h"] = "^hypervisor/"
    only["liburing.h"] = "^(hypervisor|snapshot)/"
    only["sqlite3.h"] = "^api/store_"
    only["llhttp.h"] = "^api/(http1|edge)"
    only["mbedtls/"] = "^(api/|tools/cli/tls_client)"
    only["zlib.h"] = "^(api/zip|tools/cli/zip_write)"
}
function layer(path) {
    if (path ~ /^hypervisor\/base\//) return "base"
    if (path ~ /^hypervisor\/(ctl|nursery)\.h$/) return "ctl"
    if (path ~ /^hypervisor\/debug\/trace_format\.h$/) return "trace"
    if (path ~ /^guest\/abi\//) return "abi"
    if (path ~ /^api\/(arn|conn|digest|http|http1|mbed|sigv4|sigv4_sign|urlenc|uuid|ws)\.h$/) return "client"
    sub(/\/.*/, "", path)
    return path
}
function normal(path,    n, i, part, out, depth) {
    n = split(path, part, "/")
    depth = 0
    for (i = 1; i <= n; i++) {
        if (part[i] == "." || part[i] == "") continue
        if (part[i] == "..") { if (depth > 0) depth--; continue }
        out[++depth] = part[i]
    }
    path = out[1]
    for (i = 2; i <= depth; i++) path = path "/" out[i]
    return path
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    inc = $0
    sub(/^[^"]*"/, "", inc); sub(/".*/, "", inc)
    dir = FILENAME; sub(/[^\/]*$/, "", dir)
    target = normal(dir inc)
    from = layer(FILENAME)
    to = layer(target)
    if ((to == "ctl" || to == "trace") && from == "hypervisor") next
    if (from == "tests" || to == from) next
    if (index(" " allow[from] " ", " " to " ") == 0) {
        printf "lint: %s:%d: %s may not include %s\n", FILENAME, FNR, from, target
        broken = 1
    }
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    inc = $0
    sub(/^[^<]*</, "", inc); sub(/>.*/, "", inc)
    for (lib in only)
        if (index(inc, lib) == 1 && FILENAME !~ only[lib] && FILENAME !~ /^tests\//) {
            printf "lint: %s:%d: <%s> is used outside %s\n", FILENAME, FNR, inc, only[lib]
            broken = 1
        }
}
END { exit broken }
