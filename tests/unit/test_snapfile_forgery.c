// SPDX-License-Identifier: Apache-2.0
/*
 * Ten thousand random corruptions of a valid image and a valid session: bits
 * flipped, files cut and lengthened, numbers edited, sections moved and
 * exchanged. Half of them come with checksums that are right again, as a forger
 * would make them. Whatever is accepted must be sound; damage without right
 * checksums must be refused, with a reason. The seed is fixed.
 */
#include <errno.h>
#include <sys/stat.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/snapfile_layout.h"
#include "../tap.h"
#include "snap_sample.h"
#include "snap_walk.h"

#define ROUNDS 10000u

/* A file in memory that forgets what was done to it. */
struct victim {
    int fd;
    uint64_t len;
    struct snap_info info;
    uint8_t *good, *now; /* header page, device state, index; one behind the other */
    size_t state_len, index_len;
};

static uint8_t *state_of(struct victim *v, uint8_t *parts)
{
    (void)v;
    return parts + SNAP_PAGE;
}

static uint8_t *index_of(struct victim *v, uint8_t *parts)
{
    return parts + SNAP_PAGE + v->state_len;
}

static size_t parts_len(const struct victim *v)
{
    return SNAP_PAGE + v->state_len + v->index_len;
}

static void victim_open(struct victim *v, int fd)
{
    struct stat st;
    v->fd = fd;
    if (fstat(fd, &st) < 0 || snap_read_info(fd, &v->info, NULL) < 0)
        abort();
    v->len = (uint64_t)st.st_size;
    const struct snap_section *state = snap_section(&v->info, SNAP_SECTION_STATE),
                              *index = snap_section(&v->info, SNAP_SECTION_INDEX);
    v->state_len = state->len;
    v->index_len = index->len;
    v->good = malloc(parts_len(v));
    v->now = malloc(parts_len(v));
    if (fd_pread_full(fd, v->good, SNAP_PAGE, 0) < 0 ||
        fd_pread_full(fd, state_of(v, v->good), state->len, state->off) < 0 ||
        fd_pread_full(fd, index_of(v, v->good), index->len, index->off) < 0)
        abort();
}

static void victim_put(struct victim *v, uint8_t *parts)
{
    const struct snap_section *state = snap_section(&v->info, SNAP_SECTION_STATE),
                              *index = snap_section(&v->info, SNAP_SECTION_INDEX);
    if (fd_pwrite_full(v->fd, parts, SNAP_PAGE, 0) < 0 ||
        fd_pwrite_full(v->fd, state_of(v, parts), v->state_len, state->off) < 0 ||
        fd_pwrite_full(v->fd, index_of(v, parts), v->index_len, index->off) < 0)
        abort();
}

static void victim_close(struct victim *v)
{
    close(v->fd);
    free(v->good);
    free(v->now);
}

/* Numbers that break careless arithmetic, or that lie near the right one. */
static uint64_t odd_number(struct sample_rng *r, uint64_t right)
{
    static const uint64_t odd[] = {0,           1,
                                   23,          24,
                                   4095,        4096,
                                   4097,        0x7fffffff,
                                   0x80000000,  0xffffffff,
                                   1ull << 32,  1ull << 63,
                                   UINT64_MAX,  UINT64_MAX - 4095,
                                   2u << 20,    64ull << 30,
                                   65ull << 30, 1ull << 52};
    uint64_t v = sample_random(r);
    switch (v % 5) {
    case 0:
        return right + v / 5 % 9 - 4;
    case 1:
        return right + (v / 5 % 9 - 4) * SNAP_PAGE;
    case 2:
        return right + (v / 5 % 9 - 4) * SNAP_FULL_ALIGN;
    case 3:
        return v;
    default:
        return odd[v / 5 % ARRAY_LEN(odd)];
    }
}

static void edit_number(struct sample_rng *r, uint8_t *p, bool wide)
{
    if (wide)
        put_le64(p, odd_number(r, get_le64(p)));
    else
        put_le32(p, (uint32_t)odd_number(r, get_le32(p)));
}

