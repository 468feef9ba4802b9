// SPDX-License-Identifier: Apache-2.0
/*
 * ExecuteCommand: one command beside a microVM's application, its output in the
 * answer. Input goes in while output comes out, so that neither waits for the
 * other; output beyond the limit is read and dropped. OpenTerminal: one that
 * somebody types to (terminal.c).
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../hypervisor/base/mem.h"
#include "conn.h"
#include "digest.h"
#include "guest_talk.h"
#include "terminal.h"
#include "utf8.h"

#define DEFAULT_TIMEOUT_S 60u
#define MARGIN_S          10u /* init keeps the time; this is for when it does not */
#define DEFAULT_OUTPUT    (1u << 20)
#define INPUT_STEP        32768u
#define REQUEST_MAX       (200u * 1024u) /* of words and environment: what one message takes */

struct output {
    struct buf text;
    bool cut;
};

struct command {
    struct talk t;
    struct buf request, input; /* what is still to be sent: messages with their headers */
    size_t request_max, sent;
    struct output out, err;
    size_t output_max;
    struct gp_reply end;
};

static void command_free(struct command *c)
{
    if (c->input.data)
        explicit_bzero(c->input.data, c->input.len);
    if (c->request.data) /* it has the environment */
        explicit_bzero(c->request.data, c->request.len);
    buf_free(&c->request);
    buf_free(&c->input);
    buf_free(&c->out.text);
    buf_free(&c->err.text);
    talk_close(&c->t);
}

static uint32_t number(const struct op *o, const char *name, uint32_t otherwise)
{
    const json_t *v = json_object_get(o->in, name);
    return json_is_integer(v) ? (uint32_t)json_integer_value(v) : otherwise;
}

void exec_field(struct buf *b, uint16_t tag, const void *data, size_t len)
{
    uint8_t *at = buf_reserve(b, TLV_HEADER_SIZE + len);
    if (!at)
        return;
    struct tlv_writer w = tlv_writer_init(at, TLV_HEADER_SIZE + len);
    tlv_put_bytes(&w, tag, data, len);
    b->len += w.len;
}

static void add_text(struct buf *b, uint16_t tag, const char *text)
{
    if (text)
        exec_field(b, tag, text, strlen(text));
}

/* The application's environment is taken when none is given. */
static void add_environment(struct buf *b, const json_t *env)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)env, key, value)
    {
        struct buf pair = BUF_INIT;
        buf_printf(&pair, "%s=%s", key, json_string_value(value));
        exec_field(b, GP_T_ENV, pair.data, pair.len);
        b->bad |= pair.bad;
        if (pair.data)
            explicit_bzero(pair.data, pair.len);
        buf_free(&pair);
    }
}

void exec_fields(struct buf *b, const json_t *in)
{
    json_t *word;
    size_t i;
    json_array_foreach(json_object_get(in, "command"), i, word)
        add_text(b, GP_T_ARG, json_string_value(word));
    add_environment(b, json_object_get(in, "environmentVariables"));
    add_text(b, GP_T_USER, json_string_value(json_object_get(in, "user")));
    add_text(b, GP_T_WORKDIR, json_string_value(json_object_get(in, "workingDirectory")));
}

static int read_request(struct op *o, struct command *c)
{
    struct buf *b = &c->request;
    uint8_t number_space[16];
    struct tlv_writer w = tlv_writer_init(number_space, sizeof number_space);
    exec_fields(b, o->in);
    tlv_put_u32(&w, GP_T_TIMEOUT_MS, number(o, "timeoutInSeconds", DEFAULT_TIMEOUT_S) * 1000);
    buf_add(b, number_space, w.len);
    c->output_max = number(o, "maxOutputBytes", DEFAULT_OUTPUT);
    if (b->bad)
        return op_fail(o, TEXT_INTERNAL);
    return b->len > REQUEST_MAX ? op_fail(o, TEXT_COMMAND_TOO_LONG, REQUEST_MAX / 1024) : 0;
}

