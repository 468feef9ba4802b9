// SPDX-License-Identifier: Apache-2.0
/* What a name server answers to init, and what an image declares (guest/upstream_text.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../guest/upstream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct upstream_spec s;
    struct fail f = {.num = 0};
    uint8_t ip[4], msg[DNS_MSG_MAX];
    uint16_t id = size > 1 ? (uint16_t)(data[0] << 8 | data[1]) : 0;
    uint8_t *exact = malloc(size + 1); /* its end is the end of what may be read */
    if (!exact)
        return 0;
    memcpy(exact, data, size);
    int r = dns_answer(exact, size, id, ip);
    if (r != 0 && r != -ENOENT && r != -EBADMSG)
        abort();
    exact[size] = '\0';
    r = upstream_parse((const char *)exact, &s, &f);
    if ((r < 0) != (f.num > 0))
        abort();
    if (r == 0 && (s.port == 0 || s.wait_s == 0 || s.name[0] == '\0' ||
                   (!ipv4_parse(s.host, ip) && dns_ask(msg, s.host, id) > DNS_MSG_MAX)))
        abort();
    free(exact);
    return 0;
}
