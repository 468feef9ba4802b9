// SPDX-License-Identifier: Apache-2.0
/* The endpoint proxy: who may reach which microVM, and getting there; see edge.h. */
#include "edge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "edge_priv.h"
#include "terminal.h"

#define BUSY_MAX         2048u
#define CONNECT_MS       5000 /* until a packet must have come back */
#define CONNECT_FIRST_MS 250  /* the first SYN after a resume may be lost; then doubled */
#define REFUSED_MS       300  /* how long an application may still be about to listen */
#define REFUSED_WOKEN_MS 2000
#define REFUSED_RETRY_MS 20

struct edge {
    struct edge_config config;
    pthread_mutex_t lock;
    struct {
        char label[40];
        unsigned requests;
    } busy[BUSY_MAX]; /* the first nbusy are in use */
    size_t nbusy;
};

int edge_open(struct edge **ret, const struct edge_config *c, struct err *e)
{
    struct edge *ed = calloc(1, sizeof *ed);
    if (!ed)
        return err_sys(e, ENOMEM, "start the endpoint proxy");
    ed->config = *c;
    pthread_mutex_init(&ed->lock, NULL);
    *ret = ed;
    return 0;
}

void edge_close(struct edge *ed)
{
    if (!ed)
        return;
    pthread_mutex_destroy(&ed->lock);
    free(ed);
}

/* Counts a request to a microVM; false when it has too many already. */
static bool busy_enter(struct edge *ed, const char *label)
{
    bool ok = true;
    size_t i = 0;
    pthread_mutex_lock(&ed->lock);
    while (i < ed->nbusy && strcmp(ed->busy[i].label, label) != 0)
        i++;
    if (i < ed->nbusy) {
        ok = ed->busy[i].requests < ed->config.per_vm;
    } else if (ed->nbusy < BUSY_MAX) {
        snprintf(ed->busy[i].label, sizeof ed->busy[i].label, "%s", label);
        ed->busy[i].requests = 0;
        ed->nbusy++;
    } else {
        ok = false;
    }
    if (ok)
        ed->busy[i].requests++;
    pthread_mutex_unlock(&ed->lock);
    return ok;
}

static void busy_leave(struct edge *ed, const char *label)
{
    pthread_mutex_lock(&ed->lock);
    for (size_t i = 0; i < ed->nbusy; i++) {
        if (strcmp(ed->busy[i].label, label) == 0) {
            if (--ed->busy[i].requests == 0)
                ed->busy[i] = ed->busy[--ed->nbusy];
            break;
        }
    }
    pthread_mutex_unlock(&ed->lock);
}

static void refuse(struct exchange *x, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void refuse(struct exchange *x, int status, const char *code, const char *fmt, ...)
{
    AUTO(http_res_free) struct http_res res = {.status = status};
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    http_res_header(&res, "x-aws-proxy-error", code);
    http_res_header(&res, "cache-control", "private, no-store");
    if (status == 429)
        res.retry_after = 1;
    buf_str(&res.body, "{\"code\":");
    json_quote(&res.body, code);
    buf_str(&res.body, ",\"message\":");
    json_quote(&res.body, text);
    buf_str(&res.body, "}");
    exchange_respond(x, &res);
}

/* One answer for every way not to have a right, so that nothing can be probed. */
static void unauthorized(struct exchange *x)
{
    refuse(x, 403, "UNAUTHORIZED", "Request missing authentication");
}

/* Is the token good for the microVM behind this label? Asked before anything is woken. */
static bool authorized(struct edge *ed, const char *label, const struct edge_ask *a,
                       struct token_claims *ret)
{
    struct timespec ts;
    struct store_vm vm;
    clock_gettime(CLOCK_REALTIME, &ts);
    double now = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    if (!a->token[0] || token_verify(ed->config.tokens, a->token, now, ret, NULL) < 0 ||
        store_vm_by_label(ed->config.store, label, &vm, NULL) < 0)
        return false;
    bool same = strcmp(vm.id, ret->vm_id) == 0;
    store_vm_free(&vm);
    return same;
}

/* ---- connecting --------------------------------------------------------------------- */

static int tcp_connect(uint32_t ip, uint16_t port, int64_t deadline, int *ret_fd)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(ip)}};
    int one = 1, status = 0;
    socklen_t size = sizeof status;
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n;
        do {
            int64_t left = deadline - clock_ms();
            n = poll(&p, 1, left > 0 ? (int)left : 0);
        } while (n < 0 && errno == EINTR);
        if (n == 0)
            return -ETIMEDOUT;
        if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &status, &size) < 0)
            return -errno;
        if (status != 0)
            return -status;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

/* Reaches the application: at the microVM's address, or on its loopback through the agent.
 * -ECONNREFUSED nobody listens, -EHOSTUNREACH the microVM does not answer. */
