// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes of a hostile guest on its control and log streams, in pieces of any
 * size: framing, replies, log lines, and what is written to the log file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../api/applog.h"
#include "../../api/guest_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void take(struct glink *g, struct applog *log)
{
    struct gp_header h;
    const uint8_t *body;
    while (glink_next(g, &h, &body) > 0) {
        struct gp_reply reply;
        struct gp_line line;
        if (h.len > GP_BODY_MAX)
            abort();
        if (gp_reply_parse(body, h.len, &reply) && strlen(reply.text) >= sizeof reply.text)
            abort();
        if (gp_line_parse(body, h.len, &line)) {
            if (line.len > h.len)
                abort();
            applog_line(log, &line);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int pair[2];
    if (len < 1 || len > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    size_t piece = (size_t)data[0] * 4 + 1;
    struct glink g = GLINK_INIT;
    struct applog log = {.dir = AT_FDCWD, .fd = memfd_create("log", MFD_CLOEXEC)};
    glink_open(&g, pair[0]);
    for (size_t at = 1; at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        if (send(pair[1], data + at, n, MSG_NOSIGNAL) != (ssize_t)n)
            abort();
        if (glink_fill(&g) < 0)
            break;
        take(&g, &log);
    }
    close(pair[1]);
    log.dir = -1; /* what it holds is thrown away, nothing is opened */
    applog_close(&log);
    glink_close(&g);
    return 0;
}
