// SPDX-License-Identifier: Apache-2.0
/* guest/inflate.c on a stranger's bytes: ends, stays inside its bounds, says the same twice. */
#include <stdlib.h>

#include "../../guest/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 1000000u

static int count(void *ctx, const uint8_t *data, size_t len)
{
    uint64_t *sum = ctx;
    for (size_t i = 0; i < len; i++)
        sum[1] = sum[1] * 31 + data[i];
    sum[0] += len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t one[2] = {0, 0}, two[2] = {0, 0};
    size_t used = 0;
    int r = inflate_all(data, size, LIMIT, count, one, &used);
    if (used > size || one[0] > LIMIT)
        abort();
    if (r == 0 && (inflate_all(data, used, LIMIT, count, two, &used) != 0 || one[0] != two[0] ||
                   one[1] != two[1]))
        abort();
    return 0;
}
