// SPDX-License-Identifier: Apache-2.0
/* The block device itself, shared by virtio_blk.c (requests from the queue) and blk_io.c (what
 * becomes of them). */
#ifndef DORMOUSE_BLK_IO_H
#define DORMOUSE_BLK_IO_H

#include "blk_layers.h"
#include "bucket.h"
#include "virtio_mmio.h"

#define BLK_REQS   128u
#define BLK_SERIAL 20u

enum {
    BLK_T_IN = 0,
    BLK_T_OUT = 1,
    BLK_T_FLUSH = 4,
    BLK_T_GET_ID = 8,
    BLK_T_DISCARD = 11,
    BLK_T_WRITE_ZEROES = 13
};
enum { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

struct blk;
struct blk_req {
    struct ring_op op;
    struct blk *b;
    struct blk_req *next; /* in the free list or among those waiting for a flush */
    enum { BLK_DATA, BLK_COPY_READ, BLK_COPY_WRITE } stage;
    uint32_t type;
    uint32_t to_guest; /* bytes written to the guest, for the used ring */
    uint64_t pos, end; /* what is left of the disk range */
    uint64_t chunk;    /* of it, in the running operation */
    bool short_zero;   /* that may read less: zeros follow */
    bool writes;       /* counted in blk.nwrites */
    bool punch;        /* the running operation makes a hole */
    uint16_t head;
    unsigned cur, niov; /* what is left of the data buffers: iov[cur..niov) */
    unsigned last;      /* last buffer of the running operation, … */
    size_t cut;         /* … shortened by this much */
    uint8_t *status;    /* in guest memory */
    struct iovec iov[VIRTQ_CHAIN];
};

struct blk {
    struct virtio v;
    struct blk_layers layers;
    char serial[BLK_SERIAL];
    struct bucket bytes, ops;
    struct ring_op timer;
    struct ring_op again; /* after a full batch */
    struct blk_req *free;
    unsigned fresh;            /* reqs[fresh..] have never been used: untouched memory */
    struct blk_req *stalled;   /* popped, waits for its turn; nothing is popped after it */
    struct blk_req *exclusive; /* the write that copies up */
    unsigned nwrites;
    bool unflushed; /* written to since the last flush began */
    bool failed;    /* an fsync failed: no flush can succeed any more */
    bool final;     /* stopping: flush when the writes are done */
    struct blk_req *waiting, *flushing;
    bool flush_running;
    struct ring_op sync; /* of the running flush, … */
    bool marks;          /* … which has got to the marks */
    bool no_punch;       /* the file system cannot make holes */
    uint64_t read_bytes, write_bytes;
    uint8_t zeros[OVERLAY_BLOCK], bounce[OVERLAY_BLOCK];
    struct iovec bounce_iov;
    struct blk_req reqs[BLK_REQS];
};

/* Takes up requests while it may; virtio_blk.c. Each completion ends with it. */
void blk_process(struct blk *b);

void blk_req_free(struct blk_req *r);
/* Answers the guest, and gives up the request. */
void blk_finish(struct blk_req *r, uint8_t status);
/* A write to only part of a block that has to be copied up first. */
bool blk_needs_copy(const struct blk_req *r);
/* Reading, writing and writing zeroes: on with the next stretch. */
void blk_step(struct blk_req *r);
void blk_discard(struct blk_req *r);
void blk_flush(struct blk_req *r);
/* While stopping: goes on to the last flush when the writes are done. */
void blk_final_check(struct blk *b);

/* For ring_op.done of the requests and of blk.sync. */
void blk_done(struct ring_op *op, int res);
void blk_flush_done(struct ring_op *op, int res);

#endif
