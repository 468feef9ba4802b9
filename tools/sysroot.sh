#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/sysroot: Debian trixie's arm64 glibc and libraries that the daemon links in.
# Usage: tools/sysroot.sh [native]     (quiet, and done at once, if the cached copy is good)
#
#   bin/aarch64-glibc-gcc   the cross gcc, told to use only this root; link with -static(-pie)
#   usr/include, usr/lib    the unpacked -dev packages
#   packages, licences/     what is in it
#
# `native` makes build/sysroot-native: the same libraries for the build machine itself, for unit
# tests and fuzzers under sanitizers: -isystem <it>/include -L<it>/lib with the machine's own
# compiler and libc. Only the libraries and the Linux API headers come from trixie there.
#
# Traps this takes care of:
# - The cross gcc searches the glibc of its own release (/usr/aarch64-linux-gnu) even with
#   --sysroot: the wrapper drops its include list and puts the sysroot's directories first,
#   so that crt1.o, headers and libc.a are of one glibc.
# - Debian's links and linker scripts hold absolute paths: made relative, or bare names.
# - Shared libraries are left out, so a forgotten -static is an error and not a surprise.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cache.sh
. tools/apt-private.sh

TRIPLET=aarch64-linux-gnu
CROSS=$TRIPLET-
GCC_INCLUDE=$(${CROSS}gcc -print-file-name=include 2>/dev/null || true)
LIBRARIES="linux-libc-dev libmbedtls-dev libsqlite3-dev libjansson-dev libllhttp-dev
    libnghttp2-dev zlib1g-dev libzstd-dev libseccomp-dev libcap-dev liburing-dev libfdt-dev"

write_wrapper() {
    mkdir -p "$1"
    cat >"$1/aarch64-glibc-gcc" <<END
#!/bin/sh
root=\${0%/*}/..
exec ${CROSS}gcc --sysroot="\$root" -nostdinc -isystem "$GCC_INCLUDE" \\
    -isystem "\$root/usr/include/$TRIPLET" -isystem "\$root/usr/include" \\
    -B"\$root/usr/lib/$TRIPLET/" -L"\$root/usr/lib/$TRIPLET" "\$@"
END
    chmod +x "$1"/*
}

# Links with an absolute target get one relative to the root; GROUP scripts get bare names.
make_relocatable() {
    local root=$1 libs=$1/usr/lib/$TRIPLET link target file
    find "$root" -type l -lname '/*' | while read -r link; do
        target=$root$(readlink "$link")
        ln -sfn "$(realpath -m --relative-to="${link%/*}" "$target")" "$link"
    done
    for file in "$libs"/*.a; do
        if head -c 4096 "$file" | grep -a '^GROUP\|^INPUT' >/dev/null; then
            sed -i -E 's|(/usr)?/lib/[^ )]*/([^ /)]+\.a)|\2|g' "$file"
        fi
    done
}

# The publish condition: one program that calls into every library.
# Arguments: scratch directory, then the compiler with its flags.
check_root() {
    local work=$1
    shift
    cat >"$work/check.c" <<'END'
#include <jansson.h>
#include <libfdt.h>
#include <liburing.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <llhttp.h>
#include <math.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <nghttp2/nghttp2.h>
#include <psa/crypto.h>
#include <seccomp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <zlib.h>
#include <zstd.h>

int main(int argc, char **argv)
{
    char out[64], fdt[256];
    uLongf out_len = sizeof(out);
    mbedtls_ssl_config conf;
    sqlite3 *db = NULL;
    llhttp_t http;
    llhttp_settings_t settings;
    struct io_uring ring;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    json_t *json = json_loads("{\"a\":[1,2]}", 0, NULL);
    cap_t caps = cap_get_proc();
    mbedtls_ssl_config_init(&conf);
    int bad = psa_crypto_init() != PSA_SUCCESS;
    bad += mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_SERVER,
                                       MBEDTLS_SSL_TRANSPORT_STREAM,
                                       MBEDTLS_SSL_PRESET_DEFAULT) != 0;
    bad += sqlite3_open(":memory:", &db) != SQLITE_OK;
    bad += sqlite3_exec(db, "create table t(a); insert into t values(json('[1]'));", 0, 0, 0);
    llhttp_settings_init(&settings);
    llhttp_init(&http, HTTP_REQUEST, &settings);
    bad += llhttp_execute(&http, "GET / HTTP/1.1\r\n\r\n", 18) != HPE_OK;
    bad += compress((Bytef *)out, &out_len, (const Bytef *)"dormouse", 8) != Z_OK;
    bad += ZSTD_isError(ZSTD_compress(out, sizeof(out), "dormouse", 8, 3)) != 0;
    bad += fdt_create_empty_tree(fdt, sizeof(fdt)) != 0;
    bad += !filter + !json + !caps;
    printf("mbedtls %s sqlite %s jansson %s llhttp %d.%d nghttp2 %s zlib %s zstd %s seccomp %u "
           "uring %d sqrt %.1f bad %d\n",
           MBEDTLS_VERSION_STRING, sqlite3_libversion(), jansson_version_str(),
           LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR, nghttp2_version(0)->version_str,
           zlibVersion(), ZSTD_versionString(), seccomp_version()->minor,
           io_uring_queue_init(4, &ring, 0), sqrt((double)argc), bad);
    sqlite3_close(db);
    json_decref(json);
    cap_free(caps);
    seccomp_release(filter);
    mbedtls_ssl_config_free(&conf);
    mbedtls_psa_crypto_free();
    return argv[0] ? bad : 1;
}
END
    "$@" -O2 -Wall -Werror "$work/check.c" -o "$work/check" \
        -lmbedtls -lmbedx509 -lmbedcrypto -lsqlite3 -ljansson -lllhttp -lnghttp2 -lz -lzstd \
        -lseccomp -lcap -luring -lfdt -lm 2>"$work/link.log" || {
        tail -n 20 "$work/link.log" >&2
        die "the libraries cannot be linked with this compiler (above)"
    }
}

