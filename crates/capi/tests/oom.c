/*
 * Makes each allocation of a whole workload fail in turn, and looks what the calls say. Run by
 * tests/oom.rs. The program defines malloc and mmap itself, so that those of the library come
 * here too; they count the allocations within calls of the library, and refuse
 *
 *     once   the nth alone,
 *     call   the nth and all that follow until the call returns,
 *     while  the nth and all that follow for the next 64 calls.
 *
 * A call that answers that there is no memory is made once more, and must then go on as if nothing
 * had been. Each n has a process of its own with a deadline. At the end of each there must be no
 * handle and no descriptor more than before, every byte must have come once and in its place, and
 * every timer and post once, save on connections that were told to have ended for want of memory.
 *
 *     oom all|STEP [MODE [N]]   prints the table; STEP: only each STEPth n after the first forty
 *     oom real                  a process that may have no more memory (needs no fault of ours)
 */
#include <echoloop.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the allocator -------------------------------------------------------------------------- */

enum mode { ONCE, CALL, WHILE, MODES };
static const char *const mode_names[MODES] = { "once", "call", "while" };
#define LONG_SHORTAGE 64

static struct {
    enum mode mode;
    long nth;      /* which allocation is refused; 0: none */
    long count;    /* allocations in calls so far */
    int in_call;
    int refusing;  /* all are refused now */
    int calls_left;
    int refused;   /* in this call */
} faults;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int refuse(void)
{
    if (!faults.in_call)
        return 0;
    long n = __atomic_add_fetch(&faults.count, 1, __ATOMIC_RELAXED);
    if (n == faults.nth) {
        faults.refusing = faults.mode != ONCE;
        faults.calls_left = faults.mode == WHILE ? LONG_SHORTAGE : 1;
    } else if (!faults.refusing) {
        return 0;
    }
    faults.refused = 1;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return refuse() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *memory, size_t size)
{
    return refuse() ? NULL : __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refuse() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    if (refuse())
        return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

static void *map(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (refuse())
        return MAP_FAILED;
    long got = syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    return (void *)got; /* syscall(2) has made an error of the kernel -1, which is MAP_FAILED. */
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map(at, size, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map(at, size, protection, flags, fd, offset);
}

/* ---- what a process tells its parent -------------------------------------------------------- */

static struct shared {
    long count;
    char call[40];    /* the call that is under way */
    char faulted[40]; /* the one in which an allocation was refused first */
    int status;       /* what that one returned, 0 for success */
    int no_memory;    /* calls that answered that there is none */
    int ended;        /* connections that ended for want of memory */
    int paused;       /* times that accepting, or a connect, was paused for want of memory */
    char wrong[160];  /* what the workload found to be wrong */
} *shared;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            snprintf(shared->wrong, sizeof shared->wrong, "line %d: %s (%s)", __LINE__, \
                     #condition, echoloop_last_error()); \
            (void)!write(2, shared->wrong, strlen(shared->wrong)); \
            _exit(2); \
        } \
    } while (0)

/* Calls within a callback stand within the call that runs it. */
static const char *names[2];

static void begin_call(const char *name)
{
    snprintf(shared->call, sizeof shared->call, "%s", name);
    names[faults.in_call++] = name;
    faults.refused = 0;
}

static void pass_call(void)
{
    if (faults.refusing && --faults.calls_left <= 0)
        faults.refusing = 0;
}

static int end_call(int status)
{
    faults.in_call--;
    if (faults.refused && !shared->faulted[0]) {
        memcpy(shared->faulted, shared->call, sizeof shared->faulted);
        shared->status = status < 0 ? status : 0;
    }
    if (faults.in_call)
        snprintf(shared->call, sizeof shared->call, "%s", names[0]);
    pass_call();
    int none = status == ECHOLOOP_ENOMEM || status == -ENOMEM;
    shared->no_memory += none;
    return none;
}

/* Memory is there again: how a program that was told so many times that there is none goes on. */
static int patience;
static int again(int none)
{
    CHECK(!none || ++patience < 2 * LONG_SHORTAGE);
    return none;
}

/* Makes a call until it does not lack memory; its outcome is in `got`. */
static int got;
#define TRY(name, call) \
    do { \
        begin_call(name); \
        got = (int)(call); \
    } while (again(end_call(got)))

/* ---- the workload --------------------------------------------------------------------------- */

#define CLIENTS 24
#define TIMERS 700
#define POSTS 300
#define LARGE (3u << 20)
#define LAST 50u /* sent only when the first byte of the echo is there */

struct peer {
    echoloop_conn *conn;
    int is_client;
    unsigned index;
    size_t want, received, sent;
    int ended, halved;
};

static struct {
    echoloop *loop;
    struct peer clients[CLIENTS];
    struct peer servers[2 * CLIENTS]; /* more than clients, should one come twice */
    int opened, closed_servers, ended_clients;
    unsigned char fired[TIMERS];
    int timers_fired, posts, ticks;
    int hooked;
} work;

static unsigned char pattern(unsigned index, size_t at)
{
    return (unsigned char)(index * 31u + at * 7u + (at >> 8));
}

static unsigned char scratch[LARGE];

static void send_pattern(struct peer *client, size_t len)
{
    for (size_t i = 0; i < len; i++)
        scratch[i] = pattern(client->index, client->sent + i);
    TRY("conn_send", echoloop_conn_send(client->conn, scratch, len));
    if (got == ECHOLOOP_ECLOSING)
        return; /* It has ended, as its CLOSED tells. */
    CHECK(got == 0);
    client->sent += len;
}

static struct peer *peer_of(echoloop_conn *conn)
{
    void *user = NULL;
    TRY("conn_user", echoloop_conn_user(conn, &user));
    CHECK(got == 0);
    return user;
}

static void opened(echoloop_conn *conn, echoloop_listener *listener)
{
    if (!listener)
        return;
    CHECK(work.opened < 2 * CLIENTS);
    struct peer *server = &work.servers[work.opened++];
    server->conn = conn;
    TRY("conn_set_user", echoloop_conn_set_user(conn, server));
    CHECK(got == 0);
}

/* Returns how many bytes were used. */
static size_t arrived(struct peer *peer, const unsigned char *data, size_t len)
{
    if (!peer->is_client) {
        /* Each third leaves a half of what comes first unread, and sees it again with the rest. */
        size_t used = len;
        if ((peer - work.servers) % 3 == 0 && !peer->halved && len > 1) {
            peer->halved = 1;
            used = len / 2;
        }
        TRY("conn_send", echoloop_conn_send(peer->conn, data, used));
        CHECK(got == 0 || got == ECHOLOOP_ECLOSING);
        return used;
    }
    for (size_t i = 0; i < len; i++)
        CHECK(data[i] == pattern(peer->index, peer->received + i));
    int first = peer->received == 0 && len > 0;
    peer->received += len;
    CHECK(peer->received <= peer->want);
    if (first)
        send_pattern(peer, LAST);
    if (peer->received == peer->want) {
        TRY("conn_close", echoloop_conn_close(peer->conn));
        CHECK(got == 0);
    }
    return len;
}

static void closed(struct peer *peer, int reason)
{
    CHECK(!peer->ended);
    peer->ended = 1;
    shared->ended += reason == -ENOMEM;
    if (peer->is_client)
        work.ended_clients++;
    else
        work.closed_servers++;
}

static void fired(void *user)
{
    size_t i = (size_t)((unsigned char *)user - work.fired);
    CHECK(i < TIMERS && i % 10 != 0 && work.fired[i] == 0);
    work.fired[i] = 1;
    work.timers_fired++;
}

static void posted(void *word)
{
    CHECK((size_t)word == (size_t)work.posts);
    work.posts++;
}

static void paused(int status)
{
    shared->paused += status == -ENOMEM;
}

static int all_done(void)
{
    return work.ended_clients == CLIENTS && work.closed_servers == work.opened
        && work.timers_fired == TIMERS - TIMERS / 10 && work.posts == POSTS;
}

static void start(echoloop *loop, const char *addr)
{
    memset(&work.clients, 0, sizeof work.clients);
    memset(&work.servers, 0, sizeof work.servers);
    memset(work.fired, 0, sizeof work.fired);
    work.opened = work.closed_servers = work.ended_clients = 0;
    work.timers_fired = work.posts = 0;
    work.loop = loop;
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    conn.high_mark = 20000;
    conn.idle_timeout_us = ECHOLOOP_SECONDS(60);
    echoloop_connect_options options = ECHOLOOP_CONNECT_OPTIONS_INIT;
    options.conn = &conn;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct peer *client = &work.clients[i];
        client->is_client = 1;
        client->index = i;
        /* The large one outgrows what the kernel takes. */
        size_t first = i == 5 ? LARGE : i % 4 == 1 ? 100000 : 100 + i;
        client->want = first + LAST;
        conn.no_auto_pause = i == 5;
        TRY("connect", echoloop_connect(loop, addr, &options, &client->conn));
        CHECK(got == 0);
        TRY("conn_set_user", echoloop_conn_set_user(client->conn, client));
        CHECK(got == 0);
        send_pattern(client, first / 2);
        send_pattern(client, first - first / 2);
    }
    for (int i = 0; i < TIMERS; i++) {
        echoloop_timer *timer;
        TRY("timer_new", echoloop_timer_new(loop, 100 + i * 20, 0, &work.fired[i], &timer));
        CHECK(got == 0);
        if (i % 10 == 0)
            TRY("timer_cancel", echoloop_timer_cancel(timer));
        else if (i % 3 == 0)
            TRY("timer_rearm", echoloop_timer_rearm(timer, i % 1000));
        CHECK(got == 0);
    }
}

