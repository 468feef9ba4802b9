// SPDX-License-Identifier: Apache-2.0
/*
 * One conversation with dormouse-init on a stream of its own, for an operation:
 * finds and wakes the microVM, sends the first message, takes messages until
 * the deadline. What the guest sends is a stranger's.
 */
#ifndef DORMOUSE_API_GUEST_TALK_H
#define DORMOUSE_API_GUEST_TALK_H

#include "guest_link.h"
#include "op.h"

struct talk {
    struct fleet *fleet;
    struct fleet_target target;
    struct glink link;
    uint64_t deadline;
    char vm_id[ID_CAP];
};
#define TALK_INIT          \
    {                      \
        .link = GLINK_INIT \
    }

/* Of the microVM that the request names. When it fails the error is answered: -1. */
int talk_open(struct op *o, struct talk *t, uint32_t limit_s);
void talk_close(struct talk *t);
/* The next message; its body stays valid until the next call. 0 or -errno. */
int talk_next(struct talk *t, struct gp_header *ret, const uint8_t **ret_body);
/* Answers for a conversation that broke: always -1. */
int talk_failed(struct op *o, const struct talk *t, int r);
/* Answers with the guest's own refusal: always -1. */
int talk_refused(struct op *o, const struct gp_reply *reply);

#endif
