// SPDX-License-Identifier: Apache-2.0
/* WebSocket frames; see ws.h. */
#include "ws.h"

#include <errno.h>
#include <mbedtls/sha1.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "digest.h"
#include "uuid.h"

#define FIN         0x80u
#define MASKED      0x80u
#define CONTROL_MAX 125u

bool ws_accept(const char *key, char ret[WS_ACCEPT])
{
    static const char tail[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t raw[18], sum[20];
    char text[WS_KEY_CAP + sizeof tail];
    size_t n = strlen(key), len = 0;
    if (n != WS_KEY_CAP - 1 || strpbrk(key, "-_") || strcmp(key + n - 2, "==") != 0)
        return false;
    char plain[WS_KEY_CAP];
    for (size_t i = 0; i < n; i++)
        plain[i] = key[i] == '+' ? '-' : key[i] == '/' ? '_' : key[i];
    if (!base64url_decode(plain, n - 2, raw, sizeof raw, &len) || len != 16)
        return false;
    memcpy(text, key, n);
    memcpy(text + n, tail, sizeof tail);
    if (mbedtls_sha1((const uint8_t *)text, n + sizeof tail - 1, sum) != 0)
        return false;
    base64_encode(sum, sizeof sum, ret);
    return true;
}

void ws_free(struct ws *w)
{
    buf_free(&w->in);
}

static bool known(unsigned op)
{
    return op <= WS_BINARY || (op >= WS_CLOSE && op <= WS_PONG);
}

/* A control frame may stand between the pieces of a message, and is never cut itself. */
static int judge(struct ws *w, uint8_t first, uint64_t len, struct ws_frame *ret)
{
    unsigned op = first & 0x0fu;
    bool fin = first & FIN;
    if ((first & 0x70u) || !known(op))
        return -EBADMSG;
    if (op >= WS_CLOSE) {
        if (!fin || len > CONTROL_MAX)
            return -EBADMSG;
        *ret = (struct ws_frame){.op = (enum ws_op)op, .whole = true};
        return 0;
    }
    if ((op == WS_MORE) != w->within)
        return -EBADMSG;
    /* Pieces are bytes, whatever their message says: only whole texts are looked into. */
    ret->op = op == WS_TEXT && fin ? WS_TEXT : WS_BINARY;
    ret->whole = fin && op != WS_MORE;
    return 0;
}

int ws_next(struct ws *w, struct ws_frame *ret)
{
    buf_drop(&w->in, w->used);
    w->used = 0;
    if (w->in.bad)
        return -ENOMEM;
    uint8_t *p = w->in.data;
    size_t have = w->in.len, head = 2;
    if (have < head)
        return 0;
    uint64_t len = p[1] & 0x7fu;
    unsigned more = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (have < head + more)
        return 0;
    if (more) {
        len = 0;
        for (unsigned i = 0; i < more; i++)
            len = len << 8 | p[head + i];
        if (len < (more == 2 ? 126u : 65536u) || len >> 63)
            return -EBADMSG; /* not the shortest form */
        head += more;
    }
    bool masked = p[1] & MASKED;
    if (masked == w->client)
        return -EBADMSG;
    int r = judge(w, p[0], len, ret);
    if (r < 0)
        return r;
    if (len > WS_FRAME_MAX)
        return -E2BIG;
    const uint8_t *mask = p + head;
    head += masked ? 4 : 0;
    if (have < head + len)
        return 0;
    for (size_t i = 0; masked && i < len; i++)
        p[head + i] ^= mask[i % 4];
    if ((p[0] & 0x0fu) < WS_CLOSE)
        w->within = !(p[0] & FIN);
    ret->data = p + head;
    ret->len = (size_t)len;
    w->used = head + (size_t)len;
    return 1;
}

void ws_put(struct buf *b, bool client, enum ws_op op, const void *data, size_t len)
{
    uint8_t head[14] = {(uint8_t)(FIN | op)}, mask[4] = {0};
    size_t n = 2;
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else {
        unsigned more = len < 65536 ? 2 : 8;
        head[1] = more == 2 ? 126 : 127;
        for (unsigned i = 0; i < more; i++)
            head[n++] = (uint8_t)((uint64_t)len >> 8 * (more - 1 - i));
    }
    if (client) {
        random_fill(mask, sizeof mask);
        head[1] |= MASKED;
        memcpy(head + n, mask, sizeof mask);
        n += sizeof mask;
    }
    buf_add(b, head, n);
    uint8_t *at = len ? buf_reserve(b, len) : NULL;
    if (!at)
        return;
    for (size_t i = 0; i < len; i++)
        at[i] = ((const uint8_t *)data)[i] ^ mask[i % 4];
    b->len += len;
}

void ws_put_close(struct buf *b, bool client, enum ws_code code, const char *reason)
{
    uint8_t data[CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t n = MIN(strlen(reason), sizeof data - 2);
    memcpy(data + 2, reason, n);
    ws_put(b, client, WS_CLOSE, data, n + 2);
}
