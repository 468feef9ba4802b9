// SPDX-License-Identifier: Apache-2.0
/* A message from the other side: header, then fields. What is read is written again and must
 * come out byte for byte the same. */
#include <stdlib.h>
#include <string.h>

#include "../../guest/abi/tlv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gp_header h;
    if (size >= GP_HEADER_SIZE && gp_header_get(data, &h)) {
        uint8_t again[GP_HEADER_SIZE];
        gp_header_put(again, h.type, h.id, h.len);
        if (memcmp(again, data, sizeof(again)) != 0)
            abort();
        data += GP_HEADER_SIZE;
        size -= GP_HEADER_SIZE;
    }
    if (size > GP_BODY_MAX)
        return 0;
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        return 0;
    struct tlv_writer w = tlv_writer_init(copy, size);
    struct tlv_reader r = tlv_reader_init(data, size);
    uint16_t tag;
    const uint8_t *value;
    size_t len;
    while (tlv_next(&r, &tag, &value, &len)) {
        uint32_t v32;
        uint64_t v64;
        char text[32];
        if (tlv_get_u32(value, len, &v32))
            tlv_put_u32(&w, tag, v32);
        else if (tlv_get_u64(value, len, &v64))
            tlv_put_u64(&w, tag, v64);
        else if (tlv_get_str(value, len, text, sizeof(text)))
            tlv_put_str(&w, tag, text);
        else
            tlv_put_bytes(&w, tag, value, len);
    }
    if (w.bad || memcmp(copy, data, w.len) != 0 || r.bad == (w.len == size))
        abort();
    free(copy);
    return 0;
}
