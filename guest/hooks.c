// SPDX-License-Identifier: Apache-2.0
/*
 * Lifecycle hooks: one POST to the application on 127.0.0.1, answered or tried
 * again until its time is up. The application is not trusted: its answer is
 * read into a bounded buffer and only the status line is believed.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http_status.h"
#include "init.h"

#define HOOK_PATH  "/aws/lambda-microvms/runtime/v1/"
#define PAUSE_MIN  (2u * MS)
#define PAUSE_MAX  (100u * MS)
#define LINGER     (1000u * MS)
#define TIMEOUT_MS 1000u

static void attempt(struct init *in);

static void hang_up(struct init *in)
{
    struct hook *h = &in->hook;
    int fd = h->ev.fd;
    if (fd >= 0) {
        loop_del(&in->loop, &h->ev);
        close(fd);
    }
    h->lingering = false;
}

static void finish(struct init *in, enum gp_hook_outcome outcome, uint32_t status,
                   const char *text)
{
    struct hook *h = &in->hook;
    struct reply rp;
    reply_init(&rp, NULL);
    tlv_put_u32(&rp.w, GP_T_STATUS, status);
    tlv_put_u32(&rp.w, GP_T_OUTCOME, outcome);
    tlv_put_str(&rp.w, GP_T_TEXT, text);
    ctl_reply(in, h->id, &rp);
    h->id = 0;
    loop_untimer(&in->loop, &h->again);
    loop_untimer(&in->loop, &h->limit);
    free(h->out);
    free(h->in);
    h->out = NULL;
    h->in = NULL;
    if (outcome != GP_HOOK_OK && outcome != GP_HOOK_HTTP) {
        hang_up(in);
        return;
    }
    /* The rest of the answer is read and forgotten, so that the server sees no reset. */
    h->lingering = true;
    shutdown(h->ev.fd, SHUT_WR);
    loop_events(&in->loop, &h->ev, EPOLLIN);
    loop_timer(&in->loop, &h->limit, LINGER);
}

static void later(struct init *in)
{
    struct hook *h = &in->hook;
    hang_up(in);
    loop_timer(&in->loop, &h->again, h->pause_ns);
    h->pause_ns = h->pause_ns * 2 > PAUSE_MAX ? PAUSE_MAX : h->pause_ns * 2;
}

/* The attempt came to nothing without an answer. */
static void broken(struct init *in, int err)
{
    struct hook *h = &in->hook;
    char text[128];
    if (err == ECONNREFUSED)
        h->refused = true;
    if (h->retry) {
        later(in);
        return;
    }
    if (err == ECONNREFUSED) {
        text_put(text, sizeof(text), "connection refused on port %u", h->port);
        finish(in, GP_HOOK_REFUSED, 0, text);
        return;
    }
    text_put(text, sizeof(text), "the application closed the connection without an answer%s%s",
             err ? ": " : "", err ? strerror(err) : "");
    finish(in, GP_HOOK_PROTOCOL, 0, text);
}

static void answered(struct init *in, uint32_t status)
{
    struct hook *h = &in->hook;
    char text[64];
    if (status == 503 && h->retry) {
        h->refused = false;
        later(in);
        return;
    }
    text_put(text, sizeof(text), "HTTP status %u", status);
    finish(in, status == 200 ? GP_HOOK_OK : GP_HOOK_HTTP, status, text);
}

static void receive(struct init *in)
{
    struct hook *h = &in->hook;
    if (!h->in && !(h->in = malloc(HOOK_REPLY_MAX))) {
        broken(in, ENOMEM);
        return;
    }
    ssize_t n = read(h->ev.fd, h->in + h->in_len, HOOK_REPLY_MAX - h->in_len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        broken(in, n < 0 ? errno : 0);
        return;
    }
    h->in_len += (size_t)n;
    uint32_t status;
    enum http_progress got = http_status(h->in, h->in_len, &status);
    if (got == HTTP_DONE)
        answered(in, status);
    else if (got == HTTP_BAD || h->in_len == HOOK_REPLY_MAX)
        finish(in, GP_HOOK_PROTOCOL, 0, "the application's answer is not HTTP/1");
}

static void drain(struct init *in)
{
    char buf[4096];
    ssize_t n = read(in->hook.ev.fd, buf, sizeof(buf));
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return;
    loop_untimer(&in->loop, &in->hook.limit);
    hang_up(in);
}