static void edit_header(struct sample_rng *r, uint8_t *h)
{
    static const struct {
        uint16_t at;
        bool wide;
    } fields[] = {{AT_VERSION, false},     {AT_FLAGS, false},       {AT_ID, true},
                  {AT_PARENT, true},       {AT_MEM_BASE, true},     {AT_MEM_BYTES, true},
                  {AT_VCPUS, false},       {AT_GIC, false},         {AT_MIDR, true},
                  {AT_CNTFRQ, true},       {AT_FINGERPRINT, true},  {AT_DATA_OFF, true},
                  {AT_DATA_LEN, true},     {AT_PAGES_STORED, true}, {AT_PAGES_ZERO, true},
                  {AT_FILE_LEN, true},     {AT_NSECTIONS, false},   {AT_SECTIONS, false},
                  {AT_SECTIONS + 8, true}, {AT_SECTIONS + 16, true}};
    unsigned i = (unsigned)(sample_random(r) % ARRAY_LEN(fields));
    unsigned at = fields[i].at;
    if (at >= AT_SECTIONS)
        at += (unsigned)(sample_random(r) % 3) * SECTION_BYTES;
    edit_number(r, h + at, fields[i].wide);
}

/* Two entries of the section table, or parts of the files, change places. */
static void move_sections(struct sample_rng *r, struct victim *v)
{
    uint8_t *a = v->now + AT_SECTIONS, *b = a + SECTION_BYTES, swap[SECTION_BYTES];
    switch (sample_random(r) % 4) {
    case 0: /* the order is free: a reader must find them */
        memcpy(swap, a, sizeof swap);
        memcpy(a, b, sizeof swap);
        memcpy(b, swap, sizeof swap);
        break;
    case 1: /* places exchanged */
        memcpy(swap, a + 8, 16);
        memcpy(a + 8, b + 8, 16);
        memcpy(b + 8, swap, 16);
        break;
    case 2: { /* a run moved, or doubled */
        size_t n = v->index_len / SNAP_RUN_BYTES;
        uint8_t *index = index_of(v, v->now);
        memmove(index + sample_random(r) % n * SNAP_RUN_BYTES,
                index + sample_random(r) % n * SNAP_RUN_BYTES, SNAP_RUN_BYTES);
        break;
    }
    default: { /* a piece of the state over another */
        size_t len = sample_random(r) % 200 + 1;
        uint8_t *state = state_of(v, v->now);
        memmove(state + sample_random(r) % (v->state_len - len),
                state + sample_random(r) % (v->state_len - len), len);
    }
    }
}

static void edit_length_in_state(struct sample_rng *r, struct victim *v)
{
    uint8_t *state = state_of(v, v->now);
    size_t pos = 0, block = 0;
    struct dstate_reader b;
    uint64_t pick = sample_random(r) % 8;
    /* The header of a block, or of a field in it. */
    while (block = pos, dr_next(state, v->state_len, &pos, &b, NULL) > 0 && pick-- > 0)
        ;
    uint8_t *at = state + block;
    if (block >= v->state_len)
        return;
    if (sample_random(r) % 2)
        edit_number(r, at + 8, false);
    else
        edit_number(r, at + 12 + 4, false);
}

static void correct(struct victim *v)
{
    uint8_t *h = v->now;
    const uint8_t *const parts[] = {state_of(v, v->now), index_of(v, v->now)};
    const size_t lens[] = {v->state_len, v->index_len};
    for (unsigned i = 0; i < 3; i++) { /* where the file has the section as written */
        uint8_t *s = h + AT_SECTIONS + i * SECTION_BYTES;
        uint64_t off = get_le64(s + 8), len = get_le64(s + 16);
        for (unsigned k = 0; k < 2; k++) {
            const struct snap_section *was =
                snap_section(&v->info, k == 0 ? SNAP_SECTION_STATE : SNAP_SECTION_INDEX);
            if (off >= was->off && range_ok(off - was->off, len, lens[k]))
                put_le32(s + 4, crc32c(0, parts[k] + (off - was->off), (size_t)len));
        }
    }
    put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
}

struct tally {
    unsigned refused, accepted, silent, unsound, unexplained, missed;
};

