// SPDX-License-Identifier: Apache-2.0
/* Framed streams to the guest; see guest_link.h. */
#include "guest_link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_FIRST 4096u
#define IN_MAX   (GP_BODY_MAX + GP_HEADER_SIZE)

uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void glink_open(struct glink *g, int fd)
{
    glink_close(g);
    g->fd = fd;
}

void glink_close(struct glink *g)
{
    if (g->fd >= 0)
        close(g->fd);
    free(g->in);
    *g = (struct glink)GLINK_INIT;
}

int glink_fill(struct glink *g)
{
    if (g->off > 0) {
        memmove(g->in, g->in + g->off, g->len - g->off);
        g->len -= g->off;
        g->off = 0;
    }
    if (g->len == g->cap) {
        /* A message that has begun may be as long as the protocol allows, not longer. */
        size_t cap = g->cap ? g->cap * 4 : IN_FIRST;
        if (cap > IN_MAX)
            cap = IN_MAX;
        uint8_t *in = cap > g->cap ? realloc(g->in, cap) : NULL;
        if (!in)
            return -ENOMEM;
        g->in = in;
        g->cap = cap;
    }
    ssize_t n;
    do {
        n = recv(g->fd, g->in + g->len, g->cap - g->len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -EAGAIN : -ECONNRESET;
    if (n == 0)
        return -ECONNRESET;
    g->len += (size_t)n;
    return 0;
}

int glink_next(struct glink *g, struct gp_header *ret, const uint8_t **ret_body)
{
    if (g->len - g->off < GP_HEADER_SIZE)
        return 0;
    if (!gp_header_get(g->in + g->off, ret))
        return -EBADMSG;
    if (g->len - g->off - GP_HEADER_SIZE < ret->len)
        return 0;
    *ret_body = g->in + g->off + GP_HEADER_SIZE;
    g->off += GP_HEADER_SIZE + ret->len;
    return 1;
}

int glink_send(struct glink *g, uint16_t type, uint32_t id, const void *body, size_t len,
               uint64_t deadline)
{
    uint8_t head[GP_HEADER_SIZE];
    if (g->fd < 0)
        return -ENOTCONN;
    gp_header_put(head, type, id, (uint32_t)len);
    struct iovec iov[2] = {{head, sizeof head}, {(void *)(uintptr_t)body, len}};
    struct msghdr mh = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    while (mh.msg_iovlen) {
        ssize_t n = sendmsg(g->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            uint64_t now = now_ns();
            struct pollfd pf = {.fd = g->fd, .events = POLLOUT};
            if (now >= deadline)
                return -ETIMEDOUT;
            poll(&pf, 1, (int)((deadline - now) / NS_PER_MS % 60000) + 1);
            continue;
        }
        if (n < 0)
            return -ECONNRESET;
        for (; mh.msg_iovlen && (size_t)n >= mh.msg_iov->iov_len; mh.msg_iov++, mh.msg_iovlen--)
            n -= (ssize_t)mh.msg_iov->iov_len;
        if (mh.msg_iovlen) {
            mh.msg_iov->iov_base = (char *)mh.msg_iov->iov_base + n;
            mh.msg_iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

bool gp_reply_parse(const uint8_t *body, size_t len, struct gp_reply *ret)
{
    struct tlv_reader r = tlv_reader_init(body, len);
    uint16_t tag;
    const uint8_t *d;
    size_t n;
    bool ok = true;
    memset(ret, 0, sizeof *ret);
    while (ok && tlv_next(&r, &tag, &d, &n)) {
        switch (tag) {
        case GP_T_ERRNO:
            ok = tlv_get_u32(d, n, &ret->num);
            break;
        case GP_T_STATUS:
            ok = tlv_get_u32(d, n, &ret->status);
            break;
        case GP_T_OUTCOME:
            ok = tlv_get_u32(d, n, &ret->outcome);
            break;
        case GP_T_EXIT_STATUS:
            ok = tlv_get_u32(d, n, &ret->exit_status);
            break;
        case GP_T_SIGNAL:
            ok = tlv_get_u32(d, n, &ret->signal);
            break;
        case GP_T_OOM:
            ok = tlv_get_u32(d, n, &ret->oom);
            break;
        case GP_T_MEM_TOTAL:
            ok = tlv_get_u64(d, n, &ret->mem_total);
            break;
        case GP_T_MEM_AVAILABLE:
            ok = tlv_get_u64(d, n, &ret->mem_available);
            break;
        case GP_T_TEXT:
            /* Text is for people: what is too long is cut, control characters go. */
            n = n < sizeof ret->text ? n : sizeof ret->text - 1;
            for (size_t i = 0; i < n; i++)
                ret->text[i] = d[i] < ' ' || d[i] == 0x7f ? ' ' : (char)d[i];
            ret->text[n] = '\0';
            break;
        default:
            break;
        }
    }
    return ok && !r.bad;
}

bool gp_line_parse(const uint8_t *body, size_t len, struct gp_line *ret)
{
    struct tlv_reader r = tlv_reader_init(body, len);
    uint16_t tag;
    const uint8_t *d;
    size_t n;
    uint32_t partial = 0;
    bool ok = true;
    memset(ret, 0, sizeof *ret);
    ret->data = "";
    while (ok && tlv_next(&r, &tag, &d, &n)) {
        if (tag == GP_T_SEQ)
            ok = tlv_get_u64(d, n, &ret->seq);
        else if (tag == GP_T_REALTIME_NS)
            ok = tlv_get_u64(d, n, &ret->realtime_ns);
        else if (tag == GP_T_SOURCE)
            ok = tlv_get_u32(d, n, &ret->source);
        else if (tag == GP_T_PARTIAL)
            ok = tlv_get_u32(d, n, &partial);
        if (tag == GP_T_DATA) {
            ret->data = (const char *)d;
            ret->len = n;
        }
    }
    ret->partial = partial != 0;
    return ok && !r.bad;
}
