// SPDX-License-Identifier: Apache-2.0
/* Every cell of the life-cycle table, written down a second time by hand. */
#include "../../api/fsm.h"
#include "../tap.h"

static const struct {
    enum vm_state from;
    enum vm_event ev;
    enum vm_state to;
} edges[] = {
    {VM_PENDING, EV_STARTED, VM_RUNNING},
    {VM_PENDING, EV_TERMINATE, VM_TERMINATING},
    {VM_RUNNING, EV_SUSPEND, VM_SUSPENDING},
    {VM_RUNNING, EV_TERMINATE, VM_TERMINATING},
    {VM_SUSPENDING, EV_SUSPENDED, VM_SUSPENDED},
    {VM_SUSPENDING, EV_SUSPEND_FAILED, VM_RUNNING},
    {VM_SUSPENDING, EV_TERMINATE, VM_TERMINATING},
    {VM_SUSPENDED, EV_RESUME, VM_RESUMING},
    {VM_SUSPENDED, EV_TERMINATE, VM_TERMINATING},
    {VM_RUNNING, EV_ROLLBACK, VM_RESUMING},
    {VM_SUSPENDED, EV_ROLLBACK, VM_RESUMING},
    {VM_RESUMING, EV_ROLLED_BACK, VM_SUSPENDED},
    {VM_RESUMING, EV_RESUMED, VM_RUNNING},
    {VM_RESUMING, EV_RESUME_FAILED, VM_SUSPENDED},
    {VM_RESUMING, EV_TERMINATE, VM_TERMINATING},
    {VM_TERMINATING, EV_TERMINATED, VM_TERMINATED},
};
#define EDGES (sizeof edges / sizeof edges[0])

TEST(every_cell)
{
    for (unsigned s = 0; s < VM_STATES; s++) {
        for (unsigned ev = 0; ev < VM_EVENTS; ev++) {
            int want = -1;
            for (unsigned i = 0; i < EDGES; i++) {
                if (edges[i].from == s && edges[i].ev == ev)
                    want = (int)edges[i].to;
            }
            int got = fsm_next((enum vm_state)s, (enum vm_event)ev);
            if (!CHECK(got == want))
                printf("# state %u event %u: got %d, want %d\n", s, ev, got, want);
        }
    }
}

TEST(out_of_range)
{
    CHECK(fsm_next(VM_STATES, EV_STARTED) == -1);
    CHECK(fsm_next(VM_PENDING, VM_EVENTS) == -1);
    CHECK_STR(fsm_name(VM_STATES), "?");
}

TEST(names)
{
    for (unsigned s = 0; s < VM_STATES; s++) {
        enum vm_state back = VM_STATES;
        CHECK(fsm_parse(fsm_name((enum vm_state)s), &back));
        CHECK(back == (s == VM_RESUMING ? VM_SUSPENDED : (enum vm_state)s));
    }
    enum vm_state back;
    CHECK(!fsm_parse("running", &back));
    CHECK(!fsm_parse("", &back));
    CHECK_STR(fsm_name(VM_RESUMING), "SUSPENDED");
}

TEST(no_way_out_of_terminated)
{
    for (unsigned ev = 0; ev < VM_EVENTS; ev++)
        CHECK(fsm_next(VM_TERMINATED, (enum vm_event)ev) == -1);
    CHECK(!fsm_transient(VM_RUNNING) && !fsm_transient(VM_SUSPENDED));
    CHECK(fsm_transient(VM_PENDING) && fsm_transient(VM_RESUMING));
}

int main(void)
{
    RUN(every_cell);
    RUN(out_of_range);
    RUN(names);
    RUN(no_way_out_of_terminated);
    return TAP_DONE();
}
