// SPDX-License-Identifier: Apache-2.0
/*
 * Cold boot; see arm64_boot.h. The kernel Image is copied to its place: it
 * patches most of its own pages when it starts, and in large pages of its own
 * memory that costs 5 faults instead of 5,000. Kernel and initrd come from the
 * operator, so a wrong file is refused with a reason, but it is not an attack.
 */
#include "arm64_boot.h"

#include <errno.h>
#include <sys/stat.h>

#include "arm64_vcpu.h"
#include "base/fd.h"
#include "base/num.h"
#include "vm.h"

#define IMAGE_HEAD   64u
#define IMAGE_MAGIC  0x644d5241u /* "ARM\x64" at 56 */
#define IMAGE_ALIGN  (2ull << 20)
#define FLAG_BE      1u
#define PAGE_SIZE_4K 1u

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

static int load_kernel(struct vm *vm, int fd, uint64_t *ret_entry, uint64_t *ret_end,
                       struct err *e)
{
    struct stat st;
    uint8_t head[IMAGE_HEAD];
    struct image_head image;
    uint64_t end;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the kernel");
    int r = fd_pread_full(fd, head, sizeof head, 0);
    if (r < 0)
        return err_sys(e, -r, "read the kernel");
    r = boot_parse_image(head, sizeof head, (uint64_t)st.st_size, &image, e);
    if (r < 0)
        return r;
    *ret_entry = MEM_KERNEL_BASE + image.text_offset;
    if (!num_add(*ret_entry, image.size, &end) || !mem_at(&vm->mem, *ret_entry, image.size))
        return err_set(e, ENOMEM, "the kernel does not fit into %llu MiB of guest memory",
                       (unsigned long long)(vm->mem.size >> 20));
    *ret_end = end;
    r = fd_pread_full(fd, mem_at(&vm->mem, *ret_entry, image.size), (size_t)st.st_size, 0);
    return r < 0 ? err_sys(e, -r, "read the kernel") : 0;
}

static int load_initrd(struct vm *vm, int fd, uint64_t after, struct fdt_boot *boot,
                       struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the initrd");
    if (st.st_size == 0)
        return 0;
    boot->initrd_len = (uint64_t)st.st_size;
    boot->initrd = align_up(after, 4096); /* in the same large page as the kernel's end */
    void *p = mem_at(&vm->mem, boot->initrd, boot->initrd_len);
    if (!p)
        return err_set(e, ENOMEM, "the initrd does not fit into %llu MiB of guest memory",
                       (unsigned long long)(vm->mem.size >> 20));
    int r = fd_pread_full(fd, p, boot->initrd_len, 0);
    return r < 0 ? err_sys(e, -r, "read the initrd") : 0;
}

int boot_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e)
{
    struct fdt_boot boot = {.cmdline = cmdline};
    uint64_t entry = 0, end = 0;
    int r = load_kernel(vm, kernel_fd, &entry, &end, e);
    if (r == 0 && initrd_fd >= 0)
        r = load_initrd(vm, initrd_fd, end, &boot, e);
    if (r == 0)
        r = fdt_write(vm, &boot, e);
    if (r == 0)
        r = vcpu_set_entry(&vm->vcpus[0], entry, MEM_FDT, e);
    return r;
}
