// SPDX-License-Identifier: Apache-2.0
/*
 * Memory layers: what all images of one guest kernel have in common, its text
 * and constants, kept once in layers/<id>.layer. The id is the SHA-256 of the
 * content. A layer is made from the first image of a kernel; an image is
 * compared with it byte for byte when it is saved, so a layer made from a
 * hostile guest costs space and nothing else. VMMs get it as sealed memory in
 * huge pages, or as the file where the host has none.
 */
#ifndef DORMOUSE_API_LAYERS_H
#define DORMOUSE_API_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "../snapshot/snaplayer.h"

struct layers;
struct layer; /* open, with a reference */
struct vmm;

struct layers_config {
    int state_dir, images_dir;
    int kernel_fd;        /* the guest kernel */
    uint64_t kernel_text; /* 0: images are saved whole, without layers */
    bool huge;
};

/* Before the process gives up the file system: whether shared memory may have huge pages. */
bool layers_have_huge(void);

int layers_open(struct layers **ret, const struct layers_config *c, struct err *e);
void layers_close(struct layers *ls);
/* The one that an image names, checked against its id when it is not open yet. */
int layer_get(struct layers *ls, const uint8_t id[SNAP_LAYER_ID], struct layer **ret,
              struct err *e);
void layer_put(struct layers *ls, struct layer *l); /* NULL is fine */
/* For VMMs: to be mapped. Belongs to the layer. */
int layer_fd(const struct layer *l);
bool layer_is_huge(const struct layer *l);

/* For the image of a paused machine: the newest layer of this kernel, NULL in *ret when there
 * are none to be had. `fresh`: made from this machine. */
int layer_choose(struct layers *ls, struct vmm *v, bool fresh, struct layer **ret,
                 struct err *e);
/* Whether an image saved over it had better get a fresh one. */
bool layer_unlike(const struct layer *l, uint64_t same, uint64_t other);

/* Removes layers that no image names and nobody holds. Returns how many. */
unsigned layers_collect(struct layers *ls);

/* In the privileged parent: lets shared memory have huge pages where it is asked for. */
void layers_allow_huge(void);

#endif
