// SPDX-License-Identifier: Apache-2.0
/*
 * Cold boot; see arm64_boot.h. The kernel starts out of its file, mapped for
 * reading, and is copied meanwhile: it patches most of its own pages, and in
 * large pages of its own memory that costs 5 faults instead of 5,000. A vCPU
 * that writes, or has to do with a device, before the copy is in its place
 * waits for it (run_until_kicked()). Kernel and initrd come from the operator,
 * so a wrong file is refused with a reason, but it is not an attack.
 */
#include "arm64_boot.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../snapshot/snapmem.h"
#include "arm64_vcpu.h"
#include "base/fd.h"
#include "base/num.h"
#include "vm.h"

#define IMAGE_HEAD   64u
#define IMAGE_MAGIC  0x644d5241u /* "ARM\x64" at 56 */
#define IMAGE_ALIGN  (2ull << 20)
#define FLAG_BE      1u
#define PAGE_SIZE_4K 1u
#define HUGE         (2ull << 20)

_Static_assert(CTL_KERNEL == MEM_KERNEL_BASE, "the daemon knows where kernels lie");

int boot_parse_image(const void *head, size_t len, uint64_t file_len, struct image_head *ret,
                     struct err *e)
{
    const uint8_t *p = head;
    if (len < IMAGE_HEAD || get_le32(p + 56) != IMAGE_MAGIC) {
        err_set(e, ENOEXEC, "the kernel is not an arm64 Image");
        return err_hint(e, "give the uncompressed arch/arm64/boot/Image");
    }
    uint64_t flags = get_le64(p + 24), page = flags >> 1 & 3;
    ret->text_offset = get_le64(p + 8);
    ret->size = get_le64(p + 16);
    if (flags & FLAG_BE)
        return err_set(e, ENOEXEC, "the kernel is big-endian");
    if (page > PAGE_SIZE_4K)
        return err_set(e, ENOEXEC, "the kernel does not use 4 KiB pages");
    if (ret->size < file_len)
        ret->size = file_len;
    if (ret->text_offset >= IMAGE_ALIGN || ret->text_offset % 4096)
        return err_set(e, ENOEXEC, "the kernel's header asks for text offset 0x%llx",
                       (unsigned long long)ret->text_offset);
    return 0;
}

static int too_large(const struct vm *vm, const char *what, struct err *e)
{
    return err_set(e, ENOMEM, "the %s does not fit into %llu MiB of guest memory", what,
                   (unsigned long long)(vm->mem.size >> 20));
}

static int look_at_kernel(struct vm *vm, int fd, struct boot_rest *rest, uint64_t *ret_end,
                          struct err *e)
{
    struct stat st;
    uint8_t head[IMAGE_HEAD];
    struct image_head image;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the kernel");
    int r = fd_pread_full(fd, head, sizeof head, 0);
    if (r < 0)
        return err_sys(e, -r, "read the kernel");
    r = boot_parse_image(head, sizeof head, (uint64_t)st.st_size, &image, e);
    if (r < 0)
        return r;
    rest->entry = MEM_KERNEL_BASE + image.text_offset;
    rest->file_len = (size_t)st.st_size;
    if (!num_add(rest->entry, image.size, ret_end) ||
        !mem_at(&vm->mem, rest->entry, image.size))
        return too_large(vm, "kernel", e);
    return 0;
}

static int look_at_initrd(struct vm *vm, int fd, struct boot_rest *rest, uint64_t *end,
                          struct err *e)
{
    struct stat st;
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the initrd");
    rest->initrd_fd = fd;
    rest->initrd_len = (uint64_t)st.st_size;
    if (st.st_size == 0)
        return 0;
    rest->initrd = align_up(*end, 4096); /* in the same large page as the kernel's end */
    if (!mem_at(&vm->mem, rest->initrd, rest->initrd_len))
        return too_large(vm, "initrd", e);
    *end = rest->initrd + rest->initrd_len;
    return 0;
}

