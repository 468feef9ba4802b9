// SPDX-License-Identifier: Apache-2.0
/* StreamEvents and GetMetrics: what the daemon tells about itself while it works. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "../hypervisor/base/mem.h"
#include "events.h"
#include "exchange.h"
#include "fleet_info.h"
#include "metrics.h"
#include "op.h"

#define QUIET_MS 15000 /* a comment, so that both ends see that the other is there */

/* ---- events -------------------------------------------------------------- */

/* The client says nothing more; anything it sends, and its end, ends the stream. */
static bool client_left(const struct pollfd *p)
{
    return p->revents & (POLLIN | POLLHUP | POLLERR);
}

static void pump_events(struct exchange *x, struct listener *l)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_str(&b, "retry: 1000\n\n");
    for (;;) {
        events_take(l, &b);
        if (b.bad || (b.len && conn_write(x->c, b.data, b.len, HTTP1_STALL_MS) < 0))
            return;
        buf_reset(&b);
        struct pollfd p[2] = {{.fd = l->fd, .events = POLLIN},
                              {.fd = x->c->fd, .events = POLLIN}};
        /* A connection that only listens may be ended when another one needs its place. */
        __atomic_store_n(&x->c->idle_since, clock_ms(), __ATOMIC_RELAXED);
        int n = poll(p, 2, QUIET_MS);
        __atomic_store_n(&x->c->idle_since, 0, __ATOMIC_RELAXED);
        if (n < 0 && errno != EINTR)
            return;
        if (n > 0 && client_left(&p[1]))
            return;
        if (n == 0)
            buf_str(&b, ":\n\n");
    }
}

static void stream_events(void *ctx, struct exchange *x, struct http_res *res)
{
    struct api *a = ctx;
    struct listener l;
    const char *last = http_req_header(x->req, "last-event-id");
    if (events_listen(a->events, last, &l, NULL) < 0) {
        exchange_error(x, 429, "ThrottlingException",
                       "There are %u listeners already; end one, or try again later.",
                       EVENTS_LISTENERS);
        return;
    }
    x->close = true;
    res->content_type = "text/event-stream";
    http_res_header(res, "Cache-Control", "no-store");
    if (exchange_respond_head(x, res, UINT64_MAX) == 0)
        pump_events(x, &l);
    events_leave(&l);
}

int op_StreamEvents(struct op *o)
{
    if (!o->api->events)
        return op_fail(o, TEXT_INTERNAL);
    o->res->stream = stream_events;
    o->res->stream_ctx = o->api;
    return 0;
}

/* ---- metrics ------------------------------------------------------------- */

static void gauge(struct buf *b, const char *name, const char *help, uint64_t value)
{
    buf_printf(b, "# HELP dormouse_%s %s\n# TYPE dormouse_%s gauge\ndormouse_%s %" PRIu64 "\n",
               name, help, name, name, value);
}

void api_metrics(struct api *a, struct http_res *res)
{
    struct fleet_host_info info;
    struct buf *b = &res->body;
    fleet_host_info(a->fleet, &info);
    res->status = 200;
    res->content_type = "text/plain; version=0.0.4; charset=utf-8";
    buf_printf(b,
               "# HELP dormouse_info The release.\n# TYPE dormouse_info gauge\n"
               "dormouse_info{version=\"%s\"} 1\n",
               DORMOUSE_VERSION);
    buf_str(b, "# HELP dormouse_microvms MicroVMs that have not ended, by state.\n"
               "# TYPE dormouse_microvms gauge\n");
    for (unsigned s = 0; s < VM_STATES; s++) {
        if (s != VM_TERMINATED && s != VM_RESUMING) /* counted among the suspended */
            buf_printf(b, "dormouse_microvms{state=\"%s\"} %u\n", fsm_name((enum vm_state)s),
                       info.states[s]);
    }
    gauge(b, "pool_embryos", "Processes that wait for something to run.", info.embryos);
    gauge(b, "slots", "Processes at most.", info.slots);
    gauge(b, "slots_in_use", "Processes that run something, or come or go.", info.slots_in_use);
    gauge(b, "builds", "Builds under way or waiting.", info.builds);
    gauge(b, "disk_layers", "Frozen disk layers of microVMs and checkpoints.",
          info.disk_layers);
    gauge(b, "disk_layers_bytes", "What they took when they were made.", info.disk_layer_bytes);
    gauge(b, "cpus", "Processors of the host.", info.cpus);
    gauge(b, "memory_bytes", "Memory of the host.", info.memory_bytes);
    gauge(b, "memory_in_use_bytes", "Baselines of the microVMs that run.", info.memory_in_use);
    if (a->metrics)
        metrics_write(a->metrics, b);
}

int op_GetMetrics(struct op *o)
{
    api_metrics(o->api, o->res);
    return 0;
}
