// SPDX-License-Identifier: Apache-2.0
/*
 * See terminal.h. What comes from the microVM goes to our terminal as it is: steering it is
 * what an interactive program is for, and what the one who asked for -t wants.
 */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "../../api/digest.h"
#include "../../api/uuid.h"
#include "../../api/ws.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"

#define PIECE    16384u
#define STALL_MS 60000

struct session {
    struct cli *c;
    json_t *start;
    struct conn *conn;
    struct ws in;
    struct buf out;
    int sigfd;   /* SIGWINCH */
    bool typing; /* standard input has not ended */
    bool over, exited;
    int rc;
};

static void say(struct session *s, json_t *v)
{
    AUTO_FREE char *text = json_dumps(v, JSON_COMPACT);
    if (text)
        ws_put(&s->out, true, WS_TEXT, text, strlen(text));
    s->out.bad |= !text;
    json_decref(v);
}

static bool window(int *rows, int *cols)
{
    struct winsize w = {.ws_row = 0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0)
        return false;
    *rows = w.ws_row;
    *cols = w.ws_col;
    return w.ws_row > 0 && w.ws_row <= 10000 && w.ws_col > 0 && w.ws_col <= 10000;
}

/* ---- what comes ---- */

static void take_text(struct session *s, const struct ws_frame *f)
{
    json_t *v = json_loadb((const char *)f->data, f->len, 0, NULL);
    const char *type = json_string_value(json_object_get(v, "type"));
    const char *text = json_string_value(json_object_get(v, "message"));
    const json_t *code = json_object_get(v, "exitCode"), *sig = json_object_get(v, "signal");
    if (type && strcmp(type, "exit") == 0 && (json_is_integer(code) || json_is_integer(sig))) {
        s->exited = true;
        s->rc = json_is_integer(sig) ? -(128 + (int)(json_integer_value(sig) & 127))
                                     : -(int)(json_integer_value(code) & 255);
    } else if (type && strcmp(type, "error") == 0 && !s->rc) {
        s->rc = cli_fail(s->c, CLI_FAILED, "REFUSED", "%s", text ? text : "the guest refused");
    }
    json_decref(v);
}

static int take_frame(struct session *s, const struct ws_frame *f)
{
    switch (f->op) {
    case WS_BINARY:
        return fd_write_full(STDOUT_FILENO, f->data, f->len);
    case WS_TEXT:
        take_text(s, f);
        return 0;
    case WS_PING:
        ws_put(&s->out, true, WS_PONG, f->data, f->len);
        return 0;
    case WS_CLOSE:
        s->over = true;
        if (!s->exited && !s->rc)
            s->rc = cli_fail(s->c, CLI_FAILED, "ENDED", "the terminal ended: %.*s",
                             f->len > 2 ? (int)(f->len - 2) : 9,
                             f->len > 2 ? (const char *)f->data + 2 : "no reason");
        return 0;
    default:
        return 0;
    }
}

/* Everything there is now. */
static int take_all(struct session *s)
{
    uint8_t data[PIECE];
    for (;;) {
        struct ws_frame f;
        int r = ws_next(&s->in, &f);
        if (r < 0)
            return r;
        if (r == 1) {
            if ((r = take_frame(s, &f)) < 0 || s->over)
                return r;
            continue;
        }
        ssize_t n = conn_try_read(s->conn, data, sizeof data);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? (int)n : -ECONNRESET;
        buf_add(&s->in.in, data, (size_t)n);
    }
}

/* ---- what goes ---- */

static void take_keys(struct session *s)
{
    uint8_t data[PIECE];
    ssize_t n = read(STDIN_FILENO, data, sizeof data);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        ws_put(&s->out, true, WS_BINARY, data, (size_t)n);
        return;
    }
    s->typing = false;
    say(s, json_pack("{s:s}", "type", "eof"));
}

static void take_signal(struct session *s)
{
    struct signalfd_siginfo info;
    int rows, cols;
    while (read(s->sigfd, &info, sizeof info) == (ssize_t)sizeof info)
        ;
    if (window(&rows, &cols))
        say(s, json_pack("{s:s, s:i, s:i}", "type", "resize", "rows", rows, "cols", cols));
}

static int turn(struct session *s)
{
    int r = take_all(s);
    if (r < 0 || s->over)
        return r;
    if (s->out.bad)
        return -ENOMEM;
    if (s->out.len > 0) {
        r = conn_write(s->conn, s->out.data, s->out.len, STALL_MS);
        explicit_bzero(s->out.data, s->out.len);
        buf_reset(&s->out);
        return r;
    }
    struct pollfd p[3] = {{.fd = s->conn->fd, .events = POLLIN},
                          {.fd = s->typing ? STDIN_FILENO : -1, .events = POLLIN},
                          {.fd = s->sigfd, .events = POLLIN}};
    if (poll(p, 3, -1) < 0)
        return errno == EINTR ? 0 : -errno;
    if (p[1].revents)
        take_keys(s);
    if (p[2].revents)
        take_signal(s);
    return 0;
}

static int converse(struct cli *c, void *ctx)
{
    struct session *s = ctx;
    int rows, cols, r = 0;
    s->conn = http1_conn(c->api.h);
    while (http1_has_rest(c->api.h)) {
        uint8_t data[1024];
        buf_add(&s->in.in, data, http1_take_rest(c->api.h, data, sizeof data));
    }
    if (window(&rows, &cols)) {
        json_object_set_new(s->start, "rows", json_integer(rows));
        json_object_set_new(s->start, "cols", json_integer(cols));
    }
    say(s, json_incref(s->start));
    while (r == 0 && !s->over)
        r = turn(s);
    if (r < 0 && !s->exited && !s->rc)
        s->rc = cli_fail(c, CLI_UNREACHABLE, "UNREACHABLE", "the terminal broke off: %s",
                         strerror(-r));
    http_client_close(&c->api);
    return CLI_OK; /* what came of it is in s->rc */
}

/* ---- our own terminal ---- */

static bool make_raw(struct termios *old)
{
    struct termios raw;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, old) < 0)
        return false;
    raw = *old;
    cfmakeraw(&raw);
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

int terminal_run(struct cli *c, const char *path, json_t *start)
{
    struct session s = {.c = c, .start = start, .typing = true, .in = {.client = true}};
    AUTO(api_answer_free) struct api_answer a = {.status = 0};
    struct termios old;
    uint8_t raw[16];
    char key[WS_KEY_CAP], hash[65];
    sigset_t winch;
    random_fill(raw, sizeof raw);
    base64_encode(raw, sizeof raw, key);
    sha256_hex("", 0, hash);
    sigemptyset(&winch);
    sigaddset(&winch, SIGWINCH);
    sigprocmask(SIG_BLOCK, &winch, NULL);
    s.sigfd = signalfd(-1, &winch, SFD_CLOEXEC | SFD_NONBLOCK);
    const struct api_request r = {.service = "lambda",
                                  .method = "GET",
                                  .path = path,
                                  .payload_hash = hash,
                                  .websocket = key,
                                  .take = converse,
                                  .ctx = &s};
    bool is_raw = make_raw(&old);
    int rc = cli_request(c, &r, &a);
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &old);
    if (s.sigfd >= 0)
        close(s.sigfd);
    ws_free(&s.in);
    buf_free(&s.out);
    return rc ? rc : s.rc;
}
