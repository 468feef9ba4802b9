// SPDX-License-Identifier: Apache-2.0
/* Streams to the guest: framing, limits, a guest that does not read; and the log file. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../api/applog.h"
#include "../../api/guest_link.h"
#include "../../hypervisor/base/fd.h"
#include "../tap.h"

static int peer;

static struct glink connected(void)
{
    int pair[2] = {-1, -1};
    struct glink g = GLINK_INIT;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    glink_open(&g, pair[0]);
    peer = pair[1];
    return g;
}

static size_t message(uint8_t *out, uint16_t type, uint32_t id, uint32_t value)
{
    struct tlv_writer w = tlv_writer_init(out + GP_HEADER_SIZE, 64);
    tlv_put_u32(&w, GP_T_ERRNO, value);
    tlv_put_str(&w, GP_T_TEXT, "two\nlines");
    gp_header_put(out, type, id, (uint32_t)w.len);
    return GP_HEADER_SIZE + w.len;
}

TEST(pieces)
{
    struct glink g = connected();
    uint8_t bytes[256];
    struct gp_header h;
    const uint8_t *body;
    size_t len = message(bytes, GP_REPLY, 7, 5);
    len += message(bytes + len, GP_EXITED, 0, 6);
    unsigned seen = 0;
    for (size_t i = 0; i < len; i++) { /* one byte at a time */
        CHECK(send(peer, bytes + i, 1, 0) == 1);
        CHECK(glink_fill(&g) == 0);
        while (glink_next(&g, &h, &body) == 1) {
            struct gp_reply r;
            CHECK(gp_reply_parse(body, h.len, &r));
            CHECK(seen ? h.type == GP_EXITED && r.num == 6 : h.id == 7 && r.num == 5);
            CHECK_STR(r.text, "two lines");
            seen++;
        }
    }
    CHECK(seen == 2);
    CHECK(glink_fill(&g) == -EAGAIN);
    close(peer);
    CHECK(glink_fill(&g) == -ECONNRESET);
    glink_close(&g);
}

TEST(nonsense)
{
    struct glink g = connected();
    uint8_t bytes[256];
    struct gp_header h;
    const uint8_t *body;
    size_t len = message(bytes, GP_REPLY, 1, 0);
    bytes[0] ^= 1;
    CHECK(send(peer, bytes, len, 0) == (ssize_t)len && glink_fill(&g) == 0);
    CHECK(glink_next(&g, &h, &body) == -EBADMSG);
    glink_close(&g);
    close(peer);
    g = connected();
    gp_header_put(bytes, GP_REPLY, 1, GP_BODY_MAX + 1);
    CHECK(send(peer, bytes, GP_HEADER_SIZE, 0) == GP_HEADER_SIZE && glink_fill(&g) == 0);
    CHECK(glink_next(&g, &h, &body) == -EBADMSG);
    glink_close(&g);
    close(peer);
    struct gp_reply r;
    struct tlv_writer w = tlv_writer_init(bytes, sizeof bytes);
    tlv_put_bytes(&w, GP_T_STATUS, "abc", 3);
    CHECK(!gp_reply_parse(bytes, w.len, &r));
    CHECK(!gp_reply_parse(bytes, w.len - 1, &r));
}

TEST(largest_message)
{
    struct glink g = connected();
    static uint8_t bytes[GP_HEADER_SIZE + GP_BODY_MAX];
    struct gp_header h;
    const uint8_t *body = NULL;
    memset(bytes, 0, sizeof bytes);
    gp_header_put(bytes, GP_LOG, 0, GP_BODY_MAX);
    int r = 0;
    for (size_t at = 0; at < sizeof bytes && r == 0;) {
        size_t n = sizeof bytes - at < 8192 ? sizeof bytes - at : 8192;
        CHECK(send(peer, bytes + at, n, 0) == (ssize_t)n);
        at += n;
        CHECK(glink_fill(&g) == 0);
        while (glink_fill(&g) == 0)
            ;
        r = glink_next(&g, &h, &body);
    }
    CHECK(r == 1 && h.len == GP_BODY_MAX);
    glink_close(&g);
    close(peer);
}

TEST(a_guest_that_does_not_read)
{
    struct glink g = connected();
    static uint8_t body[GP_BODY_MAX];
    int r = 0;
    uint64_t begin = now_ns();
    for (int i = 0; i < 100 && r == 0; i++)
        r = glink_send(&g, GP_HOOK, 1, body, sizeof body, deadline_ms(50));
    CHECK(r == -ETIMEDOUT);
    CHECK(now_ns() - begin < 20 * NS_PER_S);
    close(peer);
    CHECK(glink_send(&g, GP_HOOK, 1, NULL, 0, deadline_ms(50)) == -ECONNRESET);
    glink_close(&g);
    CHECK(glink_send(&g, GP_HOOK, 1, NULL, 0, 0) == -ENOTCONN);
}

TEST(log_file)
{
    char dir[] = "/tmp/dormouse-applog-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct applog l;
    char *text = NULL;
    applog_open(&l, fd);
    const struct gp_line lines[] = {
        {.seq = 1, .realtime_ns = 0, .source = 1, .data = "one", .len = 3},
        {.seq = 2, .realtime_ns = 1500, .source = 2, .data = "a\nb", .len = 3, .partial = true},
        {.seq = 3, .realtime_ns = UINT64_MAX, .source = 2, .data = "c", .len = 1},
        {.seq = 4, .realtime_ns = 0, .source = 99, .data = "", .len = 0},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        CHECK(applog_line(&l, &lines[i]) == 0);
    CHECK(applog_line(&l, NULL) == 0);
    CHECK(fd_read_file(fd, "app.log", 4096, &text, NULL, NULL) == 0);
    CHECK_STR(text, "1970-01-01T00:00:00.000000Z stdout one\n"
                    "1970-01-01T00:00:00.000001Z stderr a bc\n"
                    "1970-01-01T00:00:00.000000Z ? \n");
    free(text);
    /* Grows to a limit; then there is one older file, and never a third. */
    static char big[60000];
    memset(big, 'x', sizeof big);
    const struct gp_line line = {.source = 1, .data = big, .len = sizeof big};
    for (unsigned i = 0; i < 3 * (APPLOG_MAX / sizeof big); i++) {
        applog_line(&l, &line);
        CHECK(applog_line(&l, NULL) == 0);
    }
    struct stat st;
    CHECK(fstatat(fd, "app.log", &st, 0) == 0 &&
          st.st_size < (off_t)(APPLOG_MAX + 2 * sizeof big));
    CHECK(fstatat(fd, "app.log.1", &st, 0) == 0);
    CHECK(fstatat(fd, "app.log.2", &st, 0) < 0);
    applog_close(&l);
    unlinkat(fd, "app.log", 0);
    unlinkat(fd, "app.log.1", 0);
    close(fd);
    CHECK(rmdir(dir) == 0);
}

int main(void)
{
    RUN(pieces);
    RUN(nonsense);
    RUN(largest_message);
    RUN(a_guest_that_does_not_read);
    RUN(log_file);
    return TAP_DONE();
}