static void post_all(echoloop *loop)
{
    echoloop_remote *remotes[6];
    for (int i = 0; i < 6; i++) {
        TRY("remote_new", echoloop_remote_new(loop, &remotes[i]));
        CHECK(got == 0);
    }
    for (size_t i = 0; i < POSTS; i++) {
        TRY("remote_post", echoloop_remote_post(remotes[i % 6], (void *)i));
        CHECK(got == 0);
    }
    for (int i = 0; i < 6; i++) {
        TRY("remote_free", echoloop_remote_free(remotes[i]));
        CHECK(got == 0);
    }
}

/* Errors of every kind have a text, also without memory for it. */
static void look_at_texts(void)
{
    TRY("strerror", (int)strlen(echoloop_strerror(-ECONNREFUSED)) > 0 ? 0 : -1);
    CHECK(got == 0 && strcmp(echoloop_strerror(-ECONNREFUSED), "Connection refused") == 0);
    TRY("errname", (int)strlen(echoloop_errname(-ECONNRESET)) > 0 ? 0 : -1);
    CHECK(got == 0 && strcmp(echoloop_errname(-ECONNRESET), "ECONNRESET") == 0);
}

#define PIPES 70

static struct {
    int ends[2];
    int told;
} pipes[PIPES];

static void on_own_watch(void *user, echoloop_watch *watch, int readiness)
{
    (void)readiness;
    int *told = user;
    CHECK(*told == 0);
    *told = 1;
    TRY("watch_close", echoloop_watch_close(watch));
    CHECK(got == 0);
}

