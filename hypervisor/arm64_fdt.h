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

/* For device nodes (dev_ops.fdt): one node "name@base" with `compatible` (n bytes, may hold
 * several NUL-separated strings), one reg and, unless spi is UINT32_MAX, one edge-triggered
 * interrupt. fdt_dev_begin leaves the node open for more properties; close it with
 * fdt_end_node(). */
int fdt_dev_begin(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                  uint64_t len, uint32_t spi, struct err *e);
int fdt_dev_node(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                 uint64_t len, uint32_t spi, struct err *e);
/* The same for ARM's own peripherals, which also want a clock. */
int fdt_primecell(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                  uint32_t spi, struct err *e);

#endif
