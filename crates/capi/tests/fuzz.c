/*
 * Random calls of every function of the library: fuzz SEED CALLS THREADS FOLDER [told]
 *
 * Every step calls one function with arguments drawn from good and bad ones, also from inside callbacks, of several
 * loops and servers with traffic between them; with THREADS, that many others do the same with loops of their own and
 * with each other's handles. With none, a seed makes the same calls each time. calls.h, with a call for each function,
 * is made of the header by tests/calls/mod.rs; FOLDER is for the files of Unix sockets. `told` tells of each call.
 */
#include "fuzz/core.h"

static int ready(struct frame *frame);
static int64_t leave(struct frame *frame, int64_t result);
static int64_t leave_text(struct frame *frame, const char *text);
static int64_t leave_handle(struct frame *frame, int kind, uint64_t handle);

static struct context *context(int thread);
static void discard(struct context *context);
static void begin_epoch(void);
static void end_epoch(int before);

#include "kinds.h"

#include "fuzz/handles.h"
#include "fuzz/values.h"
#include "fuzz/calls.h"
#include "fuzz/callbacks.h"
#include "fuzz/structs.h"

#include "calls.h"

static void some_calls(int most)
{
    int n = below(most + 1);
    while (n-- > 0 && here->nested++ < 60)
        functions[below((int)COUNT(functions))].call();
}

#define LIVING_ONE(type) ((type *)(uintptr_t)here->living[K_##type][below(here->n_living[K_##type])])
#define MADE(kind, handle) keep(kind, RAW(handle))

/* Sees to it that there is something to play with. */
static void tend(void)
{
    struct frame frame;
    echoloop_listener *listener;
    echoloop_conn *conn;
    echoloop_timer *timer;
    echoloop_watch *watch;
    echoloop_udp *udp;
    echoloop_lookup *lookup;
    echoloop *loop;
    char addr[64];
    enter(&frame, "tend");
    open_some();
    if (here->n_loops < 3 || here->n_living[K_echoloop] == 0) {
        loop = echoloop_new(NULL);
        if (loop != NULL) {
            MADE(K_echoloop, loop);
            here->loop_kinds[here->n_loops] = K_echoloop;
            here->loops[here->n_loops++] = RAW(loop);
        }
    }
    if (here->n_living[K_echoloop] > 0) {
        loop = LIVING_ONE(echoloop);
        snprintf(addr, sizeof addr, "%s:0", address());
        if (here->n_living[K_echoloop_listener] < 3 && echoloop_listen(loop, addr, NULL, &listener) == 0) {
            MADE(K_echoloop_listener, listener);
            echoloop_listener_addr(listener, here->addrs[below(8)], 128);
            if (here->n_addrs == 0)
                here->n_addrs = 1;
        }
        if (here->n_addrs > 0 && here->n_living[K_echoloop_conn] < 6
            && echoloop_connect(loop, here->addrs[0], NULL, &conn) == 0) {
            conn_begins(RAW(conn), RAW(loop));
            MADE(K_echoloop_conn, conn);
            echoloop_conn_send(conn, "good morning", 12);
        }
        if (here->n_living[K_echoloop_timer] < 3 && echoloop_timer_new(loop, 0, 50, NULL, &timer) == 0)
            MADE(K_echoloop_timer, timer);
        if (here->n_living[K_echoloop_udp] < 2 && echoloop_udp_bind(loop, addr, NULL, &udp) == 0) {
            MADE(K_echoloop_udp, udp);
            if (here->n_udp == 0 && echoloop_udp_local_addr(udp, here->udp_addrs[0], 128) > 0)
                here->n_udp = 1;
        }
        if (here->n_fds > 0 && one_in(2)
            && echoloop_watch_new(loop, here->fds[below(here->n_fds)], ECHOLOOP_READABLE, NULL, NULL, &watch) == 0)
            MADE(K_echoloop_watch, watch);
    }
    if (here->n_living[K_echoloop] > 0 && one_in(2)) {
        echoloop_watch_options owned = ECHOLOOP_WATCH_OPTIONS_INIT;
        int fd = here->n_fds > 0 ? dup(here->fds[below(here->n_fds)]) : -1;
        loop = LIVING_ONE(echoloop);
        owned.owned = 1;
        if (fd >= 0 && echoloop_watch_new(loop, fd, ECHOLOOP_READABLE, &owned, NULL, &watch) == 0)
            MADE(K_echoloop_watch, watch);
        else if (fd >= 0)
            close(fd);
        if (echoloop_resolve(loop, threads == 0 ? "127.0.0.1" : "localhost", -1, NULL, &lookup) == 0)
            MADE(K_echoloop_lookup, lookup);
    }
    if (one_in(8))
        raise(one_in(2) ? SIGUSR1 : SIGUSR2);
    pop(&frame);
}