static void make_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        pipes[i].told = 0;
        CHECK(pipe(pipes[i].ends) == 0 && write(pipes[i].ends[1], "x", 1) == 1);
    }
}

static void close_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        close(pipes[i].ends[0]);
        close(pipes[i].ends[1]);
    }
}

/* Watches, each with a callback of its own. */
static void by_watches(void)
{
    make_pipes();
    echoloop *loop;
    do {
        begin_call("new");
        loop = echoloop_new(NULL);
    } while (again(end_call(loop ? 0 : echoloop_last_status())));
    CHECK(loop);
    for (int i = 0; i < PIPES; i++) {
        echoloop_watch *watch;
        TRY("watch_new", echoloop_watch_new(loop, pipes[i].ends[0], ECHOLOOP_READABLE, NULL,
                                            &pipes[i].told, &watch));
        CHECK(got == 0);
        TRY("watch_callback", echoloop_watch_set_callback(watch, on_own_watch));
        CHECK(got == 0);
    }
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    for (int told = 0; told < PIPES;) {
        TRY("run_once", echoloop_run_once(loop, &hooks, NULL, ECHOLOOP_SECONDS(5)));
        CHECK(got >= 0);
        told = 0;
        for (int i = 0; i < PIPES; i++)
            told += pipes[i].told;
    }
    TRY("free", echoloop_free(loop));
    CHECK(got == 0);
    close_pipes();
}

