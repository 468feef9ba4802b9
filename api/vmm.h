// SPDX-License-Identifier: Apache-2.0
/*
 * One dormouse-vmm process seen from the fleet: its control socket, the guest's
 * control and log streams, its slot. At any moment a VMM is either *attached*,
 * and the I/O thread serves its descriptors, or an operation owns it and pumps
 * them itself: so a resume costs no hand-over between threads.
 */
#ifndef DORMOUSE_API_VMM_H
#define DORMOUSE_API_VMM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/msg.h"
#include "../hypervisor/ctl.h"
#include "guest_link.h"

struct fleet_io;

struct vmm_call { /* an answer of the VMM that somebody waits for */
    struct vmm_call *next;
    uint32_t id;
    bool done;
    int num; /* positive errno of CTL_FAIL */
    struct err why;
    struct ctl_saved saved;
};

/* Lines of one read of the log stream; the batch ends with a call with line NULL, after which
 * the guest may forget them. */
typedef void vmm_log_fn(void *ctx, const struct gp_line *line);
/* In the I/O thread: the machine or its application is gone. */
typedef void vmm_lost_fn(void *ctx);

struct vmm {
    struct fleet_io *io;
    uint32_t slot, vcpus;
    int ctl, pidfd, tap;
    struct glink link, log;
    bool attached;
    char prepared[40]; /* the image whose memory it has; empty: none yet */
    bool ready;        /* CTL_READY seen */
    uint32_t machine;  /* enum ctl_state, as CTL_READY said */
    bool dead;         /* the process is gone or going */
    bool disk_behind;  /* it writes to the topmost frozen layer of its disk, not to the top */
    bool app_ended;    /* GP_EXITED seen */
    bool booted;       /* GP_HELLO seen on the control stream */
    char reason[400];  /* why dead or app_ended, for people */
    uint64_t last_seq;
    struct gp_reply reply; /* to the one guest request under way */
    uint32_t reply_id, guest_id;
    vmm_log_fn *on_log;
    vmm_lost_fn *on_lost;
    void *ctx;
    pthread_mutex_t lock; /* calls, next_id */
    pthread_cond_t cond;
    struct vmm_call *calls;
    uint32_t next_id;
    struct msg msg; /* for whoever pumps */
};

/* Starts a process in a free slot and waits until it is an embryo. */
int vmm_spawn(struct fleet_io *io, uint32_t vcpus, uint64_t mem_bytes, struct vmm **ret,
              struct err *e);
/* One that runs already, in a slot that is ours; CTL_READY is still to come. Takes the
 * descriptors over. NULL: out of memory. */
struct vmm *vmm_adopt(struct fleet_io *io, uint32_t slot, uint32_t vcpus, int ctl, int pidfd);
/* Ends the process; its slot is free again once the parent has cleaned up. NULL is fine. */
void vmm_free(struct vmm *v);
/* From any thread: SIGKILL, so that whoever waits for it fails soon. */
void vmm_kill(struct vmm *v);

/* One request to the VMM and its answer. saved may be NULL. */
int vmm_call(struct vmm *v, uint32_t type, const void *body, size_t len, const int *fds,
             size_t nfds, uint64_t deadline, struct ctl_saved *saved, struct err *e);
/* Owner only: waits until the guest's control stream is there (and, with hello, greeted). */
int vmm_wait_link(struct vmm *v, bool hello, uint64_t deadline, struct err *e);
/* Owner only: one request to dormouse-init and its reply, which is returned whatever its
 * errno. -ECONNRESET when the machine ended, -ETIMEDOUT. */
int vmm_guest(struct vmm *v, uint16_t type, const struct tlv_writer *body, uint64_t deadline,
              struct gp_reply *ret, struct err *e);
/* Owner only: serves the descriptors until something happened. */
int vmm_pump(struct vmm *v, uint64_t deadline, struct err *e);

/* For the I/O thread and the pump: what is readable. */
void vmm_on_ctl(struct vmm *v);
void vmm_on_link(struct vmm *v);
void vmm_on_log(struct vmm *v);

#endif
