// SPDX-License-Identifier: Apache-2.0
/*
 * Frames of a client (first byte even) or of a server. However the bytes are cut into reads,
 * the frames are the same, and each lies within what came.
 */
#include <stdlib.h>
#include <string.h>

#include "../../api/ws.h"
#include "../../hypervisor/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct outcome {
    int result;
    unsigned frames;
    uint64_t sum;
};

static struct outcome read_all(bool client, const uint8_t *data, size_t len, size_t step)
{
    AUTO(ws_free) struct ws w = {.client = client};
    struct outcome o = {.result = 0};
    for (size_t at = 0; at < len && o.result >= 0; at += step) {
        struct ws_frame f;
        buf_add(&w.in, data + at, MIN(step, len - at));
        while ((o.result = ws_next(&w, &f)) == 1) {
            if (f.data < w.in.data || f.data + f.len > w.in.data + w.in.len)
                abort();
            if (f.op == WS_MORE || f.len > WS_FRAME_MAX || (f.op >= WS_CLOSE && f.len > 125))
                abort();
            o.frames++;
            for (size_t i = 0; i < f.len; i++)
                o.sum = o.sum * 31 + f.data[i];
            o.sum = o.sum * 31 + (uint64_t)f.op;
        }
    }
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char key[WS_KEY_CAP], answer[WS_ACCEPT];
    if (len < 1 || len > 200000)
        return 0;
    if (len >= sizeof key) {
        memcpy(key, data + 1, sizeof key - 1);
        key[sizeof key - 1] = '\0';
        ws_accept(key, answer);
    }
    bool client = data[0] & 1;
    struct outcome whole = read_all(client, data + 1, len - 1, len);
    struct outcome cut = read_all(client, data + 1, len - 1, 7);
    if (whole.result != cut.result || whole.frames != cut.frames || whole.sum != cut.sum)
        abort();
    return 0;
}