static void free_loop(int kind, uint64_t handle)
{
    int status = kind == K_echoloop ? echoloop_free((echoloop *)(uintptr_t)handle)
                                    : echoloop_server_free((echoloop_server *)(uintptr_t)handle);
    CHECK(status == 0 || (threads > 0 && status == ECHOLOOP_EBADHANDLE), "the free of %#llx: %d",
          (unsigned long long)handle, status);
    conns_are_gone(handle);
    /* One that another thread has freed ends with the next call of its owner. */
    if (kind == K_echoloop)
        echoloop_now_us((echoloop *)(uintptr_t)handle);
    else
        echoloop_server_loop((echoloop_server *)(uintptr_t)handle);
}

/* Ends the oldest loop when there are many. */
static void thin_out(void)
{
    struct frame frame;
    while (here->n_loops > 8 || here->n_remotes > 40 || here->n_selectors > 8 || here->n_workers > 2) {
        enter(&frame, "thin_out");
        if (here->n_loops > 8) {
            uint64_t handle = here->loops[0];
            int kind = here->loop_kinds[0];
            free_loop(kind, handle);
            strike_loop(handle);
            bury(kind, handle);
        } else if (here->n_remotes > 40) {
            uint64_t remote = here->remotes[0];
            echoloop_remote_free((echoloop_remote *)(uintptr_t)remote);
            strike(here->remotes, &here->n_remotes, remote);
            bury(K_echoloop_remote, remote);
        } else if (here->n_workers > 2) {
            uint64_t workers = here->workers[0];
            echoloop_workers_free((echoloop_workers *)(uintptr_t)workers);
            strike(here->workers, &here->n_workers, workers);
            bury(K_echoloop_workers, workers);
        } else {
            uint64_t selector = here->selectors[0];
            echoloop_selector_free((echoloop_selector *)(uintptr_t)selector);
            strike(here->selectors, &here->n_selectors, selector);
            bury(K_echoloop_selector, selector);
        }
        pop(&frame);
    }
}

static int conns_left(void)
{
    int i, n = 0;
    for (i = 0; i < CONNS; i++)
        if (here->conns[i] != 0 && here->conn_loops[i] != 0) {
            echoloop_conn_abort((echoloop_conn *)(uintptr_t)here->conns[i]);
            n++;
        }
    return n;
}

/* Every connection that is left is reset, and has to tell so. */
static void end_conns(void)
{
    echoloop_event events[16];
    int tries, i, k, n;
    for (tries = 0; conns_left() > 0 && tries < (here->blind ? 20 : 1000); tries++)
        for (i = 0; i < here->n_loops; i++) {
            echoloop *loop = (echoloop *)(uintptr_t)here->loops[i];
            if (here->loop_kinds[i] != K_echoloop)
                loop = echoloop_server_loop((echoloop_server *)(uintptr_t)here->loops[i]);
            do {
                n = echoloop_poll_batch(loop, events, COUNT(events), tries < 50 ? 0 : 1000);
                for (k = 0; k < n; k++)
                    look_at(&events[k], RAW(loop));
            } while (n == COUNT(events));
            if (n < 0)
                conns_are_gone(here->loops[i]);
        }
    CHECK(here->blind || conns_left() == 0, "%d connections never ended", conns_left());
}

static void begin_epoch(void)
{
    memset(here->conns, 0, CONNS * sizeof *here->conns);
    memset(here->n_living, 0, KINDS * sizeof *here->n_living);
    here->n_conns = here->n_addrs = here->n_udp = here->n_events = here->n_dead = here->blind = 0;
    memset(here->dead, 0, sizeof here->dead);
    here->epoch++;
}

