// SPDX-License-Identifier: Apache-2.0
/* The life of a microVM; see fsm.h. */
#include "fsm.h"

#include <stddef.h>
#include <string.h>

/* Next state + 1, so that an empty cell means "refused". */
#define TO(s) (VM_##s + 1)

static const unsigned char table[VM_STATES][VM_EVENTS] = {
    [VM_PENDING] =
        {
            [EV_STARTED] = TO(RUNNING),
            [EV_TERMINATE] = TO(TERMINATING),
        },
    [VM_RUNNING] =
        {
            [EV_SUSPEND] = TO(SUSPENDING),
            [EV_ROLLBACK] = TO(RESUMING),
            [EV_TERMINATE] = TO(TERMINATING),
        },
    [VM_SUSPENDING] =
        {
            [EV_SUSPENDED] = TO(SUSPENDED),
            [EV_SUSPEND_FAILED] = TO(RUNNING),
            [EV_TERMINATE] = TO(TERMINATING),
        },
    [VM_SUSPENDED] =
        {
            [EV_RESUME] = TO(RESUMING),
            [EV_ROLLBACK] = TO(RESUMING),
            [EV_TERMINATE] = TO(TERMINATING),
        },
    [VM_RESUMING] =
        {
            [EV_RESUMED] = TO(RUNNING),
            [EV_RESUME_FAILED] = TO(SUSPENDED),
            [EV_ROLLED_BACK] = TO(SUSPENDED),
            [EV_TERMINATE] = TO(TERMINATING),
        },
    [VM_TERMINATING] =
        {
            [EV_TERMINATED] = TO(TERMINATED),
        },
};

static const char *const names[VM_STATES] = {
    [VM_PENDING] = "PENDING",       [VM_RUNNING] = "RUNNING",
    [VM_SUSPENDING] = "SUSPENDING", [VM_SUSPENDED] = "SUSPENDED",
    [VM_RESUMING] = "SUSPENDED",    [VM_TERMINATING] = "TERMINATING",
    [VM_TERMINATED] = "TERMINATED",
};

int fsm_next(enum vm_state s, enum vm_event ev)
{
    if ((unsigned)s >= VM_STATES || (unsigned)ev >= VM_EVENTS)
        return -1;
    return (int)table[s][ev] - 1;
}

const char *fsm_name(enum vm_state s)
{
    return (unsigned)s < VM_STATES ? names[s] : "?";
}

bool fsm_parse(const char *name, enum vm_state *ret)
{
    for (unsigned s = 0; s < VM_STATES; s++) {
        if (s != VM_RESUMING && strcmp(names[s], name) == 0) {
            *ret = (enum vm_state)s;
            return true;
        }
    }
    return false;
}

bool fsm_transient(enum vm_state s)
{
    return s == VM_PENDING || s == VM_SUSPENDING || s == VM_RESUMING || s == VM_TERMINATING;
}