/* The file itself, for reading; what else belongs there is out of reach. */
static int map_kernel(struct vm *vm, int fd, const struct boot_rest *rest, struct err *e)
{
    uint8_t *place = vm->mem.host + MEM_SYSTEM_SIZE;
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if (mmap(place, rest->len, PROT_NONE, flags | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ||
        mmap(place + (rest->entry - MEM_KERNEL_BASE), rest->file_len, PROT_READ, flags, fd,
             0) == MAP_FAILED)
        return err_sys(e, errno, "map the kernel");
    return 0;
}

int boot_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline,
              struct boot_rest *rest, struct err *e)
{
    uint64_t end = 0;
    *rest = (struct boot_rest){.initrd_fd = -1};
    int r = look_at_kernel(vm, kernel_fd, rest, &end, e);
    if (r == 0)
        r = look_at_initrd(vm, initrd_fd, rest, &end, e);
    if (r < 0)
        return r;
    rest->len = align_up(end - MEM_KERNEL_BASE, HUGE);
    /* A few pages of the system area are used: no large one. */
    madvise(vm->mem.host, MEM_SYSTEM_SIZE, MADV_NOHUGEPAGE);
    const struct fdt_boot boot = {
        .cmdline = cmdline, .initrd = rest->initrd, .initrd_len = rest->initrd_len};
    r = map_kernel(vm, kernel_fd, rest, e);
    if (r == 0)
        r = fdt_write(vm, &boot, e);
    return r < 0 ? r : vcpu_set_entry(&vm->vcpus[0], rest->entry, MEM_FDT, e);
}

/* Up to 255 bytes more than asked for; half the instructions of the library's. */
static void copy_wide(uint8_t *to, const uint8_t *from, size_t len)
{
    const uint8_t *end = from + len;
    __asm__ volatile("1: ldp q0, q1, [%1], #32\n"
                     "ldp q2, q3, [%1], #32\n"
                     "ldp q4, q5, [%1], #32\n"
                     "ldp q6, q7, [%1], #32\n"
                     "ldp q16, q17, [%1], #32\n"
                     "ldp q18, q19, [%1], #32\n"
                     "ldp q20, q21, [%1], #32\n"
                     "ldp q22, q23, [%1], #32\n"
                     "stp q0, q1, [%0], #32\n"
                     "stp q2, q3, [%0], #32\n"
                     "stp q4, q5, [%0], #32\n"
                     "stp q6, q7, [%0], #32\n"
                     "stp q16, q17, [%0], #32\n"
                     "stp q18, q19, [%0], #32\n"
                     "stp q20, q21, [%0], #32\n"
                     "stp q22, q23, [%0], #32\n"
                     "cmp %1, %2\n"
                     "b.lo 1b"
                     : "+r"(to), "+r"(from)
                     : "r"(end)
                     : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16",
                       "v17", "v18", "v19", "v20", "v21", "v22", "v23");
}

int boot_finish(struct vm *vm, const struct boot_rest *rest, struct err *e)
{
    uint8_t *place = vm->mem.host + MEM_SYSTEM_SIZE, *to;
    size_t at = rest->entry - MEM_KERNEL_BASE;
    int r = memory_map_anonymous(rest->len, &to, e);
    if (r < 0)
        return r;
    copy_wide(to + at, place + at, rest->file_len);
    if (rest->initrd_len)
        r = fd_pread_full(rest->initrd_fd, to + (rest->initrd - MEM_KERNEL_BASE),
                          rest->initrd_len, 0);
    if (r < 0) {
        err_sys(e, -r, "read the initrd");
    } else if (mremap(to, rest->len, rest->len, MREMAP_MAYMOVE | MREMAP_FIXED, place) ==
               MAP_FAILED) {
        r = err_sys(e, errno, "put the kernel into its place");
    }
    if (r < 0)
        munmap(to, rest->len);
    return r;
}
