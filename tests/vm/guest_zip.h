// SPDX-License-Identifier: Apache-2.0
/* Build contexts for guest_drive.c: zip archives of stored files, made in memory. */
#ifndef DORMOUSE_TESTS_GUEST_ZIP_H
#define DORMOUSE_TESTS_GUEST_ZIP_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"

static inline uint32_t zip_crc(const char *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint8_t)p[i];
        for (int b = 0; b < 8; b++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

struct zip {
    uint8_t data[65536], dir[16384];
    size_t len, dir_len;
    unsigned count;
};

static inline void zip_le(uint8_t *to, size_t *len, uint32_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[(*len)++] = (uint8_t)(v >> (8 * i));
}

static inline void zip_add(struct zip *z, const char *name, const char *text, uint32_t mode)
{
    uint32_t size = (uint32_t)strlen(text), crc = zip_crc(text, size), at = (uint32_t)z->len;
    uint32_t n = (uint32_t)strlen(name);
    const uint32_t head[][2] = {{0x04034b50, 4}, {20, 2},   {0, 2},    {0, 2}, {0x58a50000, 4},
                                {crc, 4},        {size, 4}, {size, 4}, {n, 2}, {0, 2}};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        zip_le(z->data, &z->len, head[i][0], head[i][1]);
    memcpy(z->data + z->len, name, n);
    memcpy(z->data + z->len + n, text, size);
    z->len += n + size;
    const uint32_t entry[][2] = {
        {0x02014b50, 4}, {3 << 8 | 20, 2}, {20, 2}, {0, 2}, {0, 2}, {0x58a50000, 4}, {crc, 4},
        {size, 4},       {size, 4},        {n, 2},  {0, 4}, {0, 4}, {mode << 16, 4}, {at, 4}};
    for (size_t i = 0; i < sizeof entry / sizeof entry[0]; i++)
        zip_le(z->dir, &z->dir_len, entry[i][0], entry[i][1]);
    memcpy(z->dir + z->dir_len, name, n);
    z->dir_len += n;
    z->count++;
}

/* Writes the archive to a context disk; its true length, 0 on failure. */
static inline uint64_t zip_finish(struct zip *z, const char *path)
{
    uint32_t at = (uint32_t)z->len;
    memcpy(z->data + z->len, z->dir, z->dir_len);
    z->len += z->dir_len;
    const uint32_t end[][2] = {{0x06054b50, 4},           {0, 4},  {z->count, 2}, {z->count, 2},
                               {(uint32_t)z->dir_len, 4}, {at, 4}, {0, 2}};
    for (size_t i = 0; i < sizeof end / sizeof end[0]; i++)
        zip_le(z->data, &z->len, end[i][0], end[i][1]);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && fd_write_full(fd, z->data, z->len) == 0 && ftruncate(fd, 131072) == 0;
    close(fd);
    return ok ? z->len : 0;
}

#endif
