// SPDX-License-Identifier: Apache-2.0
/* Terminals; see terminal.h. One thread moves both directions, a piece in flight in each. */
#include "terminal.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "../hypervisor/base/mem.h"
#include "op.h"
#include "uuid.h"
#include "ws.h"

#define PIECE      16384u
#define PING_MS    30000 /* of silence, to see whether the client is there */
#define SILENCE_MS 90000 /* it is not */
#define FLUSH_MS   5000  /* for the last words */
#define ORDER_MAX  4096u /* a longer text is typed */

struct terminal {
    struct conn *c;
    struct glink *g;
    enum terminal_kind kind;
    struct ws in;
    struct buf down, up; /* to the client, to the guest */
    size_t down_at, up_at;
    bool ordered, started, over;
    bool pinged;
    int64_t heard; /* ms: the client's last byte */
};

bool terminal_asked(const struct http_req *req)
{
    const char *upgrade = http_req_header(req, "upgrade");
    const char *version = http_req_header(req, "sec-websocket-version");
    const char *key = http_req_header(req, "sec-websocket-key");
    char accept[WS_ACCEPT];
    return req->upgrade && upgrade && strcasecmp(upgrade, "websocket") == 0 && version &&
           strcmp(version, "13") == 0 && key && ws_accept(key, accept);
}

static int shake_hands(struct exchange *x, const char *protocol)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    char accept[WS_ACCEPT];
    if (!ws_accept(http_req_header(x->req, "sec-websocket-key"), accept))
        return -EINVAL;
    buf_printf(
        &b,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\nx-amzn-requestid: %s\r\n",
        accept, x->req->id);
    if (protocol)
        buf_printf(&b, "Sec-WebSocket-Protocol: %s\r\n", protocol);
    buf_str(&b, "\r\n");
    x->status = 101;
    x->close = true;
    return b.bad ? -ENOMEM : conn_write(x->c, b.data, b.len, HTTP1_STALL_MS);
}

/* ---- to the client ---- */

static void say_json(struct terminal *t, struct buf *json)
{
    ws_put(&t->down, false, WS_TEXT, json->data, json->len);
    t->down.bad |= json->bad;
}

static void end(struct terminal *t, enum ws_code code, const char *reason)
{
    if (!t->over)
        ws_put_close(&t->down, false, code, reason);
    t->over = true;
}

static void fail(struct terminal *t, const char *text)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct jsonw w;
    jsonw_init(&w, &b);
    jsonw_open(&w, '{');
    jsonw_kstr(&w, "type", "error");
    jsonw_kstr(&w, "message", text);
    jsonw_close(&w, '}');
    say_json(t, &b);
    end(t, WS_FAILED, "it could not be started");
}

static void greet(struct terminal *t)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    char id[UUID_CAP];
    uuid_make(id);
    buf_printf(&b, "{\"type\":\"session_init\",\"session_id\":\"%s\"}", id);
    say_json(t, &b);
}

static void tell_exit(struct terminal *t, const struct gp_reply *r)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_printf(&b, "{\"type\":\"exit\",\"%s\":%u}", r->signal ? "signal" : "exitCode",
               r->signal ? r->signal : r->exit_status);
    if (t->kind == TERMINAL_ORDERED)
        say_json(t, &b);
    end(t, WS_NORMAL, "shell exited");
}

static void show(struct terminal *t, const uint8_t *body, size_t len)
{
    struct tlv_reader r = tlv_reader_init(body, len);
    const uint8_t *data;
    uint16_t tag;
    size_t n;
    while (tlv_next(&r, &tag, &data, &n)) {
        if (tag == GP_T_DATA && n > 0)
            ws_put(&t->down, false, WS_BINARY, data, n);
    }
}

/* One message of the guest: 1, 0 none, -errno. */
static int take_guest(struct terminal *t)
{
    struct gp_header h;
    struct gp_reply reply;
    const uint8_t *body;
    int r = glink_next(t->g, &h, &body);
    if (r == 0 && (r = glink_fill(t->g)) == 0)
        r = glink_next(t->g, &h, &body);
    if (r <= 0)
        return r == -EAGAIN ? 0 : r;
    if (!tlv_valid(body, h.len) || !gp_reply_parse(body, h.len, &reply))
        return -EBADMSG;
    if (h.type == GP_REPLY && !t->started) {
        if (reply.num)
            fail(t, reply.text[0] ? reply.text : "the guest refused");
        else
            greet(t);
        t->started = true;
    } else if ((h.type == GP_STDOUT || h.type == GP_STDERR) && t->started) {
        show(t, body, h.len);
    } else if (h.type == GP_EXIT && t->started) {
        tell_exit(t, &reply);
    } else {
        return -EBADMSG;
    }
    return 1;
}

