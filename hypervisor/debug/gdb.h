// SPDX-License-Identifier: Apache-2.0
/*
 * A GDB server for one machine, all-stop, each vCPU a thread (number = index +
 * 1). gdb.c holds and releases the vCPUs and reports stops, gdb_commands.c
 * answers while they are held. Everything runs in the I/O thread; a held vCPU
 * is a parked one, so pause, save and stop work at any time. While all are
 * held the guest's counter stands still.
 */
#ifndef DORMOUSE_DEBUG_GDB_H
#define DORMOUSE_DEBUG_GDB_H

#include "gdb_packet.h"
#include "stops.h"

struct gdb {
    struct vm *vm;
    int listen_fd, fd; /* -1: nobody */
    struct ring_op listening, reading;
    struct gdb_input in;
    struct buf last; /* the last frame, in case it has to be sent again */
    bool no_ack, attaching, interrupted;

    enum { GDB_RUNNING, GDB_STOPPING, GDB_STOPPED } state;
    struct stops stops;
    enum gdb_action plan[CTL_VCPUS_MAX]; /* what was ordered last */
    unsigned current;                    /* vCPU whose registers and memory are meant */
    uint64_t counter;

    /* Under vm->lock. */
    bool held[CTL_VCPUS_MAX];
    struct {
        bool pending;
        struct kvm_debug_exit_arch why;
    } exits[CTL_VCPUS_MAX]; /* KVM_EXIT_DEBUG, not yet looked at */
};

/* `where`: PORT (of 127.0.0.1), ADDRESS:PORT, or the path of a socket; with ",wait" behind it
 * the machine does not begin before a debugger says so. Before the jail, after vm_create(). */
int gdb_open(struct gdb **ret, struct vm *vm, const char *where, struct err *e);
void gdb_start(struct gdb *g); /* once the ring is there */
/* A vCPU thread left KVM_RUN for the debugger. */
void gdb_vcpu_exit(struct gdb *g, struct vcpu *v);
/* I/O thread: something may have happened. */
void gdb_kicked(struct gdb *g);
/* I/O thread: the machine is over. */
void gdb_ended(struct gdb *g);

/* Between the two files. */
void gdb_reply(struct gdb *g, const char *text);
void gdb_send(struct gdb *g, const struct buf *text);
/* Lets the vCPUs go as `plan` says. */
void gdb_go(struct gdb *g);
/* Takes everything out of the guest and lets it run. */
void gdb_detach(struct gdb *g);
/* The reason of the last stop, as a reply. */
void gdb_report(struct gdb *g);
void gdb_command(struct gdb *g, const char *text, size_t len);

#endif