/* One corruption of the parts, or of the length. */
static void corrupt(struct sample_rng *r, struct victim *v, uint64_t *len)
{
    size_t total = parts_len(v);
    switch (sample_random(r) % 8) {
    case 0:
    case 1:
        for (uint64_t n = sample_random(r) % 8 + 1; n > 0; n--) {
            uint64_t bit = sample_random(r) % (total * 8);
            v->now[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        break;
    case 2: { /* bits where they matter most */
        uint64_t bit = sample_random(r) % ((AT_SECTIONS + 3 * SECTION_BYTES) * 8);
        v->now[bit / 8] ^= (uint8_t)(1u << bit % 8);
        break;
    }
    case 3:
        *len = sample_random(r) % 2 ? sample_random(r) % v->len
                                    : v->len + sample_random(r) % 10000;
        if (sample_random(r) % 2) /* and the header agrees */
            put_le64(v->now + AT_FILE_LEN, *len);
        break;
    case 4:
        edit_header(r, v->now);
        break;
    case 5:
        edit_length_in_state(r, v);
        break;
    case 6: {
        uint8_t *run = index_of(v, v->now) +
                       sample_random(r) % (v->index_len / SNAP_RUN_BYTES) * SNAP_RUN_BYTES;
        static const uint8_t at[] = {0, 4, 8, 20};
        unsigned i = (unsigned)(sample_random(r) % 4);
        edit_number(r, run + at[i], at[i] == 8);
        break;
    }
    default:
        move_sections(r, v);
    }
}

static void one_round(struct sample_rng *r, struct victim *v, bool right, struct tally *t)
{
    static uint8_t scratch[SNAP_SCRATCH];
    uint64_t len = v->len;
    struct err e = ERR_INIT;
    struct snap_file f;
    memcpy(v->now, v->good, parts_len(v));
    corrupt(r, v, &len);
    if (right)
        correct(v);
    /* Who restores an image in a hurry does not look at its index. */
    bool hurry = sample_random(r) % 2, image = v->info.flags & SNAP_FULL;
    size_t seen = hurry && image ? SNAP_PAGE + v->state_len : parts_len(v);
    bool changed = len != v->len || memcmp(v->now, v->good, seen) != 0;
    victim_put(v, v->now);
    if (ftruncate(v->fd, (off_t)len) < 0)
        abort();
    int res = snap_open(&f, v->fd, hurry ? scratch : NULL, &e);
    if (res == 0) {
        const char *wrong = hurry && image ? NULL : walk_file(&f, len);
        if (wrong) {
            printf("# accepted, but %s\n", wrong);
            t->unsound++;
        }
        snap_verify_data(&f, v->fd, NULL);
        snap_free(&f);
        t->accepted++;
        t->missed += changed && !right;
    } else {
        t->refused++;
        t->silent += e.msg[0] == '\0';
        t->unexplained += res != -EBADMSG && res != -ENOTSUP;
    }
    if (ftruncate(v->fd, (off_t)v->len) < 0)
        abort();
    victim_put(v, v->good);
}

TEST(ten_thousand_corruptions)
{
    struct sample s;
    struct victim v[2];
    struct sample_rng r = {20240229};
    struct tally t = {0};
    int image = sample_memfd("image"), session = sample_memfd("session");
    CHECK(sample_image(&s, image) == 0 && sample_session(&s, session) == 0);
    victim_open(&v[0], image);
    victim_open(&v[1], session);
    for (unsigned i = 0; i < ROUNDS; i++)
        one_round(&r, &v[i & 1], i & 2, &t);
    printf("# %u refused, %u accepted and sound\n", t.refused, t.accepted - t.unsound);
    CHECK(t.refused + t.accepted == ROUNDS);
    CHECK(t.unsound == 0);
    CHECK(t.missed == 0);
    CHECK(t.silent == 0);
    CHECK(t.unexplained == 0);
    /* The corruptions are neither all hopeless nor all harmless. */
    CHECK(t.accepted > ROUNDS / 20 && t.refused > ROUNDS / 2);
    for (unsigned i = 0; i < 2; i++) {
        struct snap_file f;
        CHECK(snap_open(&f, v[i].fd, NULL, NULL) == 0);
        snap_free(&f);
        victim_close(&v[i]);
    }
    sample_free(&s);
}

/* Page data: the restore does not read its checksums, `snapdump --verify` does. */
TEST(damaged_pages_are_found)
{
    struct sample s;
    struct sample_rng r = {7};
    int image = sample_memfd("image"), session = sample_memfd("session");
    CHECK(sample_image(&s, image) == 0 && sample_session(&s, session) == 0);
    const int fds[] = {image, session};
    unsigned missed = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct snap_file f;
        uint8_t b;
        int fd = fds[i % 2];
        if (!CHECK(snap_open(&f, fd, NULL, NULL) == 0))
            break;
        struct snap_run run;
        do {
            run = snap_run_at(f.index, sample_random(&r) % f.nruns);
        } while (run.flags & SNAP_RUN_ZERO);
        uint64_t at = run.off + sample_random(&r) % (run.count * SNAP_PAGE);
        CHECK(fd_pread_full(fd, &b, 1, at) == 0);
        b ^= (uint8_t)(1u << i % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, at) == 0);
        missed += snap_verify_data(&f, fd, NULL) != -EBADMSG;
        b ^= (uint8_t)(1u << i % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, at) == 0);
        missed += snap_verify_data(&f, fd, NULL) != 0;
        snap_free(&f);
    }
    CHECK(missed == 0);
    close(image);
    close(session);
    sample_free(&s);
}