copy_licences() {
    local doc
    mkdir -p "$2"
    for doc in "$1"/usr/share/doc/*/; do
        [ ! -f "$doc/copyright" ] || cp -L "$doc/copyright" "$2/$(basename "$doc")"
    done
}

build_sysroot() {
    local out=$1 work=$2 libs=usr/lib/$TRIPLET include=usr/include
    # shellcheck disable=SC2086 # a list of names
    apt_fetch arm64 "$work/debs" libc6-dev $LIBRARIES
    apt_unpack "$work/debs" "$work/root"
    make_relocatable "$work/root"
    mkdir -p "$out/$include" "$out/$libs"
    cp -r "$work/root/$include/." "$out/$include/"
    rm -rf "$out/$include"/*-linux-gnu*/
    cp -r "$work/root/$include/$TRIPLET" "$out/$include/"
    rm -rf "$out/$include/$TRIPLET/asm"
    copy_uapi_headers "$work/root" "$TRIPLET" "$out/$include"
    cp -P "$work/root/$libs/"*.[ao] "$out/$libs/"
    copy_licences "$work/root" "$out/licences"
    (cd "$work/debs" && printf '%s\n' *.deb) >"$out/packages"
    write_wrapper "$out/bin"
    say "sysroot: linking a program with every library"
    check_root "$work" "$out/bin/aarch64-glibc-gcc" -static
    check_root "$work" "$out/bin/aarch64-glibc-gcc" -static-pie -fPIE
}

# Trixie's archives call the C23 names of strtol and its like, which an older glibc lacks. Those
# that do get the missing functions added, weak, as what they are: the older ones.
add_missing_symbols() {
    local out=$1 work=$2 file
    cat >"$work/isoc23.c" <<'END'
#include <stdlib.h>
#define ALIAS(type, name)                                                                      \
    __attribute__((weak)) type __isoc23_##name(const char *s, char **end, int base)            \
    {                                                                                          \
        return name(s, end, base);                                                             \
    }
ALIAS(long, strtol)
ALIAS(long long, strtoll)
ALIAS(unsigned long, strtoul)
ALIAS(unsigned long long, strtoull)
END
    gcc -std=gnu17 -O2 -fPIC -c "$work/isoc23.c" -o "$work/isoc23.o"
    for file in "$out"/lib/*.a; do
        if nm -u "$file" 2>/dev/null | grep __isoc23_ >/dev/null; then
            ar rsD "$file" "$work/isoc23.o"
        fi
    done
}

build_native() {
    local out=$1 work=$2
    # shellcheck disable=SC2086 # a list of names
    apt_fetch "$ARCH" "$work/debs" $LIBRARIES
    apt_unpack "$work/debs" "$work/root"
    make_relocatable "$work/root"
    mkdir -p "$out/include" "$out/lib"
    cp -r "$work/root/usr/include/." "$out/include/"
    rm -rf "$out/include"/*-linux-gnu*/
    if [ -d "$work/root/usr/include/$TRIPLET" ]; then
        cp -r "$work/root/usr/include/$TRIPLET/." "$out/include/"
        rm -rf "$out/include/asm"
    fi
    copy_uapi_headers "$work/root" "$TRIPLET" "$out/include"
    cp -P "$work/root/usr/lib/$TRIPLET/"*.a "$out/lib/"
    add_missing_symbols "$out" "$work"
    (cd "$work/debs" && printf '%s\n' *.deb) >"$out/packages"
    say "sysroot-native: linking a program with every library, and running it"
    check_root "$work" gcc -fsanitize=address,undefined -isystem "$out/include" -L"$out/lib"
    ASAN_OPTIONS=detect_leaks=0 "$work/check" >&2 || # needs ptrace: not in every container
        die "a program made with these libraries fails (above)"
}

case ${1:-} in
"")
    command -v ${CROSS}gcc >/dev/null || die "${CROSS}gcc is missing; run: make deps"
    key=$(cache_key tools/sysroot.sh -- "$(declare -f apt_unpack copy_uapi_headers)" \
        "$(${CROSS}gcc -dumpfullversion)" "$GCC_INCLUDE")
    cache_entry sysroot "$key" build_sysroot
    cache_link sysroot
    ;;
native)
    ARCH=$(dpkg --print-architecture)
    TRIPLET=$(gcc -dumpmachine)
    key=$(cache_key tools/sysroot.sh -- "$(declare -f apt_unpack copy_uapi_headers)" \
        "$ARCH" "$(gcc -dumpfullversion)")
    cache_entry sysroot-native "$key" build_native
    cache_link sysroot-native
    ;;
*) die "usage: tools/sysroot.sh [native]" ;;
esac