/* The same without a loop. */
static void by_selector(void)
{
    make_pipes();
    echoloop_selector *selector;
    TRY("selector_new", echoloop_selector_new(&selector));
    CHECK(got == 0);
    for (int i = 0; i < PIPES; i++) {
        TRY("selector_register",
            echoloop_selector_register(selector, pipes[i].ends[0], ECHOLOOP_READABLE,
                                       ECHOLOOP_WATCH_ONCE, (uint64_t)i));
        CHECK(got == 0);
    }
    echoloop_ready ready[PIPES];
    for (int told = 0; told < PIPES;) {
        TRY("selector_wait",
            echoloop_selector_wait(selector, ready, PIPES, ECHOLOOP_SECONDS(5)));
        CHECK(got > 0);
        for (int i = 0; i < got; i++) {
            CHECK(ready[i].key < PIPES && !pipes[ready[i].key].told);
            pipes[ready[i].key].told = 1;
            told++;
        }
    }
    TRY("selector_free", echoloop_selector_free(selector));
    CHECK(got == 0);
    echoloop_pollfd fds[PIPES];
    memset(fds, 0, sizeof fds);
    for (int i = 0; i < PIPES; i++) {
        fds[i].fd = pipes[i].ends[0];
        fds[i].interest = ECHOLOOP_READABLE;
    }
    TRY("poll", echoloop_poll(fds, PIPES, 0));
    CHECK(got == PIPES);
    close_pipes();
}

static void by_batches(void)
{
    echoloop *loop;
    do {
        begin_call("new");
        loop = echoloop_new(NULL);
    } while (again(end_call(loop ? 0 : echoloop_last_status())));
    CHECK(loop);
    echoloop_listener *listener, *spare;
    char addr[ECHOLOOP_ADDR_MAX];
    TRY("listen", echoloop_listen(loop, "127.0.0.1:0", NULL, &spare));
    CHECK(got == 0);
    TRY("listener_addr", echoloop_listener_addr(spare, addr, sizeof addr));
    CHECK(got > 0);
    TRY("listen", echoloop_listen(loop, addr, NULL, &listener));
    CHECK(got == -EADDRINUSE);
    listener = spare;
    start(loop, addr);
    post_all(loop);
    look_at_texts();
    echoloop_event events[64];
    while (!all_done()) {
        TRY("poll_batch", echoloop_poll_batch(loop, events, 64, ECHOLOOP_SECONDS(5)));
        CHECK(got >= 0);
        int n = got;
        for (int i = 0; i < n; i++) {
            echoloop_event *event = &events[i];
            struct peer *peer = event->user;
            switch (event->type) {
            case ECHOLOOP_EVENT_OPENED:
                opened(event->conn, event->source.listener);
                break;
            case ECHOLOOP_EVENT_DATA: {
                if (!peer)
                    peer = peer_of(event->conn); /* It was set after the batch was filled. */
                size_t used = arrived(peer, event->data, event->len);
                if (used == event->len)
                    break;
                TRY("conn_unread",
                    echoloop_conn_unread(event->conn, event->data + used, event->len - used));
                CHECK(got == 0 || got == ECHOLOOP_ECLOSING);
                break;
            }
            case ECHOLOOP_EVENT_CLOSED:
                closed(peer, event->status);
                break;
            case ECHOLOOP_EVENT_TIMER:
                fired(event->user);
                break;
            case ECHOLOOP_EVENT_POSTED:
                posted(event->source.word);
                break;
            case ECHOLOOP_EVENT_ACCEPT_PAUSED:
                paused(event->status);
                break;
            default:
                break;
            }
        }
    }
    TRY("listener_close", echoloop_listener_close(listener));
    CHECK(got == 0);
    TRY("free", echoloop_free(loop));
    CHECK(got == 0);
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    (void)user;
    opened(conn, listener);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    return arrived(peer_of(conn), data, len);
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    (void)user;
    (void)unsent;
    closed(peer_of(conn), reason);
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)user;
    (void)timer;
    fired(timer_user);
}

static void on_post(void *user, void *word)
{
    (void)user;
    posted(word);
}

static void on_tick(void *user)
{
    (void)user;
    pass_call(); /* A shortage ends within a run, too. */
    if (all_done())
        TRY("stop", echoloop_stop(work.loop));
}