static void transmit(struct init *in)
{
    struct hook *h = &in->hook;
    while (h->out_off < h->out_len) {
        ssize_t n = send(h->ev.fd, h->out + h->out_off, h->out_len - h->out_off, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break; /* an early answer may be there to be read */
        h->out_off += (size_t)n;
    }
    loop_events(&in->loop, &h->ev, EPOLLIN);
}

static void on_socket(struct ev *ev, uint32_t events)
{
    struct init *in = container_of(ev, struct init, hook.ev);
    struct hook *h = &in->hook;
    if (h->lingering) {
        drain(in);
        return;
    }
    if (!h->sent_all) { /* the connection is decided */
        int err = 0;
        socklen_t len = sizeof(err);
        getsockopt(ev->fd, SOL_SOCKET, SO_ERROR, &err, &len);
        if (err) {
            broken(in, err);
            return;
        }
        h->sent_all = true;
    }
    if (events & EPOLLOUT)
        transmit(in);
    if (ev->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        receive(in);
}

static void attempt(struct init *in)
{
    struct hook *h = &in->hook;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(h->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    h->out_off = h->in_len = 0;
    h->sent_all = false;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = fd < 0 ? errno : 0;
    if (!err && connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
        err = errno;
    if (!err)
        err = -loop_add(&in->loop, &h->ev, fd, EPOLLIN | EPOLLOUT);
    if (!err)
        return;
    if (fd >= 0)
        close(fd);
    broken(in, err);
}

static void on_again(struct timer *t)
{
    attempt(container_of(t, struct init, hook.again));
}

static void on_limit(struct timer *t)
{
    struct init *in = container_of(t, struct init, hook.limit);
    struct hook *h = &in->hook;
    char text[96];
    if (h->lingering) {
        hang_up(in);
        return;
    }
    if (h->refused && h->ev.fd < 0) {
        text_put(text, sizeof(text), "nothing accepted connections on port %u within %u ms",
                 h->port, h->timeout_ms);
        finish(in, GP_HOOK_REFUSED, 0, text);
        return;
    }
    text_put(text, sizeof(text), "no answer within %u ms", h->timeout_ms);
    finish(in, GP_HOOK_TIMEOUT, 0, text);
}

/* The request is text and then the payload as it came. */
static int compose(struct hook *h, const struct req *r, struct fail *f)
{
    char type[128];
    const uint8_t *body = NULL;
    size_t body_len = 0;
    bool has_body = req_find(r, GP_T_PAYLOAD, &body, &body_len);
    if (!req_str(r, GP_T_CONTENT_TYPE, type, sizeof(type)) || strpbrk(type, "\r\n") ||
        body_len > HOOK_BODY_MAX)
        return fail_set(f, EINVAL, "the hook's payload or content type is malformed");
    size_t cap = 512 + body_len;
    h->out = malloc(cap);
    if (!h->out)
        return fail_set(f, ENOMEM, "out of memory");
    int n = text_put((char *)h->out, cap,
                     "POST " HOOK_PATH "%s HTTP/1.1\r\nHost: localhost:%u\r\n"
                     "User-Agent: dormouse\r\nAccept: */*\r\nConnection: close\r\n"
                     "%s%s%sContent-Length: %zu\r\n\r\n",
                     h->name, h->port, has_body && type[0] ? "Content-Type: " : "",
                     has_body ? type : "", has_body && type[0] ? "\r\n" : "", body_len);
    if (has_body)
        memcpy(h->out + n, body, body_len);
    h->out_len = (size_t)n + body_len;
    return 0;
}

static bool good_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz");
    return n > 0 && name[n] == '\0';
}

static int begin(struct init *in, const struct req *r, struct fail *f)
{
    struct hook *h = &in->hook;
    uint32_t port, retry;
    if (h->id)
        return fail_set(f, EBUSY, "a hook is under way already");
    if (!req_str(r, GP_T_NAME, h->name, sizeof(h->name)) || !good_name(h->name) ||
        !req_u32(r, GP_T_PORT, 0, &port) || port == 0 || port > 65535 ||
        !req_u32(r, GP_T_TIMEOUT_MS, TIMEOUT_MS, &h->timeout_ms) ||
        !req_u32(r, GP_T_RETRY, 0, &retry))
        return fail_set(f, EINVAL, "a hook needs NAME in small letters and a PORT");
    loop_untimer(&in->loop, &h->limit); /* the linger of the one before */
    hang_up(in);
    h->port = (uint16_t)port;
    h->retry = retry != 0;
    h->refused = false;
    h->pause_ns = PAUSE_MIN;
    int err = compose(h, r, f);
    if (err < 0)
        return err;
    h->id = r->id;
    loop_timer(&in->loop, &h->limit, h->timeout_ms * MS);
    attempt(in);
    return 0;
}

void hook_request(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    if (begin(in, r, &f) < 0)
        ctl_fail(in, r->id, &f);
}

void hook_init(struct init *in)
{
    in->hook = (struct hook){.ev = {.fd = -1, .fn = on_socket},
                             .limit = {.fn = on_limit},
                             .again = {.fn = on_again}};
}
