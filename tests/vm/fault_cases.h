// SPDX-License-Identifier: Apache-2.0
/* Cases of the fault suite in files of their own; see fault_drive.c. */
#ifndef DORMOUSE_TESTS_FAULT_CASES_H
#define DORMOUSE_TESTS_FAULT_CASES_H

#include "../tap.h"
#include "fault_load.h"

/* Each file counts for itself; true: no CHECK failed. */
#define FAULT_CASE(name)                        \
    static void name##_body(const char *image); \
    bool name(const char *image)                \
    {                                           \
        tap_.in_test = true;                    \
        tap_.test_failed = false;               \
        name##_body(image);                     \
        return !tap_.test_failed;               \
    }                                           \
    static void name##_body(const char *image)

bool case_full(const char *image);   /* disk */
bool case_slow(const char *image);   /* a disk that stands still for seconds */
bool case_busy(const char *image);   /* another program holds the database */
bool case_files(const char *image);  /* no descriptors left */
bool case_room(const char *image);   /* a full host suspends the idle */
bool case_rate(const char *image);   /* too many requests */
bool case_layers(const char *image); /* killed in the middle of checkpoints */
bool case_drift(const char *image);  /* an application that touches other pages than built */
bool case_runs(const char *image);   /* RUNS by each of four clients at once */
bool case_load(const char *image);   /* MINUTES of mixed load by CLIENTS leak nothing */
bool case_rows(const char *image);   /* ten thousand microVMs */

#endif
