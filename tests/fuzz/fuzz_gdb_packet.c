// SPDX-License-Identifier: Apache-2.0
/* A debugger's bytes: packets, and what is read out of them. A packet that came through is
 * framed again and must come through again. */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/debug/gdb_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_inside(const struct gdb_input *in)
{
    uint64_t a, b;
    uint8_t bytes[32];
    int thread;
    enum gdb_action actions[4];
    const char *text = in->text + (in->len > 0), *p;
    p = text;
    gdb_pair(&p, ',', &a, &b);
    p = text;
    gdb_bytes(&p, bytes, sizeof bytes);
    p = text;
    gdb_thread(&p, &thread);
    gdb_vcont(text, actions, 4);
    for (unsigned i = 0; i < 4; i++) {
        if (actions[i] > GDB_STEP)
            abort();
    }
}

static void frame_again(const struct gdb_input *in)
{
    static struct gdb_input again;
    struct buf b = BUF_INIT;
    enum gdb_event e = GDB_NOTHING;
    memset(&again, 0, sizeof again);
    gdb_frame(&b, in->text, in->len);
    for (size_t i = 0; i < b.len; i++)
        e = gdb_feed(&again, b.data[i]);
    if (e != GDB_PACKET || again.len != in->len || memcmp(again.text, in->text, in->len) != 0)
        abort();
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gdb_input in;
    memset(&in, 0, sizeof in);
    for (size_t i = 0; i < size; i++) {
        if (gdb_feed(&in, data[i]) == GDB_PACKET) {
            look_inside(&in);
            frame_again(&in);
        }
    }
    return 0;
}