static void add_input(struct buf *b, const uint8_t *p, size_t len)
{
    uint8_t head[GP_HEADER_SIZE];
    do {
        size_t n = MIN(len, INPUT_STEP);
        gp_header_put(head, GP_STDIN, 0, (uint32_t)(TLV_HEADER_SIZE + n));
        buf_add(b, head, sizeof head);
        exec_field(b, GP_T_DATA, p, n);
        p += n;
        len -= n;
    } while (len > 0);
}

static bool decode_base64(const char *text, size_t len, uint8_t *ret, size_t *ret_len)
{
    AUTO_FREE char *url = malloc(len + 1);
    if (!url || strpbrk(text, "-_"))
        return false;
    for (size_t i = 0; i < len; i++)
        url[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    size_t n = len;
    while (n > 0 && len - n < 2 && text[n - 1] == '=')
        n--;
    return len % 4 == 0 && base64url_decode(url, n, ret, len, ret_len);
}

/* All of it as messages, and the one that ends it. */
static int read_input(struct op *o, struct command *c)
{
    const json_t *plain = json_object_get(o->in, "stdin");
    const char *coded = op_str(o, "stdinBase64");
    if (plain && coded)
        return op_fail(o, TEXT_TWO_INPUTS);
    if (plain && json_string_length(plain) > 0)
        add_input(&c->input, (const uint8_t *)json_string_value(plain),
                  json_string_length(plain));
    if (coded && *coded) {
        size_t len = strlen(coded), n = 0;
        AUTO_FREE uint8_t *data = malloc(len);
        if (!data)
            return op_fail(o, TEXT_INTERNAL);
        bool ok = decode_base64(coded, len, data, &n);
        if (ok && n > 0)
            add_input(&c->input, data, n);
        explicit_bzero(data, len);
        if (!ok)
            return op_fail(o, TEXT_BAD_BASE64);
    }
    add_input(&c->input, (const uint8_t *)"", 0);
    return c->input.bad ? op_fail(o, TEXT_INTERNAL) : 0;
}

static void take_output(struct command *c, struct output *to, const uint8_t *body, size_t len)
{
    struct tlv_reader r = tlv_reader_init(body, len);
    const uint8_t *data;
    uint16_t tag;
    size_t n;
    while (tlv_next(&r, &tag, &data, &n)) {
        if (tag != GP_T_DATA)
            continue;
        size_t room = c->output_max - MIN(c->output_max, to->text.len);
        to->cut |= n > room;
        buf_add(&to->text, data, MIN(n, room));
    }
}

/* 1 at the end, 0 to go on, -errno. */
static int take_messages(struct command *c, bool *started)
{
    struct gp_header h;
    const uint8_t *body;
    int r;
    while ((r = glink_next(&c->t.link, &h, &body)) > 0) {
        if (!tlv_valid(body, h.len) || !gp_reply_parse(body, h.len, &c->end))
            return -EBADMSG;
        if (h.type == GP_REPLY && !*started) {
            if (c->end.num)
                return 1;
            *started = true;
        } else if (h.type == GP_STDOUT) {
            take_output(c, &c->out, body, h.len);
        } else if (h.type == GP_STDERR) {
            take_output(c, &c->err, body, h.len);
        } else if (h.type == GP_EXIT && *started) {
            return 1;
        } else {
            return -EBADMSG;
        }
    }
    return r;
}

static int send_some(struct command *c)
{
    ssize_t n = send(c->t.link.fd, c->input.data + c->sent, c->input.len - c->sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->sent = c->input.len; /* how it ended is what we wait for */
        return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
    }
    c->sent += n > 0 ? (size_t)n : 0;
    return 0;
}

/* -ECANCELED when the client has left: then the end of our stream kills the command. */
static int converse(struct command *c, const struct conn *peer)
{
    bool started = false;
    for (;;) {
        int r = take_messages(c, &started);
        if (r != 0)
            return MIN(r, 0);
        uint64_t now = now_ns();
        if (now >= c->t.deadline)
            return -ETIMEDOUT;
        bool sending = started && c->sent < c->input.len;
        struct pollfd p[2] = {
            {.fd = c->t.link.fd, .events = (short)(POLLIN | (sending ? POLLOUT : 0))},
            {.fd = peer ? peer->fd : -1, .events = POLLRDHUP}};
        if (poll(p, 2, (int)MIN((c->t.deadline - now) / NS_PER_MS + 1, 60000u)) <= 0)
            continue;
        if (p[1].revents)
            return -ECANCELED;
        if (p[0].revents & POLLOUT && (r = send_some(c)) < 0)
            return r;
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR) && (r = glink_fill(&c->t.link)) < 0 &&
            r != -EAGAIN)
            return r;
    }
}

