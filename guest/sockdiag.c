// SPDX-License-Identifier: Apache-2.0
/*
 * Ends TCP connections that cannot go on after a restore, so that applications
 * get an error at once instead of waiting for a peer that is gone. Listeners,
 * loopback and unix sockets stay. The kernel walks its whole table for a list,
 * so that is made while the machine is frozen before a snapshot; what is left
 * for the restore is one batch of SOCK_DESTROY.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>

#include "init.h"

#define STATE(n) (1u << (n))
/* All but CLOSE (7), LISTEN (10) and TIME_WAIT (6). */
#define STATES                                                                                \
    (STATE(1) | STATE(2) | STATE(3) | STATE(4) | STATE(5) | STATE(8) | STATE(9) | STATE(11) | \
     STATE(12))

struct diag_request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 req;
};

struct kill_list {
    struct diag_request *items;
    size_t count, cap;
};

/* The IPv4 address in an IPv6 one of the mapped kind, or NULL. */
static const uint8_t *mapped(const uint8_t *addr)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(addr, prefix, sizeof(prefix)) == 0 ? addr + 12 : NULL;
}

static bool is_local(const struct inet_diag_msg *m)
{
    static const uint8_t loop6[16] = {[15] = 1};
    const uint8_t *src = (const uint8_t *)m->id.idiag_src;
    const uint8_t *dst = (const uint8_t *)m->id.idiag_dst;
    size_t len = m->idiag_family == AF_INET6 ? 16 : 4;
    if (memcmp(src, dst, len) == 0)
        return true; /* to an address of this machine */
    if (len == 16 && memcmp(dst, loop6, 16) == 0)
        return true;
    const uint8_t *v4 = len == 16 ? mapped(dst) : dst;
    if (!v4)
        return false;
    return v4[0] == 127;
}

static bool is_peer(const struct inet_diag_req_v2 *r, const uint8_t *peer)
{
    const uint8_t *dst = (const uint8_t *)r->id.idiag_dst;
    const uint8_t *v4 = r->sdiag_family == AF_INET6 ? mapped(dst) : dst;
    return v4 && memcmp(v4, peer, 4) == 0;
}

static int add_kill(struct kill_list *k, const struct inet_diag_msg *m)
{
    if (k->count == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 32;
        struct diag_request *more = realloc(k->items, cap * sizeof(*more));
        if (!more)
            return -ENOMEM;
        k->items = more;
        k->cap = cap;
    }
    k->items[k->count++] = (struct diag_request){
        .head = {.nlmsg_len = sizeof(struct diag_request),
                 .nlmsg_type = SOCK_DESTROY,
                 .nlmsg_flags = NLM_F_REQUEST},
        .req = {.sdiag_family = m->idiag_family,
                .sdiag_protocol = IPPROTO_TCP,
                .idiag_states = STATES,
                .id = m->id},
    };
    return 0;
}

static int list_family(struct net *n, uint8_t family, struct kill_list *k)
{
    struct diag_request ask = {
        .head = {.nlmsg_len = sizeof(ask),
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                 .nlmsg_seq = ++n->seq},
        .req = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = STATES},
    };
    if (send(n->diag, &ask, sizeof(ask), 0) < 0)
        return -errno;
    for (;;) {
        _Alignas(8) uint8_t buf[8192];
        ssize_t got = recv(n->diag, buf, sizeof(buf), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        size_t left = (size_t)got;
        const uint8_t *p = buf;
        while (left >= sizeof(struct nlmsghdr)) {
            const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)p;
            size_t len = h->nlmsg_len;
            if (len < sizeof(*h) || len > left)
                return -EBADMSG;
            if (h->nlmsg_seq == n->seq && h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                struct nlmsgerr e;
                memcpy(&e, p + NLMSG_HDRLEN, sizeof(e));
                if (h->nlmsg_seq == n->seq)
                    return e.error;
            } else if (h->nlmsg_seq == n->seq &&
                       len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg))) {
                struct inet_diag_msg m;
                memcpy(&m, p + NLMSG_HDRLEN, sizeof(m));
                int err = is_local(&m) ? 0 : add_kill(k, &m);
                if (err < 0)
                    return err;
            }
            len = NLMSG_ALIGN(len);
            if (len >= left)
                break;
            p += len;
            left -= len;
        }
    }
}

void tcp_forget(struct net *n)
{
    free(n->dying);
    n->dying = NULL;
    n->ndying = 0;
    n->listed = false;
}

int tcp_list(struct net *n)
{
    struct kill_list k = {.items = NULL};
    tcp_forget(n);
    if (n->diag < 0)
        return n->diag;
    int err = list_family(n, AF_INET, &k);
    if (err == 0) {
        err = list_family(n, AF_INET6, &k);
        if (err == -ENOENT)
            err = 0; /* a kernel without IPv6 */
    }
    if (err < 0) {
        free(k.items);
        return err;
    }
    n->dying = k.items;
    n->ndying = k.count;
    n->listed = true;
    return 0;
}

/* Those whose other end is `peer` leave the list. */
static void spare(struct net *n, const uint8_t *peer)
{
    size_t left = 0;
    for (size_t i = 0; i < n->ndying; i++)
        if (!is_peer(&n->dying[i].req, peer))
            n->dying[left++] = n->dying[i];
    n->ndying = left;
}

int tcp_abort(struct net *n, const uint8_t *keep_peer)
{
    int err = n->listed ? 0 : tcp_list(n);
    if (err < 0)
        return err;
    if (keep_peer)
        spare(n, keep_peer);
    /* 200 at a time: the answers, errors only, must fit the socket's buffer */
    for (size_t at = 0; err == 0 && at < n->ndying; at += 200) {
        size_t some = n->ndying - at < 200 ? n->ndying - at : 200;
        if (send(n->diag, n->dying + at, some * sizeof(*n->dying), 0) < 0)
            err = -errno;
        uint8_t drain[256];
        /* a connection that ended by itself meanwhile is answered with ENOENT: fine */
        while (recv(n->diag, drain, sizeof(drain), MSG_DONTWAIT) > 0)
            ;
    }
    int count = (int)n->ndying;
    tcp_forget(n);
    return err < 0 ? err : count;
}