static void on_error(void *user, int status, const char *text)
{
    (void)user;
    (void)text;
    paused(status);
}

static void by_hooks(void)
{
    echoloop_server_options options = ECHOLOOP_SERVER_OPTIONS_INIT;
    options.tick_us = ECHOLOOP_MS(1);
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    conn.write_stall_timeout_us = ECHOLOOP_SECONDS(60);
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    listen.conn = &conn;
    options.listen = &listen;
    echoloop_server *server;
    do {
        begin_call("server_new");
        server = echoloop_server_new(&options);
    } while (again(end_call(server ? 0 : echoloop_last_status())));
    CHECK(server);
    echoloop_listener *listener;
    char addr[ECHOLOOP_ADDR_MAX];
    TRY("server_listen", echoloop_server_listen(server, "127.0.0.1:0", NULL, &listener));
    CHECK(got == 0);
    TRY("listener_addr", echoloop_listener_addr(listener, addr, sizeof addr));
    CHECK(got > 0);
    start(echoloop_server_loop(server), addr);
    post_all(work.loop);
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    hooks.on_open = on_open;
    hooks.on_data = on_data;
    hooks.on_close = on_close;
    hooks.on_timer = on_timer;
    hooks.on_post = on_post;
    hooks.on_tick = on_tick;
    hooks.on_error = on_error;
    TRY("server_run", echoloop_server_run(server, &hooks, NULL, NULL));
    CHECK(got == 0);
    TRY("server_free", echoloop_server_free(server));
    CHECK(got == 0);
}

static int descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

/* Who was told nothing has all of its bytes. */
static void look_at_bytes(void)
{
    int short_of = 0;
    for (int i = 0; i < CLIENTS; i++)
        short_of += work.clients[i].received != work.clients[i].want;
    CHECK(short_of <= shared->ended);
}

static void workload(void)
{
    int before = descriptors();
    by_batches();
    look_at_bytes();
    CHECK(echoloop_live_handles() == 0);
    by_hooks();
    look_at_bytes();
    CHECK(echoloop_live_handles() == 0);
    by_watches();
    by_selector();
    CHECK(echoloop_live_handles() == 0);
    CHECK(descriptors() == before);
    shared->count = faults.count;
}

/*
 * A shortage as it comes in life: the process may have no more memory, RLIMIT_AS of getrlimit(2),
 * and somebody took all that was left. What there is goes on: those who are connected are
 * answered, timers fire. New handles are refused, and made again when memory is back.
 */
static void really_short(void)
{
    echoloop *loop = echoloop_new(NULL);
    echoloop_listener *listener;
    char addr[ECHOLOOP_ADDR_MAX];
    CHECK(loop && echoloop_listen(loop, "127.0.0.1:0", NULL, &listener) == 0);
    CHECK(echoloop_listener_addr(listener, addr, sizeof addr) > 0);
    echoloop_conn *conns[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        CHECK(echoloop_connect(loop, addr, NULL, &conns[i]) == 0);
        CHECK(echoloop_conn_send(conns[i], "hello", 5) == 0);
    }
    echoloop_event events[64];
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    void **taken = NULL;
    int echoed = 0, fired_now = 0;
    for (int turn = 0; echoed < 400 * CLIENTS || !fired_now; turn++) {
        if (turn == 20) {
            none = before;
            none.rlim_cur = 1; /* Nothing can be mapped from now on. */
            CHECK(setrlimit(RLIMIT_AS, &none) == 0);
            for (size_t size = 1 << 16; size >= 16; size /= 2)
                for (void **more; (more = malloc(size)); taken = more)
                    *more = taken;
            echoloop_timer *timer;
            int many = 0;
            while ((got = echoloop_timer_new(loop, 1000, 0, NULL, &timer)) == 0)
                CHECK(++many < 1000000);
            CHECK(got == ECHOLOOP_ENOMEM);
            CHECK(echoloop_new(NULL) == NULL && echoloop_last_status() == ECHOLOOP_ENOMEM);
        }
        int n = echoloop_poll_batch(loop, events, 64, ECHOLOOP_SECONDS(5));
        CHECK(n >= 0);
        for (int i = 0; i < n; i++) {
            CHECK(events[i].type != ECHOLOOP_EVENT_CLOSED);
            fired_now += events[i].type == ECHOLOOP_EVENT_TIMER;
            if (events[i].type != ECHOLOOP_EVENT_DATA)
                continue;
            CHECK(echoloop_conn_send(events[i].conn, events[i].data, events[i].len) == 0);
            echoed++;
        }
    }
    for (void **next; taken; taken = next) {
        next = *taken;
        free(taken);
    }
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    echoloop_timer *timer;
    CHECK(echoloop_timer_new(loop, 1000, 0, NULL, &timer) == 0);
    CHECK(echoloop_free(loop) == 0 && echoloop_live_handles() == 0);
    printf("%d messages and %d timers without memory\n", echoed, fired_now);
}

