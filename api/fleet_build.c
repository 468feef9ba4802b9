// SPDX-License-Identifier: Apache-2.0
/*
 * The image build: artifact -> checked zip and Dockerfile -> builder machine ->
 * application machine -> snapshot -> rows. Runs in a worker thread. On failure
 * nothing stays but the log; the reason goes to the version, and the states of
 * version and image change in one transaction.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "artifacts.h"
#include "build_vm.h"
#include "events.h"
#include "zip.h"

#define ARCHIVE_MAX  (4ull << 30)
#define CONTEXT_STEP 4096u

int fleet_build_result(struct fleet *f, struct store_version *v, const char *reason,
                       struct err *e)
{
    struct store_image img;
    int r = store_image_get(f->store, v->image, &img, e);
    if (r < 0)
        return r;
    double now = realtime_s();
    bool first = strcmp(img.state, "CREATING") == 0,
         update = strcmp(img.state, "UPDATING") == 0;
    v->updated_at = img.updated_at = now;
    snprintf(v->reason, sizeof v->reason, "%s", reason ? reason : "");
    snprintf(v->state, sizeof v->state, "%s", reason ? "FAILED" : "SUCCESSFUL");
    snprintf(v->build_state, sizeof v->build_state, "%s", v->state);
    if (!reason)
        snprintf(v->status, sizeof v->status, "ACTIVE");
    snprintf(reason ? img.latest_failed : img.latest_active, VERSION_CAP, "%u.0", v->major);
    if (first || update)
        snprintf(img.state, sizeof img.state, "%s%s", first ? "CREATE" : "UPDATE",
                 reason ? "_FAILED" : "D");
    r = store_version_set(f->store, v, &img, e);
    if (r == 0) {
        const struct event x = {.type = "image",
                                .image = v->image,
                                .major = v->major,
                                .state = v->state,
                                .reason = v->reason};
        events_tell(f->c.events, &x);
    }
    return r;
}

/* ---- input ---- */

/* s3://bucket/key, opened in the built-in store. */
static int open_artifact(struct build *b, int *ret_fd, uint64_t *ret_size, struct err *e)
{
    char bucket[BUCKET_CAP];
    const char *uri = b->config.artifact_uri ? b->config.artifact_uri : "";
    const char *rest = strncmp(uri, "s3://", 5) == 0 ? uri + 5 : "";
    const char *slash = strchr(rest, '/');
    b->code = "S3_INVALID_OBJECT";
    if (!slash || slash == rest || (size_t)(slash - rest) >= sizeof bucket || !slash[1])
        return err_set(e, EINVAL,
                       "the code artifact '%.200s' is not of the form s3://bucket/key", uri);
    snprintf(bucket, sizeof bucket, "%.*s", (int)(slash - rest), rest);
    int r = artifacts_open_object(b->f->artifacts, bucket, slash + 1, ret_fd, ret_size, e);
    if (r == -ENOENT)
        b->code = "S3_NO_SUCH_KEY";
    else if (r == -ENOTDIR)
        b->code = "S3_NO_SUCH_BUCKET";
    else if (r < 0 && r != -EINVAL)
        b->code = "INTERNAL_PLATFORM_ERROR";
    if (r == 0 && *ret_size > ARCHIVE_MAX)
        return err_set(e, EFBIG, "the archive is larger than %llu GiB", ARCHIVE_MAX >> 30);
    return r;
}

