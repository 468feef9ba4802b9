// SPDX-License-Identifier: Apache-2.0
/*
 * What parent.c and parent_adopt.c share: the slots, and the sockets through
 * which a VMM can be reached after the daemon that started it was killed.
 */
#ifndef DORMOUSE_API_PARENT_PRIV_H
#define DORMOUSE_API_PARENT_PRIV_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "../hypervisor/base/msg.h"
#include "parent.h"
#include "parent_spawn.h"
#include "priv.h"

enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_DEAD };

struct slot {
    enum slot_state state;
    bool adopted; /* started by a parent before this one: no child of ours */
    pid_t pid;
    int pidfd;
    uint32_t release_id; /* PRIV_RELEASE that waits for the end, or 0 */
    int tap_index;       /* 0: no tap */
    uint32_t ip;         /* routed to it, or 0 */
};

struct parent {
    const struct parent_config *c;
    struct spawn_host host;
    int sigfd, cgroup, netlink;
    int sockets; /* directory <run>/vm: a socket for each slot, named by its number */
    int ends;    /* epoll over the pidfds of adopted processes */
    pid_t api;   /* 0: none, or gone */
    int api_status;
    bool stopping; /* SIGTERM came */
    sigset_t old_mask;
    struct slot slots[PRIV_SLOTS];
    struct msg msg;
};

/* parent.c */
void parent_slot_ended(struct parent *p, int sock, uint32_t n, int status);

/* Opens the sockets' directory. One parent at a time may have the control groups: -EBUSY. */
int adopt_open(struct parent *p, struct err *e);
/* Takes over the processes a killed parent left, and removes everything else of it. */
int adopt_leftovers(struct parent *p, struct err *e);
/* The listening socket that a VMM of this slot will hold. */
int adopt_listen(struct parent *p, uint32_t slot, int *ret, struct err *e);
/* A new control connection to a live slot. */
int adopt_connect(struct parent *p, uint32_t slot, int *ret, struct err *e);
void adopt_forget(struct parent *p, uint32_t slot); /* the socket of a slot that is free now */
/* Adopted processes that have ended. */
void adopt_on_ends(struct parent *p, int sock);

#endif