static int descriptors(void)
{
    int fd, n = 0;
    for (fd = 0; fd < 6000; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Ends everything. Alone, nothing may be left then. */
static void end_epoch(int before)
{
    struct frame frame;
    int tries;
    enter(&frame, "end_epoch");
    end_conns();
    while (here->n_loops > 0) {
        free_loop(here->loop_kinds[0], here->loops[0]);
        strike_loop(here->loops[0]);
    }
    while (here->n_remotes > 0)
        echoloop_remote_free((echoloop_remote *)(uintptr_t)here->remotes[--here->n_remotes]);
    while (here->n_workers > 0)
        echoloop_workers_free((echoloop_workers *)(uintptr_t)here->workers[--here->n_workers]);
    while (here->n_selectors > 0)
        echoloop_selector_free((echoloop_selector *)(uintptr_t)here->selectors[--here->n_selectors]);
    while (here->n_fds > 0)
        close(here->fds[--here->n_fds]);
    if (threads == 0) {
        CHECK(echoloop_live_handles() == 0, "%lld handles are left", (long long)echoloop_live_handles());
        for (tries = 0; descriptors() != before && tries < 2000; tries++)
            usleep(1000); /* A thread that resolves may close its own a moment later. */
        CHECK(descriptors() == before, "%d descriptors, and there were %d", descriptors(), before);
    }
    pop(&frame);
}

#define EPOCH 4000 /* Steps. */

static void fuzz(long calls)
{
    long step = 0;
    int before = threads == 0 ? descriptors() : 0;
    while (here->calls < calls) {
        if (step % EPOCH == 0)
            begin_epoch();
        begin_step(step);
        if (step % 8 == 0)
            tend();
        functions[below((int)COUNT(functions))].call();
        thin_out();
        if (++step % EPOCH == 0)
            end_epoch(before);
    }
    end_epoch(before);
}

static struct context *context(int thread)
{
    struct context *context = calloc(1, sizeof *context);
    long page = sysconf(_SC_PAGESIZE);
    context->seed = the_seed;
    context->thread = thread;
    context->living = calloc(KINDS, sizeof *context->living);
    context->n_living = calloc(KINDS, sizeof *context->n_living);
    context->conns = calloc(CONNS, sizeof *context->conns);
    context->conn_loops = calloc(CONNS, sizeof *context->conn_loops);
    context->page = mmap(NULL, PAGE + (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (context->page == MAP_FAILED || mprotect(context->page + PAGE, (size_t)page, PROT_NONE) != 0)
        exit(2);
    memset(context->page, 'x', PAGE);
    return context;
}

static void discard(struct context *context)
{
    munmap(context->page, PAGE + (size_t)sysconf(_SC_PAGESIZE));
    free(context->living);
    free(context->n_living);
    free(context->conns);
    free(context->conn_loops);
    free(context);
}

static long calls_each;

static void *thread(void *context)
{
    here = context;
    fuzz(calls_each);
    return NULL;
}

static void crashed(int number)
{
    static char text[200];
    int n = snprintf(text, sizeof text, "FUZZ CRASHED by signal %d: seed %llu, thread %d, step %ld, in %s\n", number,
                     (unsigned long long)the_seed, here ? here->thread : -1, here ? here->step : -1,
                     here && here->top ? here->top->name : "nothing");
    if (write(2, text, (size_t)n) < 0)
        _exit(3);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv)
{
    pthread_t others[16];
    struct context *contexts[16];
    struct rlimit limit = { 4096, 4096 };
    int i, before;
    if (argc < 5)
        return 2;
    the_seed = strtoull(argv[1], NULL, 10);
    threads = atoi(argv[3]);
    folder = argv[4];
    calls_each = strtol(argv[2], NULL, 10) / (threads + 1) + 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    signal(SIGABRT, crashed);
    signal(SIGILL, crashed);
#endif
    here = context(0);
    here->told = argc > 5;
    address();
    begin_step(0);
    before = descriptors();
    for (i = 0; i < threads && i < 16; i++)
        if (pthread_create(&others[i], NULL, thread, contexts[i] = context(i + 1)) != 0)
            return 2;
    fuzz(calls_each);
    for (i = 0; i < threads && i < 16; i++) {
        pthread_join(others[i], NULL);
        here->calls += contexts[i]->calls;
        discard(contexts[i]);
    }
    CHECK(echoloop_live_handles() == 0, "%lld handles are left", (long long)echoloop_live_handles());
    for (i = 0; descriptors() != before && i < 2000; i++)
        usleep(1000);
    CHECK(descriptors() == before, "%d descriptors, and there were %d", descriptors(), before);
    printf("seed %llu: %ld calls, %#llx\n", (unsigned long long)the_seed, here->calls,
           (unsigned long long)here->hash);
    discard(here);
    return 0;
}