static int dial(struct edge *ed, struct fleet_target *t, uint16_t port, int *ret_fd)
{
    int64_t begin = clock_ms(), give_up = begin + CONNECT_MS;
    int64_t refused_until = begin + (t->resumed_us > 0 ? REFUSED_WOKEN_MS : REFUSED_MS);
    int patience = CONNECT_FIRST_MS;
    for (;;) {
        int64_t now = clock_ms();
        int r = tcp_connect(t->ip, port, MIN(now + patience, give_up), ret_fd);
        if (r == 0)
            return 0;
        now = clock_ms();
        if (r == -ETIMEDOUT) {
            patience *= 2;
        } else {
            if (r == -ECONNREFUSED &&
                fleet_forward(ed->config.fleet, t, port, ret_fd, NULL) == 0)
                return 0;
            if (r == -ECONNREFUSED && now >= refused_until)
                return r;
            poll(NULL, 0, REFUSED_RETRY_MS); /* a listener that appears is no event here */
        }
        if (now >= give_up)
            return -EHOSTUNREACH;
    }
}

static void acquire_failed(struct exchange *x, int r, const struct err *e)
{
    switch (r) {
    case -ENOENT:
        unauthorized(x);
        break;
    case -EHOSTDOWN:
        refuse(x, 502, "MICROVM_NOT_RUNNING", "%s", e->msg);
        break;
    case -EIO:
        refuse(x, 502, "MICROVM_RESUME_FAILED", "%s", e->msg);
        break;
    default:
        refuse(x, 502, "MICROVM_CONNECT_FAILED", "%s", e->msg);
        break;
    }
}

static void pass_through(struct edge *ed, struct exchange *x, const struct edge_ask *a,
                         struct fleet_target *t)
{
    struct conn *app = NULL;
    struct err e = ERR_INIT;
    int fd = -1, r = dial(ed, t, a->port, &fd);
    if (r == -ECONNREFUSED) {
        refuse(x, 502, "APP_CONNECT_FAILED", "Nothing listens on port %u of the microVM (yet).",
               a->port);
        return;
    }
    if (r == 0)
        r = conn_plain(&app, fd, &e);
    if (r < 0) {
        refuse(x, 502, "MICROVM_CONNECT_FAILED", "The microVM does not answer on port %u.",
               a->port);
        return;
    }
    fleet_bind(t, fd);
    r = edge_pump(x, a, app, t->resumed_us, ed->config.silence_ms,
                  ed->config.upgrade_silence_ms, &e);
    fleet_unbind(t);
    conn_close(app);
    if (r == -ETIMEDOUT)
        refuse(x, 504, "APP_TIMEOUT", "%s", e.msg);
    else if (r < 0)
        refuse(x, 502, "APP_RESPONSE_INVALID", "%s", e.msg);
}

/* Root's shell beside the application, with AWS's framing. */
static void shell(struct edge *ed, struct exchange *x, const struct edge_ask *a,
                  struct fleet_target *t)
{
    struct glink link = GLINK_INIT;
    struct err e = ERR_INIT;
    int fd = -1;
    if (fleet_stream(ed->config.fleet, t, &fd, &e) < 0) {
        refuse(x, 502, "MICROVM_CONNECT_FAILED", "%s", e.msg);
        return;
    }
    glink_open(&link, fd);
    terminal_serve(x, &link, TERMINAL_SHELL, a->offers_lambda ? EDGE_PROTOCOL : NULL);
    glink_close(&link);
}

static void forward(struct edge *ed, struct exchange *x, const char *label,
                    const struct edge_ask *a, bool to_shell)
{
    struct fleet_target t = {.ip = 0};
    struct err e = ERR_INIT;
    int r = fleet_acquire(ed->config.fleet, label, &t, &e);
    if (r < 0) {
        acquire_failed(x, r, &e);
        return;
    }
    if (to_shell)
        shell(ed, x, a, &t);
    else
        pass_through(ed, x, a, &t);
    fleet_release(ed->config.fleet, &t);
}

void edge_handle(struct edge *ed, struct exchange *x, const char *label)
{
    AUTO(edge_ask_free) struct edge_ask ask;
    struct token_claims claims;
    struct err e = ERR_INIT;
    if (edge_ask_read(&ask, x->req, &e) < 0) {
        refuse(x, 400, "BAD_REQUEST", "%s", e.msg);
        return;
    }
    /* A request with a body cannot change protocols: where would the body end? */
    ask.upgrade = ask.upgrade && http1_body_done(x->h);
    if (!authorized(ed, label, &ask, &claims)) {
        unauthorized(x);
        return;
    }
    if (claims.shell && !(ask.upgrade && terminal_asked(x->req))) {
        refuse(x, 502, "SHELL_NEEDS_WEBSOCKET", "A shell is reached by a WebSocket.");
        return;
    }
    if (!claims.shell && !token_allows(&claims, ask.port)) {
        refuse(x, 403, "UNAUTHORIZED", "Access to port denied");
        return;
    }
    if (ask.force_h2 && !claims.shell) {
        refuse(x, 502, "APP_PROTOCOL_UNSUPPORTED",
               "HTTP/2 towards the application is not available yet.");
        return;
    }
    if (!busy_enter(ed, label)) {
        refuse(x, 429, "TOO_MANY_REQUESTS", "The microVM has %u requests at work already.",
               ed->config.per_vm);
        return;
    }
    forward(ed, x, label, &ask, claims.shell);
    busy_leave(ed, label);
}
