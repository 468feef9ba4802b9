// SPDX-License-Identifier: Apache-2.0
/* CRC-32C (Castagnoli), by instruction where the CPU has it. */
#ifndef DORMOUSE_BASE_CRC32C_H
#define DORMOUSE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over the bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same without the instruction; for tests. */
uint32_t crc32c_plain(uint32_t crc, const void *data, size_t len);

#endif
