// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a microVM as one table: state x event -> next state. Pure; the
 * fleet asks it before it does anything, so that no path can invent a
 * transition. RESUMING is shown to clients as SUSPENDED.
 */
#ifndef DORMOUSE_API_FSM_H
#define DORMOUSE_API_FSM_H

#include <stdbool.h>

enum vm_state {
    VM_PENDING,
    VM_RUNNING,
    VM_SUSPENDING,
    VM_SUSPENDED,
    VM_RESUMING,
    VM_TERMINATING,
    VM_TERMINATED,
    VM_STATES
};

enum vm_event {
    EV_STARTED,        /* restored, run hook answered */
    EV_SUSPEND,        /* asked for, or idle */
    EV_SUSPENDED,      /* memory and disk are safe */
    EV_SUSPEND_FAILED, /* and the machine goes on */
    EV_RESUME,         /* asked for, or traffic */
    EV_RESUMED,
    EV_RESUME_FAILED, /* and the suspended files are as they were */
    EV_ROLLBACK,      /* asked for */
    EV_ROLLED_BACK,   /* and it stays suspended */
    EV_TERMINATE,     /* asked for, time is over, main process ended, start failed */
    EV_TERMINATED,
    VM_EVENTS
};

/* The next state, or -1 when the event does not fit. */
int fsm_next(enum vm_state s, enum vm_event ev);
/* What the row and the wire say. */
const char *fsm_name(enum vm_state s);
/* From a row; false for a word that is no state. */
bool fsm_parse(const char *name, enum vm_state *ret);
/* Something is under way that will end by itself. */
bool fsm_transient(enum vm_state s);

#endif
