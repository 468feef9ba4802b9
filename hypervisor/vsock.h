// SPDX-License-Identifier: Apache-2.0
/*
 * The vsock device: virtio_vsock.c (packets), vsock_conn.c (connections) and
 * vsock_state.c (snapshots). A connection is a stream socket of the host and a
 * pair of ports, with the credit of both directions and the bytes that the host
 * has not taken yet. No guest memory is kept. I/O thread only; the guest and the
 * socket's peer are not trusted.
 */
#ifndef DORMOUSE_VSOCK_H
#define DORMOUSE_VSOCK_H

#include "virtio_mmio.h"

#define VSOCK_CONNS    256u
#define VSOCK_BUF      (64u << 10) /* towards the host, per connection; the guest's credit */
#define VSOCK_BACK_MAX (1u << 20)  /* towards the guest, only around a save */

enum { VSOCK_SHUT_RCV = 1, VSOCK_SHUT_SEND = 2, VSOCK_SHUT_BOTH = 3 };

/* Packets a connection owes the guest, besides data. */
enum {
    VSOCK_DUE_REQUEST = 1,
    VSOCK_DUE_RESPONSE = 2,
    VSOCK_DUE_CREDIT = 4,
    VSOCK_DUE_SHUTDOWN = 8,
};

struct vsock;
struct vsock_conn {
    struct vsock *s;
    enum { VSOCK_FREE, VSOCK_CONNECTING, VSOCK_OPEN, VSOCK_CLOSING } state;
    uint32_t guest_port, host_port;
    int fd; /* -1: loaded from a snapshot and not attached yet */
    struct ring_op in, out;
    struct vsock_conn *next; /* in the queue of those with something for the guest */
    bool queued;
    uint8_t due;                   /* VSOCK_DUE_* */
    uint8_t shut_sent, shut_guest; /* VSOCK_SHUT_* told to and by the guest */
    bool readable;                 /* the socket may have something */
    bool eof;                      /* no: its peer has ended its direction, … */
    bool hup;                      /* … or both */

    uint32_t guest_alloc, guest_fwd; /* credit the guest gives */
    uint32_t sent;                   /* bytes given to the guest, modulo 2^32 like the rest */
    uint32_t received;               /* bytes the guest has sent */
    uint32_t fwd, fwd_told;          /* of them passed to the host; as last told to the guest */

    uint8_t *buf; /* VSOCK_BUF bytes: received, not passed on */
    uint32_t buf_off, buf_len;
    uint8_t *back; /* read from the host at a save, not given to the guest */
    uint32_t back_off, back_len;
};

#define VSOCK_TYPE_STREAM 1u
#define VSOCK_RESETS      512u        /* owed to the guest for ports without a connection */
#define VSOCK_FIRST_PORT  0x40000000u /* of connections from the host */

struct vsock {
    struct virtio v;
    struct machine_hooks hooks;
    unsigned used;                  /* conns[used..] have never been in use */
    struct vsock_conn *head, *tail; /* of those with something for the guest */
    uint32_t next_port;
    unsigned reset_first, nresets;
    bool tx_waits; /* for a place in resets */
    struct vsock_conn conns[VSOCK_CONNS];
    struct reset {
        uint32_t guest_port, host_port;
        uint16_t type;
    } resets[VSOCK_RESETS];
    struct iovec iov[VIRTQ_CHAIN];
};

/* ---- vsock_conn.c ---- */

/* NULL: table full or no memory. The fd is the connection's from here on if successful. */
struct vsock_conn *vsock_conn_new(struct vsock *s, uint32_t guest_port, uint32_t host_port,
                                  int fd);
struct vsock_conn *vsock_conn_find(struct vsock *s, uint32_t guest_port, uint32_t host_port);
void vsock_conn_close(struct vsock_conn *c);
/* Gives an fd to a loaded connection. */
void vsock_conn_attach(struct vsock_conn *c, int fd);

/* Puts it in the queue if there is something to send; takes the next from it. */
void vsock_conn_queue(struct vsock_conn *c);
struct vsock_conn *vsock_conn_next(struct vsock *s);
/* How many data bytes could be read for the guest now; 0 also when none are expected. */
uint32_t vsock_conn_sendable(const struct vsock_conn *c);
/* Listens for what the connection waits for from its socket. */
void vsock_conn_poll(struct vsock_conn *c);

/* Bytes for the guest, at most those of iov, > 0; 0: nothing now (state was updated). */
uint32_t vsock_conn_read(struct vsock_conn *c, struct iovec *iov, unsigned n);
/* Bytes from the guest; false: more than its credit, or the host is gone. */
bool vsock_conn_write(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len);
/* The guest ended one or both directions. False: the connection is over. */
bool vsock_conn_shutdown(struct vsock_conn *c, uint32_t flags);
/* Reads all that waits in the socket into `back`. -ENOBUFS: too much, -ENOTCONN: ended. */
int vsock_conn_drain(struct vsock_conn *c);

/* ---- virtio_vsock.c ---- */

/* Fills what receive buffers there are. */
void vsock_rx(struct vsock *s);
/* The connection is over, and the guest is told. */
void vsock_lost(struct vsock_conn *c);
/* A packet to say that there is no such connection; false: too many are owed already. */
bool vsock_owe_reset(struct vsock *s, uint32_t guest_port, uint32_t host_port, uint16_t type);

/* ---- vsock_state.c ---- */

int vsock_save(struct virtio *v, struct dstate_writer *w, struct err *e);
int vsock_load(struct virtio *v, struct dstate_reader *r, struct err *e);

#endif