/* The archive as a disk of whole blocks, without a name. */
static int make_context(struct build *b, int zip, uint64_t size, struct err *e)
{
    b->code = "INTERNAL_PLATFORM_ERROR";
    b->context = openat(b->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (b->context < 0)
        return err_sys(e, errno, "make the build context's disk");
    off_t from = 0, to = 0;
    while ((uint64_t)from < size) {
        ssize_t n =
            copy_file_range(zip, &from, b->context, &to, (size_t)(size - (uint64_t)from), 0);
        if (n <= 0)
            return err_sys(e, n < 0 ? errno : EIO, "copy the archive to the context's disk");
    }
    if (ftruncate(b->context, (off_t)align_up(size, CONTEXT_STEP)) < 0)
        return err_sys(e, errno, "size the build context's disk");
    b->context_size = size;
    return 0;
}

static int read_input(struct build *b, struct err *e)
{
    AUTO_CLOSE int zip = -1;
    AUTO_FREE char *text = NULL;
    uint64_t size = 0;
    size_t len = 0;
    struct zip_info info;
    buildlog_step(&b->log, "[internal] load the code artifact %s", b->config.artifact_uri);
    int r = open_artifact(b, &zip, &size, e);
    if (r < 0)
        return r;
    b->code = "ARCHIVE_INVALID";
    r = zip_open(zip, size, "Dockerfile", DF_TEXT_MAX, &info, &text, &len, e);
    if (r == -ENOENT)
        b->code = "ARCHIVE_DOCKERFILE_NOT_FOUND";
    if (r < 0)
        return r;
    buildlog_say(&b->log, "transferring context: %u entries, %llu bytes", info.entries,
                 (unsigned long long)size);
    buildlog_done(&b->log);
    buildlog_step(&b->log, "[internal] load build definition from Dockerfile");
    b->code = "CONTAINER_BUILD_FAILED";
    if ((r = dockerfile_parse(text, len, &b->df, e)) < 0)
        return r;
    for (size_t i = 0; i < b->df.nnotes; i++)
        buildlog_say(&b->log, "WARN: line %u: %s", b->df.notes[i].line, b->df.notes[i].text);
    buildlog_say(&b->log, "%zu steps from dormouse/%s", b->df.nsteps, b->df.base);
    buildlog_done(&b->log);
    b->steps = (unsigned)b->df.nsteps;
    return make_context(b, zip, size, e);
}

static int make_disks(struct build *b, struct err *e)
{
    b->code = "INTERNAL_PLATFORM_ERROR";
    int r = image_base_open(b->f, b->df.base, &b->base, &b->disk_size, e);
    if (r == 0)
        r = overlay_make(b->dir, "disk.ovl", b->disk_size, &b->disk, e);
    if (r == 0)
        r = overlay_make(b->dir, "boot.ovl", b->disk_size, &b->boot, e);
    if (r < 0)
        return r;
    b->console = openat(b->dir, "console.log",
                        O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    return b->console < 0 ? err_sys(e, errno, "make the console log") : 0;
}

/* ---- the pipeline ---- */

static uint64_t allocated(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static int publish(struct build *b, struct err *e)
{
    struct image_meta meta = {.vcpus = b->vcpus, .mem_bytes = b->mem_bytes};
    b->code = "INTERNAL_PLATFORM_ERROR";
    snprintf(meta.base, sizeof meta.base, "%s", b->df.base);
    int r = image_meta_write(b->dir, &meta, e); /* with an fsync of the directory */
    if (r == 0 && fsync(b->f->images_dir) < 0)
        r = err_sys(e, errno, "publish the image");
    b->v.memory_bytes = b->saved.file_bytes;
    b->v.code_bytes = allocated(b->disk);
    b->v.disk_bytes = allocated(b->boot);
    return r;
}

static int admit(struct build *b, struct err *e)
{
    int r = fleet_admit_build(b->f, b->mem_bytes, false, e);
    if (r == -EAGAIN) {
        buildlog_step(&b->log, "[internal] waiting for memory that other builds have");
        err_clear(e);
        if ((r = fleet_admit_build(b->f, b->mem_bytes, true, e)) == 0)
            buildlog_done(&b->log);
    }
    b->admitted = r == 0 ? b->mem_bytes : 0;
    return r;
}

static int run(struct build *b, struct err *e)
{
    b->code = "INTERNAL_PLATFORM_ERROR";
    int r = image_config_parse(b->v.config, &b->config, e);
    if (r < 0)
        return r;
    image_peak(b->f, b->config.mem_mib, &b->vcpus, &b->mem_bytes);
    r = read_input(b, e);
    if (r == 0)
        r = make_disks(b, e);
    if (r == 0)
        r = admit(b, e);
    if (r == 0)
        r = build_execute(b, e);
    if (r == 0)
        r = build_snapshot(b, e);
    if (r == 0)
        r = build_validate(b, e);
    if (r == 0)
        r = publish(b, e);
    return r;
}

static void reason_text(const struct build *b, const struct err *e, char ret[REASON_CAP])
{
    const char *code = e->num == ENOSPC ? "DISK_STORAGE_FULL" : b->code;
    if (code && strcmp(code, "CONTAINER_BUILD_FAILED") == 0)
        snprintf(ret, REASON_CAP, "%s: The container image build failed. %s", code, e->msg);
    else
        snprintf(ret, REASON_CAP, "%s%s%s", code ? code : "", code ? ": " : "", e->msg);
}

static void cleanup(struct build *b)
{
    build_stop(b);
    fleet_address_drop(b->f, b->ip);
    layer_put(b->f->layers, b->layer);
    const int fds[] = {b->base, b->disk, b->boot, b->context, b->console, b->dir};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    dockerfile_free(&b->df);
    image_config_free(&b->config);
    store_version_free(&b->v);
    free(b);
}

static int begin(struct build *b, const char *image, uint32_t major, struct err *e)
{
    int r = store_version_get(b->f->store, image, major, &b->v, e);
    if (r < 0)
        return r;
    if (!uuid_is(b->v.build_id, strlen(b->v.build_id)))
        return err_set(e, EINVAL, "the version's row names no build");
    snprintf(b->v.file_id, sizeof b->v.file_id, "%s", b->v.build_id);
    snprintf(b->v.state, sizeof b->v.state, "IN_PROGRESS");
    snprintf(b->v.build_state, sizeof b->v.build_state, "IN_PROGRESS");
    b->v.updated_at = realtime_s();
    if (mkdirat(b->f->images_dir, b->v.file_id, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make the image's directory");
    b->dir = openat(b->f->images_dir, b->v.file_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dir < 0)
        return err_sys(e, errno, "open the image's directory");
    if ((r = buildlog_open(&b->log, b->dir, e)) < 0)
        return r;
    return store_version_set(b->f->store, &b->v, NULL, e);
}

/* True when the daemon is stopping. */
static bool leave(struct build *b)
{
    struct fleet *f = b->f;
    pthread_mutex_lock(&f->jlock);
    struct build **at = &f->building;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    bool stop = f->stop;
    pthread_mutex_unlock(&f->jlock);
    if (stop)
        b->code = "INTERNAL_PLATFORM_ERROR";
    return stop;
}

void fleet_build_job(struct fleet *f, const char *image, uint32_t major)
{
    struct err e = ERR_INIT, we = ERR_INIT;
    char reason[REASON_CAP];
    uint64_t t0 = now_ns();
    struct build *b = calloc(1, sizeof *b);
    if (!b) {
        log_error("out of memory: image '%s' is not built", image);
        return;
    }
    b->f = f;
    b->dir = b->base = b->disk = b->boot = b->context = b->console = b->log.fd = -1;
    b->code = "INTERNAL_PLATFORM_ERROR";
    pthread_mutex_lock(&f->jlock);
    b->next = f->building;
    f->building = b;
    pthread_mutex_unlock(&f->jlock);
    int r = begin(b, image, major, &e);
    if (r == 0)
        r = fleet_address_take(f, &b->ip, &e);
    if (r == 0)
        r = run(b, &e);
    build_stop(b);
    fleet_unadmit_build(f, b->admitted);
    if (leave(b) && r < 0) /* whatever it looked like from inside */
        err_set(&e, ECANCELED, "the host was stopped during the build");
    if (r < 0) {
        reason_text(b, &e, reason);
        buildlog_failed(&b->log, reason);
        if (b->dir >= 0 && snapfiles_drop_image(&snap_io_host, b->dir, &we) < 0)
            log_err(LOG_WARN, &we, "remove what is left of a build");
        log_warn("image '%s' version %u.0 failed: %s", image, major, reason);
    } else {
        log_info("image '%s' version %u.0 built in %.1f s: memory %.1f MiB, disk %.1f MiB",
                 image, major, (double)(now_ns() - t0) / 1e9,
                 (double)b->v.memory_bytes / 1048576,
                 (double)(b->v.code_bytes + b->v.disk_bytes) / 1048576);
    }
    buildlog_close(&b->log);
    if (b->v.image[0] && fleet_build_result(f, &b->v, r < 0 ? reason : NULL, &we) < 0) {
        /* Deleted meanwhile, or the store is broken: then nobody would ever remove the files.
         */
        log_err(LOG_WARN, &we, "write the result of a build");
        if (b->dir >= 0)
            snapfiles_drop_tree(&snap_io_host, f->images_dir, b->v.file_id);
    }
    cleanup(b);
    pool_refill(f->pool);
}
