// SPDX-License-Identifier: Apache-2.0
/*
 * Device state of a stranger, and the lists inside it. The blocks of virtio
 * devices go on to the devices in fuzz_virtio_* and fuzz_vsock.
 */
#include <stdlib.h>

#include "../unit/snap_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dstate_reader block;
    size_t pos = 0, blocks = 0;
    bool sound = dr_check(data, size, NULL) == 0;
    walk_state(data, size);
    while (dr_next(data, size, &pos, &block, NULL) > 0) {
        struct dstate_reader found;
        blocks++;
        if (dr_find(data, size, block.tag, block.instance, &found, NULL) < 0 ||
            found.data > block.data)
            abort(); /* the first of its name counts */
    }
    if (sound && pos != size)
        abort();
    return blocks > size;
}
