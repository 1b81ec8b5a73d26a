/*
 * What every part of the fuzzer stands on: numbers from a seed, one context a thread, frames of calls, and what is
 * checked of each call.
 *
 * The rule: each step of a thread draws from a generator of its own, seeded with the seed, the thread and the number of
 * the step, so what came before can't shift what follows.
 */
#include <echoloop.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SKIPPED INT64_MIN

/* What of a frame is written by the library. */
struct out {
    unsigned char *block; /* A canary, the bytes, a canary, and the bytes as they were. */
    size_t size;
    int kind;
};

/* One call, from the choice of its arguments to the look at what came of it. */
struct frame {
    const char *name;
    struct frame *below;
    uint64_t handles[4];
    int how[4]; /* enum how, of each handle. */
    int n_handles;
    struct out outs[4];
    int n_outs;
    void *blocks[24];
    int n_blocks;
    size_t length; /* Of the last array. */
    int fd, owned, without_hooks;
    struct run *run; /* Of a run by callbacks. */
};

struct function {
    const char *name;
    int64_t (*call)(void);
};

/* Where a handle that is passed comes from. */
enum how { LIVING, STALE, FOREIGN, OTHER_KIND, NOTHING, FLIPPED, RANDOM };

#define PER_KIND 24
#define FDS 24

/* A run by callbacks, known to its callbacks. */
struct run {
    uint64_t loop;
    int freed;
};

/* All that one thread has. */
struct context {
    uint64_t seed, random;
    int thread;
    long step, calls;
    int depth, nested;
    uint64_t hash; /* Of all functions that were called and what they returned. */
    struct frame *top;
    uint64_t (*living)[PER_KIND];
    int *n_living;
    uint64_t loops[64]; /* All loops and servers that are to be freed. */
    int loop_kinds[64], n_loops;
    uint64_t remotes[64], selectors[64], workers[64];
    int n_remotes, n_selectors, n_workers;
    uint64_t worker_of; /* On a thread of workers: which. */
    uint64_t dead[256]; /* Ended for certain, in this epoch. */
    int n_dead;
    int fds[FDS], n_fds;
    char addrs[8][128];
    int n_addrs;
    struct echoloop_event events[16];
    int n_events;
    uint64_t *conns;      /* A table of connections, by handle; */
    uint64_t *conn_loops; /* their loops, 0 once CLOSED was told. */
    int n_conns;
    char *page; /* PAGE bytes, and then an unreadable page. */
    char udp_addrs[8][128];
    int n_udp;
    int told;
    int blind; /* A server has run without callbacks: which connections there are is not known. */
    long epoch;
    void *own_run; /* Of a worker. */
};

#define PAGE 65536
#define CONNS 65536

static __thread struct context *here;
static int threads;
static const char *folder;
static uint64_t the_seed;

static void fail(const char *format, ...)
{
    va_list list;
    struct frame *frame;
    fflush(stdout);
    fprintf(stderr, "FUZZ FAILED: seed %llu, thread %d, step %ld, call %ld, depth %d: ",
            (unsigned long long)the_seed, here ? here->thread : -1, here ? here->step : -1,
            here ? here->calls : -1, here ? here->depth : -1);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n  last error: %s\n", echoloop_last_error());
    for (frame = here ? here->top : NULL; frame != NULL; frame = frame->below)
        fprintf(stderr, "  in %s(%#llx, ...)\n", frame->name,
                (unsigned long long)(frame->n_handles ? frame->handles[0] : 0));
    fflush(stderr);
    _exit(1);
}

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) \
            fail(__VA_ARGS__); \
    } while (0)

static uint64_t mixed(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* xorshift64* */
static uint64_t any(void)
{
    uint64_t x = here->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    here->random = x;
    return x * 2685821657736338717u;
}

static int below(int n)
{
    return (int)((any() >> 20) % (uint64_t)n);
}

static int one_in(int n)
{
    return below(n) == 0;
}

/* The generator of one step. */
static void begin_step(long step)
{
    here->step = step;
    here->nested = 0;
    here->random = mixed(here->seed + mixed((uint64_t)here->thread * 0x9e3779b97f4a7c15u + (uint64_t)step)) | 1;
}

/* Memory of a call, freed at its end. */
static void *block(size_t size)
{
    struct frame *frame = here->top;
    void *block = malloc(size ? size : 1);
    CHECK(block != NULL && frame->n_blocks < (int)COUNT(frame->blocks), "blocks of one call");
    frame->blocks[frame->n_blocks++] = block;
    return block;
}

#define CANARY 16

/* Memory for a result, with canaries around it. */
static void *out_block(size_t size, int kind)
{
    struct frame *frame = here->top;
    struct out *out = &frame->outs[frame->n_outs++];
    out->size = size;
    out->kind = kind;
    out->block = malloc(2 * size + 2 * CANARY);
    CHECK(out->block != NULL, "no memory");
    memset(out->block, 0xa5, 2 * size + 2 * CANARY);
    return out->block + CANARY;
}

/* Its bytes are as they are to stay if the call fails. */
static void note_out(void)
{
    struct out *out = &here->top->outs[here->top->n_outs - 1];
    memcpy(out->block + 2 * CANARY + out->size, out->block + CANARY, out->size);
}

static void check_outs(struct frame *frame, int failed)
{
    static const unsigned char canary[CANARY] = { 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5,
                                                  0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5 };
    int i;
    for (i = 0; i < frame->n_outs; i++) {
        unsigned char *block = frame->outs[i].block;
        size_t size = frame->outs[i].size;
        CHECK(memcmp(block, canary, CANARY) == 0 && memcmp(block + CANARY + size, canary, CANARY) == 0,
              "%s wrote beside result %d", frame->name, i);
        CHECK(!failed || memcmp(block + CANARY, block + 2 * CANARY + size, size) == 0,
              "%s failed and wrote to result %d", frame->name, i);
    }
}

static int is(const char *name)
{
    return here->top != NULL && strcmp(here->top->name, name) == 0;
}

static int is_one_of(const char *const *names, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (is(names[i]))
            return 1;
    return 0;
}

static void enter(struct frame *frame, const char *name)
{
    memset(frame, 0, sizeof *frame);
    frame->name = name;
    frame->fd = -1;
    frame->below = here->top;
    here->top = frame;
}
