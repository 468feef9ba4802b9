// SPDX-License-Identifier: Apache-2.0
/* A stranger's Dockerfile: never out of bounds, and a result keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "../../api/dockerfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dockerfile d;
    struct err e = ERR_INIT;
    if (dockerfile_parse((const char *)data, len, &d, &e) < 0) {
        if (e.num == 0 || !e.msg[0] || d.arena)
            abort();
        return 0;
    }
    if (!d.base || d.argv.n == 0 || d.argv.v[d.argv.n] || d.workdir[0] != '/')
        abort();
    for (size_t i = 0; i < d.nsteps; i++) {
        const struct df_step *s = &d.steps[i];
        if (s->op == DF_RUN && s->argv.n == 0)
            abort();
        if (s->op != DF_RUN && (s->dst[0] != '/' || strstr(s->dst, "/../")))
            abort();
        for (size_t k = 0; k < s->src.n; k++) {
            if (s->src.v[k][0] == '/' || strncmp(s->src.v[k], "../", 3) == 0 ||
                strstr(s->src.v[k], "/../"))
                abort();
        }
    }
    dockerfile_free(&d);
    return 0;
}
