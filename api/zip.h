// SPDX-License-Identifier: Apache-2.0
/*
 * The host's view of an uploaded zip: its central directory, checked, and one
 * small file out of it. Everything else is unpacked inside the builder microVM.
 * The file is a stranger's. Called by the image build; fuzzed.
 */
#ifndef DORMOUSE_API_ZIP_H
#define DORMOUSE_API_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define ZIP_DIRECTORY_MAX (16u << 20)
#define ZIP_NAME_MAX      4096u
#define ZIP_TOTAL_MAX     ((uint64_t)16 << 30) /* uncompressed, all entries */

struct zip_info {
    uint32_t entries;
    uint64_t bytes; /* uncompressed, as the directory says */
};

/* Checks the directory and reads the entry `name` whole (NUL-terminated, malloc'd).
 * -EBADMSG: no zip we take (not a zip, damaged, zip64, encrypted, a bomb, names that leave the
 * directory); -ENOENT: a good zip without that entry; -EFBIG: the entry is over `limit`. */
int zip_open(int fd, uint64_t size, const char *name, size_t limit, struct zip_info *ret,
             char **ret_text, size_t *ret_len, struct err *e);

#endif