/* ---- to the guest ---- */

static void put_message(struct buf *b, uint16_t type, const void *body, size_t len)
{
    uint8_t head[GP_HEADER_SIZE];
    gp_header_put(head, type, 1, (uint32_t)len);
    buf_add(b, head, sizeof head);
    buf_add(b, body, len);
}

static void type_in(struct terminal *t, const void *data, size_t len)
{
    uint8_t space[PIECE + TLV_HEADER_SIZE];
    do {
        size_t n = MIN(len, (size_t)PIECE);
        struct tlv_writer w = tlv_writer_init(space, sizeof space);
        tlv_put_bytes(&w, GP_T_DATA, data, n);
        put_message(&t->up, GP_STDIN, space, w.len);
        data = (const uint8_t *)data + n;
        len -= n;
    } while (len > 0);
}

static uint32_t number(const json_t *in, const char *name, uint32_t otherwise)
{
    const json_t *v = json_object_get(in, name);
    return json_is_integer(v) ? (uint32_t)json_integer_value(v) : otherwise;
}

static void put_size(struct tlv_writer *w, const json_t *in, const char *rows, const char *cols)
{
    tlv_put_u32(w, GP_T_ROWS, number(in, rows, 24));
    tlv_put_u32(w, GP_T_COLS, number(in, cols, 80));
}

/* What exec_fields() wrote, or the best shell there is; with a terminal. */
static void order(struct terminal *t, struct buf *body, bool command, const json_t *size)
{
    static const char *const shell[] = {
        "/bin/sh", "-c",
        "for s in bash zsh; do command -v $s >/dev/null && exec $s -l; done; exec sh -l"};
    uint8_t space[64];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    for (size_t i = 0; !command && i < ARRAY_LEN(shell); i++)
        exec_field(body, GP_T_ARG, shell[i], strlen(shell[i]));
    tlv_put_u32(&w, GP_T_PTY, 1);
    put_size(&w, size, "rows", "cols");
    buf_add(body, space, w.len);
    put_message(&t->up, GP_EXEC, body->data, body->len);
    t->up.bad |= body->bad;
    t->ordered = true;
}

/* The first message: what to run. */
static void start(struct terminal *t, const uint8_t *data, size_t len)
{
    AUTO(buf_free) struct buf text = BUF_INIT, body = BUF_INIT;
    json_t *in = json_read(data, len, &text);
    if (in && validate(shape_of(SHAPE_terminal), in, &text) == 0) {
        exec_fields(&body, in);
        order(t, &body, json_object_get(in, "command") != NULL, in);
    } else {
        const char *why = buf_cstr(&text);
        fail(t, why && *why ? why : "The first message is not what to run, as JSON.");
    }
    json_decref(in);
    if (body.data)
        explicit_bzero(body.data, body.len); /* it has the environment */
}

static void start_shell(struct terminal *t)
{
    AUTO(buf_free) struct buf body = BUF_INIT;
    exec_field(&body, GP_T_USER, "0", 1);
    order(t, &body, false, NULL);
}

/* True when it was an order. */
static bool obey(struct terminal *t, const uint8_t *data, size_t len)
{
    uint8_t space[64];
    struct tlv_writer w = tlv_writer_init(space, sizeof space);
    json_t *in = len <= ORDER_MAX && data[0] == '{'
                     ? json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL)
                     : NULL;
    AUTO(buf_free) struct buf why = BUF_INIT;
    const char *type = json_string_value(json_object_get(in, "type"));
    bool known = true;
    if (type && strcmp(type, "resize") == 0 &&
        validate(shape_of(SHAPE_resize), in, &why) == 0) {
        put_size(&w, in, "rows", "cols");
        put_message(&t->up, GP_RESIZE, space, w.len);
    } else if (type && strcmp(type, "eof") == 0 && json_object_size(in) == 1) {
        put_message(&t->up, GP_STDIN, NULL, 0);
    } else {
        known = false;
    }
    json_decref(in);
    return known;
}

static void take_frame(struct terminal *t, const struct ws_frame *f)
{
    switch (f->op) {
    case WS_PING:
        ws_put(&t->down, false, WS_PONG, f->data, f->len);
        break;
    case WS_CLOSE:
        end(t, WS_NORMAL, "");
        break;
    case WS_PONG:
        break;
    default:
        if (!t->ordered)
            start(t, f->data, f->len);
        else if (f->len > 0 && (f->op != WS_TEXT || !obey(t, f->data, f->len)))
            type_in(t, f->data, f->len);
    }
}

