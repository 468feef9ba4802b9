// SPDX-License-Identifier: Apache-2.0
/*
 * WebSocket frames (RFC 6455), for both ends: the daemon's terminals and the
 * command line tool. Pure, no I/O; what comes in is a stranger's. No
 * extensions. Pieces of a fragmented message are handed on one by one.
 */
#ifndef DORMOUSE_API_WS_H
#define DORMOUSE_API_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"

#define WS_FRAME_MAX 65536u /* payload of one frame that is taken in */
#define WS_KEY_CAP   25     /* base64 of 16 bytes */
#define WS_ACCEPT    29     /* base64 of a SHA-1 */

enum ws_op { WS_MORE = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum ws_code { WS_NORMAL = 1000, WS_GOING = 1001, WS_PROTOCOL = 1002, WS_FAILED = 1011 };

/* The answer to a Sec-WebSocket-Key; false when it is none. */
bool ws_accept(const char *key, char ret[WS_ACCEPT]);

struct ws {
    bool client; /* we are: frames of the peer are not masked */
    struct buf in;
    size_t used; /* of `in`: the last frame's */
    bool within; /* a fragmented message has begun */
};
struct ws_frame {
    enum ws_op op; /* of the message, not WS_MORE */
    bool whole;    /* all of its message */
    const uint8_t *data;
    size_t len;
};
/* The next frame out of w->in, to which the caller has added what came in: 1, 0 when there is
 * none yet, -EBADMSG, -E2BIG, -ENOMEM. Its data lives until the next call. */
int ws_next(struct ws *w, struct ws_frame *ret);
void ws_free(struct ws *w);

/* Appends a frame. As a client it is masked with random bytes. */
void ws_put(struct buf *b, bool client, enum ws_op op, const void *data, size_t len);
void ws_put_close(struct buf *b, bool client, enum ws_code code, const char *reason);

#endif
