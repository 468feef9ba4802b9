// SPDX-License-Identifier: Apache-2.0
/* Cold boot: kernel Image and initrd into guest memory, first registers; the device tree, by
 * arm64_fdt.c. */
#ifndef DORMOUSE_ARM64_BOOT_H
#define DORMOUSE_ARM64_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct vm;

struct image_head {
    uint64_t text_offset; /* of the image from a 2 MiB boundary */
    uint64_t size;        /* memory it takes, with bss */
};

/* Checks the header of an arm64 Image (first 64 bytes; linux/Documentation/arch/arm64/
 * booting.rst). file_len is the file's. */
int boot_parse_image(const void *head, size_t len, uint64_t file_len, struct image_head *ret,
                     struct err *e);

/* What is still to be done when the kernel has started. */
struct boot_rest {
    uint64_t entry, initrd, initrd_len;
    size_t file_len; /* of the Image */
    size_t len;      /* large pages from MEM_KERNEL_BASE on that Image and initrd lie in */
    int initrd_fd;
};

/* Memory is mapped and devices are made. initrd_fd may be -1. The kernel's file is mapped: it
 * must not be changed in place until boot_finish(). */
int boot_load(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline,
              struct boot_rest *rest, struct err *e);
/* Copies kernel and initrd, and puts the copy in the file's place. vCPUs may run, with
 * vm_loading(). */
int boot_finish(struct vm *vm, const struct boot_rest *rest, struct err *e);

struct fdt_boot {
    const char *cmdline;
    uint64_t initrd, initrd_len; /* guest address; length 0: none */
};

/* Writes the tree to MEM_FDT. */
int fdt_write(struct vm *vm, const struct fdt_boot *boot, struct err *e);

#endif
