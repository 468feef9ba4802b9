// SPDX-License-Identifier: Apache-2.0
/* The ring of events and its listeners; see events.h. */
#include "events.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "jsonw.h"
#include "uuid.h"

#define TAKE_BYTES 65536u

struct events {
    pthread_mutex_t lock;
    char boot[9];  /* numbers begin anew with each start of the daemon */
    uint64_t next; /* number of the next event, from 1 */
    char *kept[EVENTS_KEPT];
    struct listener *listeners[EVENTS_LISTENERS];
};

struct events *events_new(void)
{
    struct events *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    uint32_t boot;
    random_fill(&boot, sizeof boot);
    snprintf(v->boot, sizeof v->boot, "%08" PRIx32, boot);
    v->next = 1;
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

void events_free(struct events *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < EVENTS_KEPT; i++)
        free(v->kept[i]);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)(t.tv_sec * 1000 + t.tv_nsec / 1000000) / 1000.0;
}

/* NULL when out of memory: then there is a hole, and listeners are told. */
static char *text_of(const struct event *x)
{
    struct buf b = BUF_INIT;
    struct jsonw w;
    char version[16];
    snprintf(version, sizeof version, "%" PRIu32 ".0", x->major);
    jsonw_init(&w, &b);
    jsonw_open(&w, '{');
    jsonw_kstr(&w, "type", x->type);
    jsonw_kstr_opt(&w, "microvmId", x->id);
    jsonw_kstr(&w, "image", x->image);
    jsonw_kstr(&w, "imageVersion", version);
    jsonw_kstr(&w, "state", x->state);
    jsonw_kstr_opt(&w, "stateReason", x->reason);
    jsonw_ktime(&w, "time", now());
    jsonw_close(&w, '}');
    char *text = buf_cstr(&b); /* the JSON writer leaves no line break in it */
    if (!text)
        buf_free(&b);
    return text;
}

void events_tell(struct events *v, const struct event *x)
{
    static const uint64_t one = 1;
    if (!v)
        return;
    char *text = text_of(x);
    pthread_mutex_lock(&v->lock);
    char **slot = &v->kept[v->next++ % EVENTS_KEPT];
    free(*slot);
    *slot = text;
    for (size_t i = 0; i < EVENTS_LISTENERS; i++) {
        if (v->listeners[i] && write(v->listeners[i]->fd, &one, sizeof one) < 0)
            continue; /* it is readable already */
    }
    pthread_mutex_unlock(&v->lock);
}

/* "<boot>-<number>": the event behind it. */
static bool read_last(const struct events *v, const char *last, uint64_t *ret)
{
    uint64_t n;
    if (strncmp(last, v->boot, 8) != 0 || last[8] != '-' ||
        !parse_u64(last + 9, 0, v->next - 1, &n))
        return false;
    *ret = n + 1;
    return true;
}

int events_listen(struct events *v, const char *last, struct listener *ret, struct err *e)
{
    *ret = (struct listener){.v = v, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (ret->fd < 0)
        return err_sys(e, errno, "listen to events");
    int r = -ENOSPC;
    pthread_mutex_lock(&v->lock);
    ret->next = v->next;
    if (last)
        ret->lost = !read_last(v, last, &ret->next);
    for (size_t i = 0; i < EVENTS_LISTENERS && r < 0; i++) {
        if (!v->listeners[i]) {
            v->listeners[i] = ret;
            r = 0;
        }
    }
    pthread_mutex_unlock(&v->lock);
    if (r < 0) {
        close(ret->fd);
        ret->fd = -1;
        return err_set(e, ENOSPC, "there are %u listeners already", EVENTS_LISTENERS);
    }
    return 0;
}

void events_leave(struct listener *l)
{
    pthread_mutex_lock(&l->v->lock);
    for (size_t i = 0; i < EVENTS_LISTENERS; i++) {
        if (l->v->listeners[i] == l)
            l->v->listeners[i] = NULL;
    }
    pthread_mutex_unlock(&l->v->lock);
    close(l->fd);
    l->fd = -1;
}

void events_take(struct listener *l, struct buf *b)
{
    struct events *v = l->v;
    uint64_t count;
    size_t begin = b->len;
    if (read(l->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&v->lock);
    uint64_t first = v->next > EVENTS_KEPT ? v->next - EVENTS_KEPT : 1;
    if (l->next < first) {
        l->next = first;
        l->lost = true;
    }
    if (!l->begun) /* an id without data: where to go on when nothing comes before the break */
        buf_printf(b, "id: %s-%" PRIu64 "\n\n", v->boot, l->next - 1);
    l->begun = true;
    if (l->lost) /* whoever gets this looks at the lists once */
        buf_printf(b, "event: reset\nid: %s-%" PRIu64 "\ndata: {\"type\":\"reset\"}\n\n",
                   v->boot, l->next - 1);
    l->lost = false;
    for (; l->next < v->next && b->len - begin < TAKE_BYTES; l->next++) {
        const char *text = v->kept[l->next % EVENTS_KEPT];
        if (text)
            buf_printf(b, "id: %s-%" PRIu64 "\ndata: %s\n\n", v->boot, l->next, text);
        else
            l->lost = true;
    }
    static const uint64_t one = 1;
    if (l->next < v->next && write(l->fd, &one, sizeof one) < 0)
        l->lost = true;
    pthread_mutex_unlock(&v->lock);
}
