// SPDX-License-Identifier: Apache-2.0
/*
 * The fleet's I/O thread: one epoll over the attached microVMs and the socket
 * to the privileged parent; and the slots. Also the client of the parent's
 * messages (priv.h).
 */
#ifndef DORMOUSE_API_FLEET_IO_H
#define DORMOUSE_API_FLEET_IO_H

#include "priv.h"
#include "vmm.h"

struct fleet_io;

struct io_request { /* to the parent, waiting for its answer */
    struct io_request *next;
    uint32_t id;
    bool done, failed;
    struct ctl_fail fail;
    int pidfd, tap;
    uint32_t slot; /* of PRIV_SPAWN and PRIV_ADOPT */
};

/* lost_parent runs in the I/O thread when the parent's socket ends. */
int fleet_io_open(struct fleet_io **ret, int parent_sock, void (*lost_parent)(void *ctx),
                  void *ctx, struct err *e);
void fleet_io_close(struct fleet_io *io);

/* Hands a VMM over to the I/O thread, and takes it back. After detach the I/O thread does not
 * touch it any more. */
void fleet_io_attach(struct fleet_io *io, struct vmm *v);
void fleet_io_detach(struct fleet_io *io, struct vmm *v);
/* In the I/O thread: a stream of an attached VMM came or went. */
void fleet_io_stream(struct fleet_io *io, struct vmm *v, struct glink *g, int new_fd);

/* -ENOSPC when all slots are taken. */
int fleet_io_slot(struct fleet_io *io, uint32_t *ret, struct err *e);
unsigned fleet_io_slots_used(struct fleet_io *io); /* also those being cleaned up */
/* Only for a slot that was never spawned. */
void fleet_io_slot_free(struct fleet_io *io, uint32_t slot);
int fleet_io_spawn(struct fleet_io *io, const struct priv_spawn *s, int ctl, int *ret_pidfd,
                   int *ret_tap, struct err *e);
/* The next slot the parent has in use, from `from` on, which is ours from now on; *ret_slot
 * PRIV_SLOTS: there is none. *ret_ctl is -1 when its process has ended. */
int fleet_io_adopt(struct fleet_io *io, uint32_t from, uint32_t *ret_slot, int *ret_pidfd,
                   int *ret_ctl, struct err *e);
/* Routes a guest's address to the slot; other work may be done between the two. end must be
 * called when begin returned 0. */
int fleet_io_address_begin(struct fleet_io *io, struct io_request *q, uint32_t slot,
                           uint32_t ip, struct err *e);
int fleet_io_address_end(struct fleet_io *io, struct io_request *q, struct err *e);
int fleet_io_file(struct fleet_io *io, uint32_t which, int *ret_fd, struct err *e);
/* Asks the parent to end it and to clean up; the slot becomes free when it has. */
void fleet_io_release(struct fleet_io *io, uint32_t slot);
/* Until a slot that was released is free: its process has ended. */
void fleet_io_await_free(struct fleet_io *io, uint32_t slot, uint64_t deadline);
void fleet_io_kill(struct fleet_io *io, uint32_t slot);

#endif
