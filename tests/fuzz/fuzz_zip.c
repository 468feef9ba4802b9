// SPDX-License-Identifier: Apache-2.0
/* A stranger's zip: directory and one inflated entry. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../api/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int fd = memfd_create("zip", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        abort();
    struct zip_info info;
    struct err e = ERR_INIT;
    char *text = NULL;
    size_t text_len = 0;
    int r = zip_open(fd, len, "Dockerfile", 65536, &info, &text, &text_len, &e);
    if (r == 0 ? !text || text_len > 65536 || text[text_len] != '\0' : text || e.num == 0)
        abort();
    free(text);
    close(fd);
    return 0;
}
