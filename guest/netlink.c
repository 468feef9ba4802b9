// SPDX-License-Identifier: Apache-2.0
/* See netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define NLA_HEAD sizeof(struct nlattr)

int nl_open(int protocol)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return -errno;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    int one = 1;
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0)
        return -errno;
    return fd;
}

void nl_msg(struct nl_batch *b, uint16_t type, uint16_t flags, uint32_t seq, const void *fixed,
            size_t len)
{
    size_t need = NLMSG_SPACE(len);
    if (b->bad || sizeof(b->data) - b->len < need) {
        b->bad = true;
        return;
    }
    struct nlmsghdr h = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(len),
                         .nlmsg_type = type,
                         .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
                         .nlmsg_seq = seq};
    memset(b->data + b->len, 0, need);
    memcpy(b->data + b->len, &h, sizeof(h));
    memcpy(b->data + b->len + NLMSG_HDRLEN, fixed, len);
    b->last = b->len;
    b->len += need;
}

void nl_attr(struct nl_batch *b, uint16_t type, const void *data, size_t len)
{
    size_t need = (NLA_HEAD + len + 3) & ~(size_t)3;
    if (b->bad || sizeof(b->data) - b->len < need) {
        b->bad = true;
        return;
    }
    struct nlattr a = {.nla_len = (uint16_t)(NLA_HEAD + len), .nla_type = type};
    memset(b->data + b->len, 0, need);
    memcpy(b->data + b->len, &a, sizeof(a));
    memcpy(b->data + b->len + NLA_HEAD, data, len);
    b->len += need;
    uint32_t total = (uint32_t)(b->len - b->last);
    memcpy(b->data + b->last, &total, sizeof(total)); /* nlmsg_len comes first */
}

int nl_talk(int fd, struct nl_batch *b)
{
    struct nlmsghdr last;
    if (b->bad)
        return -EMSGSIZE;
    memcpy(&last, b->data + b->last, sizeof(last));
    last.nlmsg_flags |= NLM_F_ACK; /* errors of the others are answered anyway */
    memcpy(b->data + b->last, &last, sizeof(last));
    if (send(fd, b->data, b->len, 0) < 0)
        return -errno;
    int result = 0;
    for (;;) {
        _Alignas(8) uint8_t buf[2048];
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || h->nlmsg_type != NLMSG_ERROR)
            continue;
        struct nlmsgerr e;
        memcpy(&e, buf + NLMSG_HDRLEN, sizeof(e));
        if (e.error && result == 0)
            result = e.error;
        if (h->nlmsg_seq == last.nlmsg_seq)
            return result;
    }
}
