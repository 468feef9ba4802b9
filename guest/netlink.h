// SPDX-License-Identifier: Apache-2.0
/* Building netlink messages: many in one buffer, sent in one system call. */
#ifndef DORMOUSE_GUEST_NETLINK_H
#define DORMOUSE_GUEST_NETLINK_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nl_batch {
    size_t len, last; /* last: where the newest message begins */
    bool bad;
    _Alignas(8) uint8_t data[1024];
};

int nl_open(int protocol);
/* Begins a message with its fixed part. */
void nl_msg(struct nl_batch *b, uint16_t type, uint16_t flags, uint32_t seq, const void *fixed,
            size_t len);
void nl_attr(struct nl_batch *b, uint16_t type, const void *data, size_t len);
/* Sends the batch and waits for the answer to its last message. The first error, else 0. */
int nl_talk(int fd, struct nl_batch *b);

#endif
