// SPDX-License-Identifier: Apache-2.0
/* The device tree: written once at boot from the device list with libfdt. */
#ifndef DORMOUSE_ARM64_FDT_H
#define DORMOUSE_ARM64_FDT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct vm;

struct fdt_boot {
    const char *cmdline;
    uint64_t initrd, initrd_len; /* guest address; length 0: none */
};

/* Writes the tree to MEM_FDT. */
int fdt_write(struct vm *vm, const struct fdt_boot *boot, struct err *e);

#endif
