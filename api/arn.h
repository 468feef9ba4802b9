// SPDX-License-Identifier: Apache-2.0
/*
 * ARNs and image versions ("2.0"). Pure functions on text from the network;
 * fuzzed by tests/fuzz/fuzz_arn.c.
 */
#ifndef DORMOUSE_API_ARN_H
#define DORMOUSE_API_ARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slice {
    const char *p;
    size_t n;
};

bool slice_is(struct slice s, const char *text);
/* Copies with a NUL; false when it does not fit or is empty. */
bool slice_copy(struct slice s, char *ret, size_t cap);

/* arn:<partition>:<service>:<region>:<account>:<kind><sep><name> */
struct arn {
    struct slice partition, service, region, account, kind, name;
    char sep; /* ':' or '/', 0 when there is no name */
};

enum arn_fault { ARN_OK, ARN_NO_PREFIX, ARN_MALFORMED };
enum arn_fault arn_parse(const char *text, struct arn *ret);

/* "3.0" or "3" -> 3. False for anything else, 0 and leading zeros included. */
bool version_parse(const char *text, uint32_t *ret);

#endif
