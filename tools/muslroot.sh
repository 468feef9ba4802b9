#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/musl: all a static musl program for arm64 needs, for the guest's init and the VMM.
# Usage: tools/muslroot.sh        (quiet, and done at once, if the cached copy is good)
#
#   bin/aarch64-musl-gcc    the cross gcc, told to use only this root; add -static(-pie)
#   bin/aarch64-musl-clang  the same with clang
#   include/, lib/          musl, Linux user-space API headers, libfdt.a, liburing.a
#
# musl and the kernel headers are Debian trixie's arm64 packages; libfdt and liburing are
# compiled here from trixie's sources, because Debian's own archives of them are made for glibc.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cache.sh
. tools/apt-private.sh

[ $# -eq 0 ] || die "tools/muslroot.sh takes no argument"

CROSS=aarch64-linux-gnu-
command -v ${CROSS}gcc >/dev/null || die "${CROSS}gcc is missing; run: make deps"
GCC_INCLUDE=$(${CROSS}gcc -print-file-name=include)
CLANG_INCLUDE=$(clang -print-resource-dir 2>/dev/null || true)/include
LIB_CFLAGS="-O2 -g -fstack-protector-strong -mbranch-protection=standard
    -ffunction-sections -fdata-sections -fPIE"

# The cross gcc is made for glibc, but its own parts (headers, crtbegin, libgcc) do not depend
# on it: with musl's directories first, its specs find musl's crt1.o or rcrt1.o and libc.a.
write_wrappers() {
    local bin=$1
    mkdir -p "$bin"
    cat >"$bin/aarch64-musl-gcc" <<END
#!/bin/sh
root=\${0%/*}/..
exec ${CROSS}gcc -nostdinc -isystem "$GCC_INCLUDE" -isystem "\$root/include" \\
    -B"\$root/lib/" -L"\$root/lib" "\$@"
END
    cat >"$bin/aarch64-musl-clang" <<END
#!/bin/sh
root=\${0%/*}/..
exec clang --target=aarch64-linux-gnu -Wno-unused-command-line-argument \\
    -nostdinc -isystem "$CLANG_INCLUDE" -isystem "\$root/include" \\
    -B"\$root/lib/" -L"\$root/lib" "\$@"
END
    chmod +x "$bin"/*
}

unpack_source() {
    local tar
    mkdir -p "$3"
    for tar in "$1/$2"_*.orig.tar.?z; do
        tar -xf "$tar" -C "$3" --strip-components=1
    done
}

build_libfdt() {
    local src=$1/libfdt out=$2 cc=$3 file objects=()
    for file in "$src"/fdt*.c; do
        # shellcheck disable=SC2086 # a list of flags
        "$cc" $LIB_CFLAGS "-ffile-prefix-map=$CACHE_TMP=." -I"$src" -c "$file" -o "${file%.c}.o"
        objects+=("${file%.c}.o")
    done
    ${CROSS}ar rcsD "$out/lib/libfdt.a" "${objects[@]}"
    cp "$src/fdt.h" "$src/libfdt.h" "$src/libfdt_env.h" "$out/include/"
}

build_liburing() {
    local src=$1 out=$2 cc=$3
    (
        cd "$src"
        ./configure --cc="$cc" --cxx=false --prefix=/ --use-libc
        # shellcheck disable=SC2086
        make -C src -j"$(nproc)" ENABLE_SHARED=0 AR=${CROSS}ar RANLIB=${CROSS}ranlib \
            CFLAGS="$(printf '%s ' $LIB_CFLAGS) -ffile-prefix-map=$CACHE_TMP=." liburing.a
    ) >"$src/build.log" 2>&1 || {
        tail -n 20 "$src/build.log" >&2
        die "liburing does not compile with musl (above)"
    }
    cp "$src/src/liburing.a" "$out/lib/"
    cp -r "$src/src/include/liburing.h" "$src/src/include/liburing" "$out/include/"
}

# One program that uses each part; the root is published only if it links.
check_root() {
    local out=$1 work=$2 cc
    cat >"$work/check.c" <<'END'
#include <errno.h>
#include <libfdt.h>
#include <liburing.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(void)
{
    char fdt[256];
    struct io_uring ring;
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST};
    int tree = fdt_create_empty_tree(fdt, sizeof(fdt));
    int uring = io_uring_queue_init(4, &ring, 0);
    printf("fdt %d uring %d kvm %lx scan %lx cid %u thread %d\n", tree, uring,
           (unsigned long)KVM_CREATE_VM, (unsigned long)PAGEMAP_SCAN, vm.svm_cid,
           pthread_self() != 0);
    return tree != 0;
}
END
    for cc in gcc clang; do
        [ $cc != clang ] || command -v clang >/dev/null || continue
        "$out/bin/aarch64-musl-$cc" -static-pie -fPIE -O2 -Wall -Werror "$work/check.c" \
            -o "$work/check-$cc" -luring -lfdt
        "$out/bin/aarch64-musl-$cc" -static -no-pie -O2 -Wall -Werror "$work/check.c" \
            -o "$work/check-$cc" -luring -lfdt
    done
}

build_muslroot() {
    local out=$1 work=$2
    apt_fetch arm64 "$work/debs" musl-dev linux-libc-dev
    apt_fetch_source arm64 "$work/src" device-tree-compiler liburing
    apt_unpack "$work/debs" "$work/root"
    mkdir -p "$out/lib" "$out/include"
    cp -r "$work/root/usr/include/aarch64-linux-musl/." "$out/include/"
    cp "$work/root/usr/lib/aarch64-linux-musl/"*.[ao] "$out/lib/"
    copy_uapi_headers "$work/root" aarch64-linux-gnu "$out/include"
    write_wrappers "$out/bin"
    say "musl: compiling libfdt and liburing"
    unpack_source "$work/src" device-tree-compiler "$work/dtc"
    unpack_source "$work/src" liburing "$work/liburing"
    build_libfdt "$work/dtc" "$out" "$out/bin/aarch64-musl-gcc"
    build_liburing "$work/liburing" "$out" "$out/bin/aarch64-musl-gcc"
    check_root "$out" "$work"
    (cd "$work" && ls debs/*.deb src/*.tar.?z) | sed 's|.*/||' >"$out/packages"
}

key=$(cache_key tools/muslroot.sh -- "$(declare -f apt_unpack copy_uapi_headers)" \
    "$(${CROSS}gcc -dumpfullversion)" "$GCC_INCLUDE" "$CLANG_INCLUDE")
cache_entry musl "$key" build_muslroot
cache_link musl
