/*
 * One of each kind of object.
 *
 * The rule: a call that is legal succeeds here, so a code that comes of it is about the place where it was made.
 */
#include <echoloop.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SKIPPED INT64_MIN
#define RAW(handle) ((uint64_t)(uintptr_t)(handle))

struct frame {
    const char *name;
};

struct function {
    const char *name;
    int64_t (*call)(void);
};

#include "kinds.h"

struct world {
    echoloop_server *server; /* NULL for a plain loop. */
    echoloop *loop, *elsewhere;
    echoloop_listener *listener;
    echoloop_conn *client, *second, *unix_conn, *accepted;
    echoloop_timer *timer;
    echoloop_watch *watch;
    echoloop_udp *udp;
    echoloop_lookup *lookup;
    echoloop_signal *signal;
    echoloop_remote *remote, *remote_elsewhere;
    echoloop_selector *selector;
    echoloop_workers *workers;
    echoloop_answer *answer;
    char addr[ECHOLOOP_ADDR_MAX], udp_addr[ECHOLOOP_ADDR_MAX];
    int fds[8], n_fds;
    int gate[2]; /* A pipe. */
};

static struct world *w;
/* The function that is called, and where; for messages. */
static const char *fn, *place;
static int asked_conns;
static int taken_fd;
/* What a call writes to; enough for all. */
static union {
    size_t size;
    void *pointer;
    unsigned char bytes[65536];
} results[4];
static int n_results;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s %s, line %d: %s (last error: %s)\n", fn, place, __LINE__, #condition, \
                    echoloop_last_error()); \
            exit(1); \
        } \
    } while (0)

static int calls(const char *name)
{
    return strcmp(fn, name) == 0;
}

static int own(int fd)
{
    CHECK(fd >= 0 && w->n_fds < (int)COUNT(w->fds));
    return w->fds[w->n_fds++] = fd;
}

static int a_socket(int type, int listening)
{
    struct sockaddr_in to;
    int fd = own(socket(AF_INET, type, 0));
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&to, sizeof to) == 0);
    CHECK(!listening || listen(fd, 4) == 0);
    return fd;
}

static int a_pair(void)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    own(pair[0]);
    return own(pair[1]);
}

/* The descriptor is the library's now. */
static void taken(int fd)
{
    int i;
    for (i = 0; i < w->n_fds; i++)
        if (w->fds[i] == fd)
            w->fds[i] = w->fds[--w->n_fds];
}

static int resolve(void *user, const char *host, echoloop_answer *answer);
static echoloop_hooks all_hooks(void);

static void nothing(void *user, const echoloop_event *event, int64_t took_us)
{
    (void)user;
    (void)event;
    (void)took_us;
}

/* Waits for both ends of every connection. */
static void connected(void)
{
    echoloop_event events[16];
    int i, n, tries, made = 0;
    for (tries = 0; made < 5 && tries < 2000; tries++) {
        CHECK((n = echoloop_poll_batch(w->loop, events, COUNT(events), 1000)) >= 0);
        for (i = 0; i < n; i++) {
            if (events[i].type == ECHOLOOP_EVENT_OPENED && w->accepted == NULL)
                w->accepted = events[i].conn;
            made += events[i].type == ECHOLOOP_EVENT_OPENED || events[i].type == ECHOLOOP_EVENT_CONNECTED
                    || events[i].type == ECHOLOOP_EVENT_ADOPTED;
        }
    }
    CHECK(made == 5);
}

/* Workers that the function `fn` is about; started, unless that is too late for it. */
static void make_workers(void)
{
    static const char *const before[] = { "echoloop_workers_listen", "echoloop_workers_bind_udp",
                                          "echoloop_workers_inherit", "echoloop_workers_start" };
    echoloop_hooks hooks = all_hooks();
    size_t i;
    CHECK(echoloop_workers_new(NULL, &w->workers) == 0);
    for (i = 0; i < COUNT(before); i++)
        if (calls(before[i]))
            return;
    CHECK(echoloop_workers_listen(w->workers, "127.0.0.1:0") == 0);
    CHECK(echoloop_workers_bind_udp(w->workers, "127.0.0.1:0") == 0);
    CHECK(echoloop_workers_start(w->workers, 1, 0, &hooks, NULL, NULL, NULL) == 0);
}

/* A lookup whose answer is not told before the next turn. */
static void make_lookup(void)
{
    CHECK(echoloop_resolve(w->loop, "somebody", -1, NULL, &w->lookup) == 0);
}

