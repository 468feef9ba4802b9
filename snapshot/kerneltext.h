// SPDX-License-Identifier: Apache-2.0
/*
 * How much of a guest kernel can be a layer: text, constants and page tables, up to what the
 * kernel frees after its start. Said by the System.map beside the kernel's file, which is
 * trusted as the kernel is.
 */
#ifndef DORMOUSE_SNAPSHOT_KERNELTEXT_H
#define DORMOUSE_SNAPSHOT_KERNELTEXT_H

#include <stdint.h>

/* Bytes from CTL_KERNEL on; 0 if there is no System.map, or none that can be a layer. */
uint64_t kernel_text_len(const char *kernel);

#endif