/* 1 when something came, 0, -errno: it has left. */
static int take_client(struct terminal *t)
{
    struct ws_frame f;
    uint8_t data[PIECE];
    int r = ws_next(&t->in, &f);
    if (r == 0) {
        ssize_t n = conn_try_read(t->c, data, sizeof data);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? (int)n : -ECONNABORTED;
        t->heard = clock_ms();
        t->pinged = false;
        buf_add(&t->in.in, data, (size_t)n);
        return 1;
    }
    if (r < 0)
        end(t, WS_PROTOCOL, "not a WebSocket frame, or too large");
    else
        take_frame(t, &f);
    return 1;
}

/* ---- both ---- */

static void sent(struct buf *b, size_t *at, size_t n)
{
    *at += n;
    if (*at < b->len)
        return;
    explicit_bzero(b->data, b->len); /* what was typed may be a password */
    buf_reset(b);
    *at = 0;
}

static int write_client(struct terminal *t)
{
    if (t->down_at == t->down.len)
        return 0;
    ssize_t n = conn_try_write(t->c, t->down.data + t->down_at, t->down.len - t->down_at);
    if (n < 0)
        return n == -EAGAIN ? 0 : (int)n;
    sent(&t->down, &t->down_at, (size_t)n);
    return 1;
}

static int write_guest(struct terminal *t)
{
    if (t->up_at == t->up.len)
        return 0;
    ssize_t n = send(t->g->fd, t->up.data + t->up_at, t->up.len - t->up_at,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    sent(&t->up, &t->up_at, (size_t)n);
    return 1;
}

static int rest(struct terminal *t, short client)
{
    short guest = (short)((t->down_at == t->down.len ? POLLIN : 0) |
                          (t->up_at < t->up.len ? POLLOUT : 0));
    struct pollfd p[2] = {{.fd = t->c->fd, .events = (short)(client | POLLRDHUP)},
                          {.fd = t->g->fd, .events = guest}};
    if (poll(p, 2, PING_MS / 2) < 0 && errno != EINTR)
        return -errno;
    /* Its end shows by reading, unless we do not read. */
    if ((p[0].revents & (POLLHUP | POLLERR)) ||
        (p[0].revents & POLLRDHUP && !(client & POLLIN)))
        return -ECONNABORTED;
    int64_t silent = clock_ms() - t->heard;
    if (silent > SILENCE_MS)
        return -ETIMEDOUT;
    if (silent > PING_MS && !t->pinged) {
        ws_put(&t->down, false, WS_PING, NULL, 0);
        t->pinged = true;
    }
    return 0;
}

/* One side's pieces wait for the other, so nothing grows. */
static int move(struct terminal *t)
{
    short want = 0;
    int n = 0, r = 0;
    if (t->up_at == t->up.len && t->down.len < 4 * PIECE) {
        if ((n = take_client(t)) < 0)
            return n;
        if (n == 0)
            want |= t->c->want;
    }
    if (!t->over && t->ordered && t->down_at == t->down.len) {
        if ((r = take_guest(t)) < 0)
            end(t, WS_GOING, "the microVM ended or was suspended");
        n += r != 0;
    }
    if (!t->over && (r = write_guest(t)) < 0)
        end(t, WS_GOING, "the microVM ended or was suspended");
    n += r > 0;
    if (t->down.bad || t->up.bad || t->in.in.bad)
        return -ENOMEM;
    if ((r = write_client(t)) < 0)
        return r;
    n += r;
    if (t->down_at < t->down.len)
        want |= t->c->want;
    return n > 0 || t->over ? 0 : rest(t, want);
}

void terminal_serve(struct exchange *x, struct glink *g, enum terminal_kind kind,
                    const char *protocol)
{
    struct terminal t = {.c = x->c, .g = g, .kind = kind, .heard = clock_ms()};
    if (shake_hands(x, protocol) < 0)
        return;
    if (kind == TERMINAL_SHELL)
        start_shell(&t);
    while (http1_has_rest(x->h)) {
        uint8_t data[1024];
        buf_add(&t.in.in, data, http1_take_rest(x->h, data, sizeof data));
    }
    while (!t.over && move(&t) == 0)
        ;
    if (t.over && t.down_at < t.down.len)
        conn_write(t.c, t.down.data + t.down_at, t.down.len - t.down_at, FLUSH_MS);
    ws_free(&t.in);
    buf_free(&t.down);
    buf_free(&t.up);
}
