// SPDX-License-Identifier: Apache-2.0
/* See logs.h. */
#include "logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "util.h"

#define QUEUE_MAX   32768u                   /* of unsent bytes in the stream's buffer */
#define STALL_UP    (30000u * MS)            /* a stream that takes nothing */
#define STALL_DOWN  (5000u * MS)             /* no stream */
#define BODY_FIELDS (8u * 5 + 4 * 2 + 8 * 2) /* SEQ REALTIME SOURCE PARTIAL DATA */

struct record {
    uint32_t len; /* of the text that follows */
    uint16_t source, partial;
    uint64_t seq, time_ns;
};

static void ring_copy_in(struct logs *lg, size_t off, const void *data, size_t len)
{
    size_t at = (lg->tail + off) % LOG_RING;
    size_t first = len < LOG_RING - at ? len : LOG_RING - at;
    memcpy(lg->ring + at, data, first);
    memcpy(lg->ring, (const uint8_t *)data + first, len - first);
}

static void ring_copy_out(const struct logs *lg, size_t off, void *data, size_t len)
{
    size_t at = (lg->tail + off) % LOG_RING;
    size_t first = len < LOG_RING - at ? len : LOG_RING - at;
    memcpy(data, lg->ring + at, first);
    memcpy((uint8_t *)data + first, lg->ring, len - first);
}

static void drop_oldest(struct logs *lg)
{
    struct record rec;
    ring_copy_out(lg, 0, &rec, sizeof(rec));
    size_t n = sizeof(rec) + rec.len;
    lg->tail = (lg->tail + n) % LOG_RING;
    lg->used -= n;
    lg->sent = lg->sent > n ? lg->sent - n : 0;
    if (lg->used == 0)
        lg->tail = 0; /* touch the same few pages again and again */
}

static bool put(struct logs *lg, uint32_t source, bool partial, const char *text, size_t len)
{
    struct record rec = {.len = (uint32_t)len,
                         .source = (uint16_t)source,
                         .partial = partial,
                         .time_ns = realtime_ns()};
    size_t need = sizeof(rec) + len;
    while (LOG_RING - lg->used < need) {
        if (!lg->dropping)
            return false;
        drop_oldest(lg);
        lg->lost++;
    }
    rec.seq = lg->seq++;
    ring_copy_in(lg, lg->used, &rec, sizeof(rec));
    ring_copy_in(lg, lg->used + sizeof(rec), text, len);
    lg->used += need;
    return true;
}

static void send_line(struct logs *lg, const struct record *rec, const char *text,
                      size_t ring_at)
{
    size_t cap = BODY_FIELDS + rec->len;
    uint8_t *at = chan_begin(lg->chan, cap);
    if (!at)
        return;
    struct tlv_writer w = tlv_writer_init(at, cap);
    tlv_put_u64(&w, GP_T_SEQ, rec->seq);
    tlv_put_u64(&w, GP_T_REALTIME_NS, rec->time_ns);
    tlv_put_u32(&w, GP_T_SOURCE, rec->source);
    if (rec->partial)
        tlv_put_u32(&w, GP_T_PARTIAL, 1);
    uint8_t *data = tlv_reserve(&w, GP_T_DATA, rec->len);
    if (!data)
        return;
    if (text)
        memcpy(data, text, rec->len);
    else
        ring_copy_out(lg, ring_at, data, rec->len);
    chan_commit(lg->chan, GP_LOG, 0, w.len);
}

/* Stands in for the lines that had to go: it carries the number of the last of them. */
static void send_gap(struct logs *lg, uint64_t first_kept)
{
    char text[96];
    int n = text_put(text, sizeof(text), "%llu log lines lost: the host could not take them",
                     (unsigned long long)lg->lost);
    struct record rec = {.len = (uint32_t)n,
                         .source = LOG_INIT,
                         .seq = first_kept - 1,
                         .time_ns = realtime_ns()};
    send_line(lg, &rec, text, 0);
    lg->lost = 0;
}

void logs_pump(struct logs *lg)
{
    while (lg->sent < lg->used && chan_up(lg->chan) && chan_queued(lg->chan) < QUEUE_MAX) {
        struct record rec;
        ring_copy_out(lg, lg->sent, &rec, sizeof(rec));
        if (lg->lost > 0 && lg->sent == 0)
            send_gap(lg, rec.seq);
        send_line(lg, &rec, NULL, lg->sent + sizeof(rec));
        lg->sent += sizeof(rec) + rec.len;
    }
    chan_flush(lg->chan);
    if (lg->used > 0)
        return;
    if (lg->settled) {
        void (*fn)(void *) = lg->settled;
        lg->settled = NULL;
        fn(lg->settled_ctx);
    }
    if (!lg->quiet)
        return;
    for (size_t i = 0; i < LOG_SOURCES; i++)
        if (lg->sources[i].fd >= 0)
            return;
    void (*fn)(void *) = lg->quiet;
    lg->quiet = NULL;
    fn(lg->quiet_ctx);
}

void logs_when_quiet(struct logs *lg, void (*fn)(void *ctx), void *ctx)
{
    lg->quiet = fn;
    lg->quiet_ctx = ctx;
    logs_pump(lg);
}