/* For the function `fn`; a server where `served`, else a plain loop. */
static void make_world(int served)
{
    echoloop_server_options options = ECHOLOOP_SERVER_OPTIONS_INIT;
    echoloop_options of_loop = ECHOLOOP_OPTIONS_INIT;
    echoloop_conn_options small = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_connect_options to = ECHOLOOP_CONNECT_OPTIONS_INIT;
    echoloop_watch_options owned = ECHOLOOP_WATCH_OPTIONS_INIT;
    int pair[2];
    w = calloc(1, sizeof *w);
    CHECK(w != NULL && pipe(w->gate) == 0);
    of_loop.resolve = resolve;
    options.loop = &of_loop;
    options.drain_deadline_us = 1000;
    options.tick_us = 1000;
    options.max_connections = 6;
    small.high_mark = 1000;
    small.linger_us = -1;
    to.conn = &small;
    if (served) {
        CHECK((w->server = echoloop_server_new(&options)) != NULL);
        CHECK((w->loop = echoloop_server_loop(w->server)) != NULL);
        CHECK(echoloop_server_listen(w->server, "127.0.0.1:0", NULL, &w->listener) == 0);
    } else {
        CHECK((w->loop = echoloop_new(&of_loop)) != NULL);
        CHECK(echoloop_listen(w->loop, "127.0.0.1:0", NULL, &w->listener) == 0);
    }
    CHECK((w->elsewhere = echoloop_new(NULL)) != NULL);
    CHECK(echoloop_remote_new(w->elsewhere, &w->remote_elsewhere) == 0);
    CHECK(echoloop_remote_new(w->loop, &w->remote) == 0);
    CHECK(echoloop_listener_addr(w->listener, w->addr, sizeof w->addr) > 0);
    CHECK(echoloop_connect(w->loop, w->addr, &to, &w->client) == 0);
    CHECK(echoloop_connect(w->loop, w->addr, &to, &w->second) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    own(pair[0]);
    CHECK(echoloop_adopt(w->loop, pair[1], NULL, &w->unix_conn) == 0);
    connected();
    CHECK(echoloop_timer_new(w->loop, ECHOLOOP_SECONDS(3600), 0, NULL, &w->timer) == 0);
    CHECK(pipe(pair) == 0);
    own(pair[1]);
    owned.owned = 1;
    CHECK(echoloop_watch_new(w->loop, pair[0], ECHOLOOP_READABLE, &owned, NULL, &w->watch) == 0);
    CHECK(echoloop_udp_bind(w->loop, "127.0.0.1:0", NULL, &w->udp) == 0);
    CHECK(echoloop_udp_local_addr(w->udp, w->udp_addr, sizeof w->udp_addr) > 0);
    CHECK(echoloop_signal_watch(w->loop, SIGUSR1, &w->signal) == 0);
    CHECK(echoloop_selector_new(&w->selector) == 0);
    if (strncmp(fn, "echoloop_lookup_", 16) == 0)
        make_lookup();
    if (strncmp(fn, "echoloop_workers_", 17) == 0)
        make_workers();
}

/* What has to be there before the call that is no object of the world. */
static void prepare(void)
{
    echoloop_ip ip;
    if (calls("echoloop_unpipe"))
        CHECK(echoloop_pipe(w->client, w->second) == 0);
    if (calls("echoloop_udp_leave"))
        CHECK(echoloop_udp_join(w->udp, "239.255.7.7", "lo") == 0);
    if (calls("echoloop_udp_leave_source"))
        CHECK(echoloop_udp_join_source(w->udp, "239.255.7.7", "127.0.0.1", "127.0.0.1") == 0);
    if (calls("echoloop_udp_send") || calls("echoloop_udp_peer_addr") || calls("echoloop_udp_disconnect")) {
        CHECK(echoloop_ip_parse(w->udp_addr, &ip) == 0);
        CHECK(echoloop_udp_connect(w->udp, &ip) == 0);
    }
    if (calls("echoloop_server_udp_addr") && w->server != NULL) {
        int fd = a_socket(SOCK_DGRAM, 0);
        CHECK(echoloop_server_inherit(w->server, fd) == 0);
        taken(fd);
    }
    if (calls("echoloop_selector_modify") || calls("echoloop_selector_unregister"))
        CHECK(echoloop_selector_register(w->selector, w->gate[0], ECHOLOOP_READABLE, 0, 1) == 0);
    if (calls("echoloop_workers_join")) {
        CHECK(echoloop_workers_stop(w->workers) == 0);
        CHECK(echoloop_workers_stop(w->workers) == 0);
        CHECK(echoloop_workers_stop(w->workers) == 0);
    }
    if (calls("echoloop_run"))
        CHECK(echoloop_stop(w->loop) == 0);
    if (calls("echoloop_server_run") && w->server != NULL)
        CHECK(echoloop_server_drain(w->server) == 0 && echoloop_server_drain(w->server) == 0);
}

static void end_world(void)
{
    int freed = w->server != NULL ? echoloop_server_free(w->server) : echoloop_free(w->loop);
    CHECK(freed == 0 || freed == ECHOLOOP_EBADHANDLE);
    echoloop_now_us(w->loop); /* Where another thread has freed it. */
    CHECK(echoloop_free(w->elsewhere) == 0);
    echoloop_remote_free(w->remote);
    echoloop_remote_free(w->remote_elsewhere);
    echoloop_selector_free(w->selector);
    echoloop_workers_free(w->workers);
    while (w->n_fds > 0)
        close(w->fds[--w->n_fds]);
    close(w->gate[1]);
    close(w->gate[0]);
    free(w);
    w = NULL;
}