/* ---- each n in a process of its own --------------------------------------------------------- */

enum outcome { AS_IF_NOTHING, NO_MEMORY, TOLD, OTHER_ERROR, ABORT, HANG, WRONG, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = { "as if nothing", "ENOMEM", "told", "other",
                                                     "ABORT", "HANG", "WRONG" };

static struct row {
    char call[40];
    long n[OUTCOMES];
} rows[64];

static void note(const char *call, enum outcome outcome)
{
    struct row *row = rows;
    while (row->call[0] && strcmp(row->call, call) != 0)
        row++;
    snprintf(row->call, sizeof row->call, "%s", call);
    row->n[outcome]++;
}

static enum outcome run_with(enum mode mode, long nth)
{
    memset(shared, 0, sizeof *shared);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(20);
        if (!freopen("/dev/null", "w", stderr))
            _exit(3);
        faults.mode = mode;
        faults.nth = nth;
        workload();
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(3);
    }
    if (WIFSIGNALED(status)) {
        memcpy(shared->faulted, shared->call, sizeof shared->faulted);
        if (WTERMSIG(status) == SIGALRM)
            return HANG;
        snprintf(shared->wrong, sizeof shared->wrong, "signal %d", WTERMSIG(status));
        return ABORT;
    }
    if (WEXITSTATUS(status) != 0)
        return WRONG;
    if (shared->status == ECHOLOOP_ENOMEM || shared->status == -ENOMEM)
        return NO_MEMORY;
    if (shared->status < 0 && shared->status != -EADDRINUSE)
        return OTHER_ERROR;
    return shared->no_memory || shared->ended || shared->paused ? TOLD : AS_IF_NOTHING;
}

int main(int argc, char **argv)
{
    long step = argc > 1 && strcmp(argv[1], "all") != 0 ? strtol(argv[1], NULL, 10) : 1;
    const char *only = argc > 2 ? argv[2] : NULL;
    long from = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 3;
    if (argc > 1 && strcmp(argv[1], "real") == 0) {
        alarm(60);
        really_short();
        return 0;
    }
    if (step < 1)
        return 3;
    long bad = 0, runs = 0;
    for (int mode = ONCE; mode < MODES; mode++) {
        if (only && strcmp(only, mode_names[mode]) != 0)
            continue;
        long n = from ? from : 1;
        for (;; n += n < 40 ? 1 : step) {
            enum outcome outcome = run_with((enum mode)mode, n);
            runs++;
            if (outcome == AS_IF_NOTHING && !shared->faulted[0])
                break; /* The workload has no nth allocation. */
            note(shared->faulted[0] ? shared->faulted : shared->call, outcome);
            if (outcome == OTHER_ERROR)
                snprintf(shared->wrong, sizeof shared->wrong, "%s",
                         echoloop_errname(shared->status));
            if (outcome >= OTHER_ERROR) {
                bad++;
                if (bad <= 40)
                    printf("%s %ld: %s in %s: %s\n", mode_names[mode], n, outcome_names[outcome],
                           shared->call, shared->wrong);
            }
            if (from)
                break;
        }
        printf("%s: %ld allocations\n", mode_names[mode], n - 1);
    }
    printf("%-16s", "call");
    for (int i = 0; i < OUTCOMES; i++)
        printf("%14s", outcome_names[i]);
    printf("\n");
    for (struct row *row = rows; row->call[0]; row++) {
        printf("%-16s", row->call);
        for (int i = 0; i < OUTCOMES; i++)
            printf("%14ld", row->n[i]);
        printf("\n");
    }
    printf("runs %ld, bad %ld\n", runs, bad);
    return bad ? 1 : 0;
}
