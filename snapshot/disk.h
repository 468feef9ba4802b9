// SPDX-License-Identifier: Apache-2.0
/*
 * Asynchronous I/O on a virtual disk of layers (disk_layers.h), for a device
 * that takes requests from a guest. Requests are begun in the order they come;
 * they end in any order, through callbacks of the I/O loop. One thread; ranges
 * and buffers have been checked by the caller.
 */
#ifndef DORMOUSE_SNAPSHOT_DISK_H
#define DORMOUSE_SNAPSHOT_DISK_H

#include <sys/uio.h>

#include "../hypervisor/base/ring.h"
#include "disk_layers.h"

enum disk_type { DISK_READ, DISK_WRITE, DISK_ZERO, DISK_DISCARD, DISK_FLUSH };

struct disk;
struct disk_req {
    /* Set by the caller. */
    enum disk_type type;
    uint64_t pos, end;  /* the range; pos moves on */
    struct iovec *iov;  /* DISK_READ, DISK_WRITE: iov[cur..niov) has as many bytes */
    unsigned cur, niov; /* DISK_ZERO needs one */

    /* disk.c's own. */
    struct ring_op op;
    struct disk *d;
    struct disk_req *next; /* among those waiting for a flush */
    enum { DISK_DATA, DISK_COPY_READ, DISK_COPY_WRITE } stage;
    uint64_t chunk;  /* of the range, in the running operation */
    bool short_zero; /* that may read less: zeros follow */
    bool writes;     /* counted in disk.nwrites */
    bool punch;      /* the running operation makes a hole */
    unsigned last;   /* last buffer of the running operation, … */
    size_t cut;      /* … shortened by this much */
};

struct disk {
    /* Set by the caller. */
    struct disk_layers layers;
    struct ring *ring;
    void (*done)(struct disk_req *r, bool ok); /* the request is the caller's again */
    void (*progress)(struct disk *d);          /* what had to wait may be possible now */
    void (*settled)(struct disk *d);           /* answers disk_settle() */

    /* disk.c's own. */
    struct disk_req *exclusive; /* the write that copies up */
    unsigned nwrites;
    bool unflushed; /* written to since the last flush began */
    bool failed;    /* an fsync failed: no flush can succeed any more */
    bool settling;
    struct disk_req *waiting, *flushing;
    bool flush_running;
    struct ring_op sync; /* of the running flush, … */
    bool marks;          /* … which has got to the marks */
    bool no_punch;       /* the file system cannot make holes */
    uint8_t zeros[OVERLAY_BLOCK], bounce[OVERLAY_BLOCK];
    struct iovec bounce_iov;
};

/* Before the first request; the struct is zeroed but for what the caller sets. */
void disk_init(struct disk *d);
/* False: it must not begin before other writes have ended. */
bool disk_may_begin(const struct disk *d, const struct disk_req *r);
/* done() follows, perhaps at once. */
void disk_begin(struct disk *d, struct disk_req *r);
/* No request comes any more: settled() when all writes have ended and are durable. */
void disk_settle(struct disk *d);
/* Of a settled disk: other files with the same content, which it takes. After an error the old
 * ones stay. */
int disk_exchange(struct disk *d, const int *fds, unsigned nfds, struct err *e);

#endif
