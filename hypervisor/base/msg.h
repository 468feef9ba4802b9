// SPDX-License-Identifier: Apache-2.0
/*
 * Typed, length-checked messages with file descriptors over SOCK_SEQPACKET
 * unix sockets. Used between dormoused's roles and with each dormouse-vmm.
 * Neither side trusts the other: sizes, counts and types are checked here and
 * by the receiver's table.
 */
#ifndef DORMOUSE_BASE_MSG_H
#define DORMOUSE_BASE_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define MSG_BODY_MAX 16384u
#define MSG_FDS_MAX  32u

struct msg {
    uint32_t type;
    uint32_t id; /* chosen by the requester, echoed in the answer; 0: event */
    uint32_t len;
    uint32_t nfds;
    int fds[MSG_FDS_MAX]; /* owned by the receiver; -1 once taken */
    _Alignas(8) uint8_t body[MSG_BODY_MAX];
};

/* Makes a connected pair, both close-on-exec. */
int msg_pair(int ret[2], struct err *e);
/* Sends; fds stay open in the caller. Blocks unless the socket is non-blocking (-EAGAIN). */
int msg_send(int sock, uint32_t type, uint32_t id, const void *body, size_t len, const int *fds,
             size_t nfds, struct err *e);
/* Receives one message. 0, -EAGAIN, -ECONNRESET at end of stream, -EBADMSG on nonsense
 * (fds are closed then). */
int msg_recv(int sock, struct msg *m, struct err *e);
/* The body as a struct of exactly `size` bytes, or NULL. */
const void *msg_body(const struct msg *m, size_t size);
/* Takes fd i out of the message (caller owns it), or -1. */
int msg_take_fd(struct msg *m, size_t i);
/* Closes what was not taken. */
void msg_close_fds(struct msg *m);

#endif
