// SPDX-License-Identifier: Apache-2.0
/* See kerneltext.h. */
#include "kerneltext.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "snapfile.h"

#define MAP_MAX (8u << 20)

/* "ffff800080000000 T _text" */
static uint64_t symbol(const char *map, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = map; (at = strstr(at, name)); at += n) {
        if (at - map >= 19 && at[-1] == ' ' && at[n] == '\n')
            return strtoull(at - 19, NULL, 16);
    }
    return 0;
}

uint64_t kernel_text_len(const char *kernel)
{
    char path[600];
    AUTO_FREE char *map = NULL;
    const char *slash = strrchr(kernel, '/');
    snprintf(path, sizeof path, "%.*sSystem.map", slash ? (int)MIN(slash + 1 - kernel, 580) : 0,
             kernel);
    if (fd_read_file(AT_FDCWD, path, MAP_MAX, &map, NULL, NULL) < 0)
        return 0;
    uint64_t text = symbol(map, "__init_begin") - symbol(map, "_text");
    return text <= SNAP_LAYER_MAX && text % SNAP_PAGE == 0 ? text : 0;
}
