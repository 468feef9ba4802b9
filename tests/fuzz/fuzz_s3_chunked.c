// SPDX-License-Identifier: Apache-2.0
/*
 * A stranger's artifact body. First byte: how it is coded ('x': XML instead).
 * However the bytes are cut into reads, the outcome is the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/s3_chunked.h"
#include "../../api/s3_xml.h"
#include "../../hypervisor/base/buf.h"
#include "../../hypervisor/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct outcome {
    int result;
    struct s3_chunked d;
    struct buf data;
};

static void decode(struct outcome *o, const struct s3_chunked_config *c, const uint8_t *data,
                   size_t len, size_t step)
{
    struct err e = ERR_INIT;
    s3_chunked_begin(&o->d, c);
    o->result = 0;
    for (size_t at = 0; at < len && o->result == 0; at += step) {
        size_t part = MIN(step, len - at), n = 0;
        uint8_t *out = buf_reserve(&o->data, part);
        if (!out)
            abort();
        o->result = s3_chunked_feed(&o->d, data + at, part, out, &n, &e);
        if (o->result == 0)
            o->data.len += n;
        if (n > part || (o->result < 0 && e.num == 0))
            abort();
    }
}

static bool count(void *ctx, const char *path, const char *value)
{
    (*(size_t *)ctx) += strlen(path) + strlen(value);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1 || len > 100000)
        return 0;
    if (data[0] == 'x') {
        size_t total = 0;
        xml_read((const char *)data + 1, len - 1, count, &total);
        return 0;
    }
    struct s3_chunked_config c = {.is_signed = data[0] & 1,
                                  .trailer = (data[0] & 2) != 0,
                                  .date = "20261120T060000Z",
                                  .scope = "20261120/us-east-1/s3/aws4_request"};
    struct outcome whole = {.data = BUF_INIT}, cut = {.data = BUF_INIT};
    char sum[32];
    decode(&whole, &c, data + 1, len - 1, len);
    decode(&cut, &c, data + 1, len - 1, 1 + (data[0] >> 2) % 13);
    if (whole.result != cut.result ||
        (whole.result == 0 &&
         (whole.data.len != cut.data.len ||
          s3_chunked_done(&whole.d) != s3_chunked_done(&cut.d) ||
          (whole.data.len > 0 && memcmp(whole.data.data, cut.data.data, whole.data.len) != 0))))
        abort();
    s3_chunked_trailer(&whole.d, "x-amz-checksum-crc32", sum, sizeof sum);
    buf_free(&whole.data);
    buf_free(&cut.data);
    return 0;
}