static bool says(const struct err *e, const char *word)
{
    return strstr(e->msg, word) != NULL;
}

static int open_changed(int fd, unsigned at, unsigned bytes, uint64_t value, struct err *e)
{
    uint8_t h[SNAP_PAGE], was[SNAP_PAGE];
    struct snap_file f;
    CHECK(fd_pread_full(fd, was, sizeof was, 0) == 0);
    memcpy(h, was, sizeof h);
    if (bytes == 4)
        put_le32(h + at, (uint32_t)value);
    else
        put_le64(h + at, value);
    put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
    CHECK(fd_pwrite_full(fd, h, sizeof h, 0) == 0);
    int r = snap_open(&f, fd, NULL, e);
    CHECK(fd_pwrite_full(fd, was, sizeof was, 0) == 0);
    if (r == 0)
        snap_free(&f);
    return r;
}

TEST(refused_with_the_reason)
{
    struct sample s;
    int image = sample_memfd("image"), session = sample_memfd("session");
    CHECK(sample_image(&s, image) == 0 && sample_session(&s, session) == 0);
    struct snap_info a = {.version = 0}, b = a, other;
    struct snap_host host = SAMPLE_HOST;
    struct err e = ERR_INIT;
    CHECK(snap_read_info(image, &a, NULL) == 0 && snap_read_info(session, &b, NULL) == 0);

    CHECK(open_changed(image, AT_VERSION, 4, 2, &e) == -ENOTSUP && says(&e, "version 2") &&
          e.hint[0]);
    CHECK(open_changed(image, AT_FLAGS, 4, 1 | 1u << 31, &e) == -ENOTSUP &&
          says(&e, "features"));
    CHECK(open_changed(image, AT_FILE_LEN, 8, 12345, &e) == -EBADMSG && says(&e, "12345"));

    CHECK(snap_check_pair(&a, &b, NULL) == 0);
    other = b;
    other.parent[3] ^= 1;
    CHECK(snap_check_pair(&a, &other, &e) == -EINVAL && says(&e, "another image"));
    CHECK(snap_check_pair(&a, &a, &e) == -EINVAL && says(&e, "not a difference"));
    CHECK(snap_check_pair(&b, &b, &e) == -EINVAL && says(&e, "not an image"));
    other = b;
    other.vcpus++;
    CHECK(snap_check_pair(&a, &other, &e) == -EINVAL && says(&e, "differ in size"));
    other = b;
    other.mem_bytes *= 2;
    CHECK(snap_check_pair(&a, &other, &e) == -EINVAL && says(&e, "differ in size"));

    CHECK(snap_check_host(&a, &host, NULL) == 0);
    host.gic = 2;
    CHECK(snap_check_host(&a, &host, &e) == -ENOTSUP && says(&e, "GICv3"));
    host = SAMPLE_HOST;
    host.midr++;
    CHECK(snap_check_host(&a, &host, &e) == -ENOTSUP && says(&e, "CPU model"));
    host = SAMPLE_HOST;
    host.cntfrq++;
    CHECK(snap_check_host(&a, &host, &e) == -ENOTSUP && says(&e, "Hz"));
    close(image);
    close(session);
    sample_free(&s);
}

int main(void)
{
    RUN(ten_thousand_corruptions);
    RUN(damaged_pages_are_found);
    RUN(refused_with_the_reason);
    return TAP_DONE();
}