static void source_close(struct log_source *s)
{
    loop_del(s->logs->loop, &s->ev);
    close_fd(&s->fd);
    free(s->buf);
    s->buf = NULL;
}

/* Turns whole lines in the buffer into records. False when the ring is full. */
static bool take_lines(struct log_source *s, bool end)
{
    size_t off = 0;
    bool room = true;
    while (off < s->len) {
        char *nl = memchr(s->buf + off, '\n', s->len - off);
        size_t n = nl ? (size_t)(nl - (s->buf + off)) : s->len - off;
        bool whole = nl || end;
        if (!whole && (off > 0 || s->len < LOG_LINE))
            break;
        if (nl && n == 0 && s->partial) { /* the line ended exactly where it was cut */
            room = put(s->logs, s->source, false, "", 0);
        } else {
            room = put(s->logs, s->source, !whole, s->buf + off, n);
        }
        if (!room)
            break;
        s->partial = !whole;
        off += n + (nl ? 1 : 0);
    }
    memmove(s->buf, s->buf + off, s->len - off);
    s->len -= off;
    return room;
}

static void source_wait(struct log_source *s)
{
    struct logs *lg = s->logs;
    s->waiting = true;
    loop_del(lg->loop, &s->ev);
    if (!lg->stall.armed)
        loop_timer(lg->loop, &lg->stall, chan_up(lg->chan) ? STALL_UP : STALL_DOWN);
}

/* False when there is no more for now. */
static bool source_read(struct log_source *s)
{
    ssize_t n = read(s->fd, s->buf + s->len, LOG_LINE - s->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        s->len += (size_t)n;
    if (!take_lines(s, n <= 0))
        source_wait(s);
    else if (n <= 0)
        source_close(s);
    else
        return true;
    return false;
}

static void on_pipe(struct ev *ev, uint32_t events)
{
    struct log_source *s = (struct log_source *)(void *)ev;
    (void)events;
    source_read(s);
    logs_pump(s->logs);
}

void logs_settle(struct logs *lg, void (*fn)(void *ctx), void *ctx)
{
    for (size_t i = 0; i < LOG_SOURCES; i++) {
        struct log_source *s = &lg->sources[i];
        while (s->fd >= 0 && !s->waiting && source_read(s))
            ;
    }
    lg->settled = fn;
    lg->settled_ctx = ctx;
    logs_pump(lg);
}

/* There is room again: first what was read already, then the pipes. */
static void resume_sources(struct logs *lg)
{
    for (size_t i = 0; i < LOG_SOURCES; i++) {
        struct log_source *s = &lg->sources[i];
        if (s->fd < 0 || !s->waiting)
            continue;
        if (!take_lines(s, false))
            continue;
        s->waiting = false;
        if (loop_add(lg->loop, &s->ev, s->fd, EPOLLIN) < 0)
            source_close(s);
    }
}

static void on_stall(struct timer *t)
{
    struct logs *lg = container_of(t, struct logs, stall);
    lg->dropping = true;
    resume_sources(lg);
    logs_pump(lg);
}

void logs_ack(struct logs *lg, uint64_t seq)
{
    bool any = false;
    while (lg->sent > 0 && lg->used > 0) {
        struct record rec;
        ring_copy_out(lg, 0, &rec, sizeof(rec));
        if (rec.seq > seq)
            break;
        drop_oldest(lg);
        any = true;
    }
    if (!any)
        return;
    lg->dropping = false;
    loop_untimer(lg->loop, &lg->stall);
    resume_sources(lg);
    logs_pump(lg);
}

void logs_stream_up(struct logs *lg)
{
    lg->sent = 0;
    logs_pump(lg);
}

int logs_attach(struct logs *lg, int fd, uint32_t source)
{
    struct log_source *s = NULL;
    for (size_t i = 0; i < LOG_SOURCES && !s; i++)
        if (lg->sources[i].fd < 0)
            s = &lg->sources[i];
    char *buf = s ? malloc(LOG_LINE) : NULL;
    if (!buf) {
        close(fd);
        return s ? -ENOMEM : -EMFILE;
    }
    *s = (struct log_source){
        .ev = {.fd = -1, .fn = on_pipe}, .logs = lg, .fd = fd, .source = source, .buf = buf};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int r = loop_add(lg->loop, &s->ev, fd, EPOLLIN);
    if (r < 0)
        source_close(s);
    return r;
}

void logs_say(struct logs *lg, uint32_t source, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = text_vput(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    if (!put(lg, source, false, text, len)) {
        lg->lost++; /* told at the next occasion */
        lg->seq++;
    }
    logs_pump(lg);
}

int logs_init(struct logs *lg, struct loop *l, struct chan *chan)
{
    *lg = (struct logs){.loop = l, .chan = chan, .seq = 1, .stall = {.fn = on_stall}};
    for (size_t i = 0; i < LOG_SOURCES; i++)
        lg->sources[i] = (struct log_source){.ev = {.fd = -1}, .fd = -1};
    void *p = mmap(NULL, LOG_RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    lg->ring = p;
    return 0;
}

void logs_trim(struct logs *lg)
{
    if (lg->used == 0)
        madvise(lg->ring, LOG_RING, MADV_DONTNEED);
}