/* Text as text; bytes that are none in base64 under another name. */
static void write_output(struct op *o, const char *name, const struct output *x)
{
    char key[40];
    size_t len = x->text.len;
    const char *text = x->text.data ? (const char *)x->text.data : "";
    if (x->cut) /* not in the middle of a character */
        for (size_t back = 0; back < 4 && back < len && !utf8_ok(text, len); back++)
            len--;
    if (utf8_ok(text, len) && !memchr(text, 0, len)) {
        jsonw_key(&o->w, name);
        jsonw_strn(&o->w, text, len);
    } else {
        AUTO_FREE char *coded = malloc(4 * ((x->text.len + 2) / 3) + 1);
        snprintf(key, sizeof key, "%sBase64", name);
        if (coded)
            base64_encode(x->text.data, x->text.len, coded);
        else
            o->res->body.bad = true;
        jsonw_kstr(&o->w, key, coded ? coded : "");
    }
    snprintf(key, sizeof key, "%sTruncated", name);
    jsonw_kbool(&o->w, key, x->cut);
}

static int answer(struct op *o, const struct command *c, uint64_t took_ns)
{
    struct jsonw *w = &o->w;
    if (c->out.text.bad || c->err.text.bad)
        return op_fail(o, TEXT_INTERNAL);
    jsonw_open(w, '{');
    if (c->end.signal)
        jsonw_ku64(w, "signal", c->end.signal);
    else
        jsonw_ku64(w, "exitCode", c->end.exit_status);
    jsonw_kbool(w, "timedOut", c->end.signal && c->end.text[0]);
    write_output(o, "stdout", &c->out);
    write_output(o, "stderr", &c->err);
    jsonw_ku64(w, "durationMs", took_ns / NS_PER_MS);
    jsonw_close(w, '}');
    return 0;
}

/* ---- with a terminal ------------------------------------------------------- */

static void serve_terminal(void *ctx, struct exchange *x, struct http_res *res)
{
    struct talk *t = ctx;
    (void)res;
    terminal_serve(x, &t->link, TERMINAL_ORDERED, NULL);
    talk_close(t);
    free(t);
}

int op_OpenTerminal(struct op *o)
{
    if (!terminal_asked(o->req))
        return op_fail(o, TEXT_NO_WEBSOCKET);
    struct talk *t = calloc(1, sizeof *t);
    if (!t)
        return op_fail(o, TEXT_INTERNAL);
    *t = (struct talk)TALK_INIT;
    if (talk_open(o, t, 0) < 0) {
        free(t);
        return -1;
    }
    o->res->stream = serve_terminal;
    o->res->stream_ctx = t;
    return 0;
}

/* ---- without --------------------------------------------------------------- */

int op_ExecuteCommand(struct op *o)
{
    AUTO(command_free) struct command c = {.t = TALK_INIT};
    uint64_t begin = now_ns();
    if (read_request(o, &c) < 0 || read_input(o, &c) < 0 ||
        talk_open(o, &c.t, number(o, "timeoutInSeconds", DEFAULT_TIMEOUT_S) + MARGIN_S) < 0)
        return -1;
    int r = glink_send(&c.t.link, GP_EXEC, 1, c.request.data, c.request.len, c.t.deadline);
    if (r == 0)
        r = converse(&c, o->peer);
    if (r < 0)
        return talk_failed(o, &c.t, r);
    return c.end.num ? talk_refused(o, &c.end) : answer(o, &c, now_ns() - begin);
}
