/*
 * Everything a program can do wrong, and the documented code it gets. Run by tests/misuse.rs,
 * plainly and under valgrind. Each function is one sentence; a failed check names its line.
 */
#include <echoloop.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __func__, __LINE__, #condition, \
                    echoloop_last_error()); \
            exit(1); \
        } \
    } while (0)
#define GETS(call, code) \
    do { \
        int got_ = (int)(call); \
        if (got_ != (code)) { \
            fprintf(stderr, "%s:%d: %s is %d %s, not %d (last error: %s)\n", __func__, __LINE__, \
                    #call, got_, echoloop_errname(got_), (code), echoloop_last_error()); \
            exit(1); \
        } \
    } while (0)

/* Every function on a connection, listener, timer gets `code`. */
static void all_conn(echoloop_conn *conn, int code)
{
    void *user;
    char text[ECHOLOOP_ADDR_MAX];
    echoloop_credentials peer = ECHOLOOP_CREDENTIALS_INIT;
    echoloop_given given = ECHOLOOP_GIVEN_INIT;
    GETS(echoloop_conn_send(conn, "x", 1), code);
    GETS(echoloop_conn_unread(conn, "x", 1), code);
    GETS(echoloop_conn_flush(conn), code);
    GETS(echoloop_conn_queued(conn), code);
    GETS(echoloop_conn_pause(conn), code);
    GETS(echoloop_conn_resume(conn), code);
    GETS(echoloop_conn_shutdown_write(conn), code);
    GETS(echoloop_conn_close(conn), code);
    GETS(echoloop_conn_abort(conn), code);
    GETS(echoloop_conn_set_user(conn, NULL), code);
    GETS(echoloop_conn_user(conn, &user), code);
    GETS(echoloop_conn_peer_addr(conn, text, sizeof text), code);
    GETS(echoloop_conn_local_addr(conn, text, sizeof text), code);
    GETS(echoloop_conn_set_auto_pause(conn, 1), code);
    GETS(echoloop_conn_set_idle_timeout(conn, 1), code);
    GETS(echoloop_conn_set_write_stall_timeout(conn, 1), code);
    GETS(echoloop_conn_set_lifetime(conn, 1), code);
    GETS(echoloop_conn_set_receive_rate(conn, 1, 1), code);
    GETS(echoloop_conn_set_no_delay(conn, 1), code);
    GETS(echoloop_conn_set_keepalive(conn, 1, 1, 1), code);
    GETS(echoloop_conn_set_notsent_lowat(conn, 1), code);
    GETS(echoloop_conn_origin(conn, NULL), code);
    GETS(echoloop_conn_peer_credentials(conn, &peer), code);
    GETS(echoloop_conn_target(conn, text, sizeof text), code);
    GETS(echoloop_conn_attempts(conn), code);
    GETS(echoloop_conn_attempt(conn, 0, text, sizeof text, NULL), code);
    GETS(echoloop_conn_may_send(conn), code);
    GETS(echoloop_pipe(conn, conn), code);
    GETS(echoloop_unpipe(conn), code);
    GETS(echoloop_hand_over(conn, NULL), code);
    GETS(echoloop_give_away(conn, &given), code);
    CHECK(given.fd == -1);
}

static void all_listener(echoloop_listener *listener, int code)
{
    char text[ECHOLOOP_ADDR_MAX];
    GETS(echoloop_listener_addr(listener, text, sizeof text), code);
    GETS(echoloop_listener_share(listener), code);
    GETS(echoloop_listener_close(listener), code);
}

static void all_timer(echoloop_timer *timer, int code)
{
    void *user;
    GETS(echoloop_timer_rearm(timer, 1), code);
    GETS(echoloop_timer_user(timer, &user), code);
    GETS(echoloop_timer_cancel(timer), code);
}

static void all_watch(echoloop_watch *watch, int code)
{
    void *user;
    GETS(echoloop_watch_modify(watch, ECHOLOOP_READABLE), code);
    GETS(echoloop_watch_fd(watch), code);
    GETS(echoloop_watch_user(watch, &user), code);
    GETS(echoloop_watch_set_user(watch, NULL), code);
    GETS(echoloop_watch_set_callback(watch, NULL), code);
    GETS(echoloop_watch_release(watch), code);
    GETS(echoloop_watch_close(watch), code);
}

static void all_selector(echoloop_selector *selector, int code)
{
    echoloop_ready ready;
    GETS(echoloop_selector_register(selector, 0, ECHOLOOP_READABLE, 0, 0), code);
    GETS(echoloop_selector_modify(selector, 0, 0), code);
    GETS(echoloop_selector_unregister(selector, 0), code);
    GETS(echoloop_selector_wait(selector, &ready, 1, 0), code);
    GETS(echoloop_selector_wake(selector), code);
    GETS(echoloop_selector_free(selector), code);
}

static void all_remote(echoloop_remote *remote, int code)
{
    GETS(echoloop_remote_post(remote, NULL), code);
    GETS(echoloop_remote_stop(remote), code);
    GETS(echoloop_remote_wake(remote), code);
    GETS(echoloop_remote_free(remote), code);
}

static void all_udp(echoloop_udp *udp, int code)
{
    static const echoloop_ip to = { { 127, 0, 0, 1 }, 0, 7, 4, 0 };
    const echoloop_datagram *datagrams;
    void *user;
    char text[ECHOLOOP_ADDR_MAX];
    GETS(echoloop_udp_send(udp, "x", 1), code);
    GETS(echoloop_udp_send_to(udp, &to, "x", 1), code);
    GETS(echoloop_udp_send_from(udp, &to, &to, "x", 1), code);
    GETS(echoloop_udp_send_segments(udp, &to, "x", 1, 1), code);
    GETS(echoloop_udp_received(udp, &datagrams), code);
    GETS(echoloop_udp_connect(udp, &to), code);
    GETS(echoloop_udp_disconnect(udp), code);
    GETS(echoloop_udp_join(udp, "224.0.0.1", NULL), code);
    GETS(echoloop_udp_leave(udp, "224.0.0.1", NULL), code);
    GETS(echoloop_udp_join_source(udp, "232.0.0.1", "127.0.0.1", NULL), code);
    GETS(echoloop_udp_leave_source(udp, "232.0.0.1", "127.0.0.1", NULL), code);
    GETS(echoloop_udp_pause(udp), code);
    GETS(echoloop_udp_resume(udp), code);
    GETS(echoloop_udp_queued(udp), code);
    GETS(echoloop_udp_dropped(udp), code);
    GETS(echoloop_udp_set_user(udp, NULL), code);
    GETS(echoloop_udp_user(udp, &user), code);
    GETS(echoloop_udp_local_addr(udp, text, sizeof text), code);
    GETS(echoloop_udp_peer_addr(udp, text, sizeof text), code);
    GETS(echoloop_udp_share(udp), code);
    GETS(echoloop_udp_close(udp), code);
}

static void all_lookup(echoloop_lookup *lookup, int code)
{
    echoloop_ip ip;
    GETS(echoloop_lookup_count(lookup), code);
    GETS(echoloop_lookup_addr(lookup, 0, &ip), code);
    GETS(echoloop_lookup_cancel(lookup), code);
}

/* Every function on a loop, except its free, gets `code`. */
static void all_loop(echoloop *loop, int code)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_counters counters = ECHOLOOP_COUNTERS_INIT;
    echoloop_metrics metrics = ECHOLOOP_METRICS_INIT;
    char text[100];
    echoloop_event event;
    echoloop_listener *listener = NULL;
    echoloop_conn *conn = NULL;
    echoloop_timer *timer = NULL;
    echoloop_remote *remote = NULL;
    echoloop_watch *watch = NULL;
    int64_t deadline_us;
    echoloop_udp *udp = NULL;
    echoloop_lookup *lookup = NULL;
    echoloop_signal *signal = NULL;
    GETS(echoloop_run(loop, &hooks, NULL), code);
    GETS(echoloop_poll_batch(loop, &event, 1, 0), code);
    GETS(echoloop_stop(loop), code);
    GETS(echoloop_now_us(loop), code);
    GETS(echoloop_counters_get(loop, &counters), code);
    GETS(echoloop_metrics_get(loop, &metrics), code);
    GETS(echoloop_set_slow_handler(loop, 1, NULL, NULL), code);
    GETS(echoloop_dump(loop, text, sizeof text), code);
    GETS(echoloop_listen(loop, "127.0.0.1:0", NULL, &listener), code);
    GETS(echoloop_connect(loop, "127.0.0.1:1", NULL, &conn), code);
    GETS(echoloop_adopt(loop, 0, NULL, &conn), code);
    GETS(echoloop_adopt_listener(loop, 0, NULL, &listener), code);
    GETS(echoloop_shut_down(loop, 0), code);
    GETS(echoloop_timer_new(loop, 1, 0, NULL, &timer), code);
    GETS(echoloop_remote_new(loop, &remote), code);
    GETS(echoloop_watch_new(loop, 0, ECHOLOOP_READABLE, NULL, NULL, &watch), code);
    GETS(echoloop_fd(loop), code);
    GETS(echoloop_next_deadline(loop, &deadline_us), code);
    GETS(echoloop_udp_bind(loop, "127.0.0.1:0", NULL, &udp), code);
    GETS(echoloop_udp_adopt(loop, 0, NULL, &udp), code);
    GETS(echoloop_resolve(loop, "localhost", 0, NULL, &lookup), code);
    GETS(echoloop_signal_watch(loop, SIGUSR1, &signal), code);
    CHECK(!listener && !conn && !timer && !remote && !watch && !udp && !lookup && !signal);
}

static void all_server(echoloop_server *server, int code)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server_counters counters = ECHOLOOP_SERVER_COUNTERS_INIT;
    char text[ECHOLOOP_ADDR_MAX];
    CHECK(echoloop_server_loop(server) == NULL);
    GETS(echoloop_last_status(), code);
    GETS(echoloop_server_listen(server, "127.0.0.1:0", NULL, NULL), code);
    GETS(echoloop_server_run(server, &hooks, NULL, &report), code);
    GETS(echoloop_server_drain(server), code);
    GETS(echoloop_server_drain_with_grace(server, 1), code);
    GETS(echoloop_server_inherit(server, 0), code);
    GETS(echoloop_server_bind_udp(server, "127.0.0.1:0", NULL, NULL), code);
    GETS(echoloop_server_addr(server, 0, text, sizeof text), code);
    GETS(echoloop_server_udp_addr(server, 0, text, sizeof text), code);
    GETS(echoloop_server_report(server, &report), code);
    GETS(echoloop_server_counters_get(server, &counters), code);
}

static void all_workers(echoloop_workers *workers, int code)
{
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_counters counters = ECHOLOOP_COUNTERS_INIT;
    echoloop_server_counters server_counters = ECHOLOOP_SERVER_COUNTERS_INIT;
    echoloop_remote *remote = NULL;
    char text[ECHOLOOP_ADDR_MAX];
    GETS(echoloop_workers_listen(workers, "127.0.0.1:0"), code);
    GETS(echoloop_workers_bind_udp(workers, "127.0.0.1:0"), code);
    GETS(echoloop_workers_inherit(workers, 0), code);
    GETS(echoloop_workers_start(workers, 1, 0, NULL, NULL, NULL, NULL), code);
    GETS(echoloop_workers_stop(workers), code);
    GETS(echoloop_workers_join(workers, &report), code);
    GETS(echoloop_workers_count(workers), code);
    GETS(echoloop_workers_is_finished(workers), code);
    GETS(echoloop_workers_addr(workers, 0, text, sizeof text), code);
    GETS(echoloop_workers_udp_addr(workers, 0, text, sizeof text), code);
    GETS(echoloop_workers_load(workers, 0, NULL, NULL), code);
    GETS(echoloop_workers_counters_get(workers, &server_counters), code);
    GETS(echoloop_workers_loop_counters_get(workers, &counters), code);
    GETS(echoloop_workers_remote(workers, 0, &remote), code);
    GETS(echoloop_workers_free(workers), code);
    CHECK(!remote);
}

/* A handle of 64 bits that somebody made up. */
#define MADE_UP(type, bits) ((type *)(uintptr_t)(bits))

static void everything(uint64_t bits, int code)
{
    all_conn(MADE_UP(echoloop_conn, bits), code);
    all_listener(MADE_UP(echoloop_listener, bits), code);
    all_timer(MADE_UP(echoloop_timer, bits), code);
    all_remote(MADE_UP(echoloop_remote, bits), code);
    all_watch(MADE_UP(echoloop_watch, bits), code);
    all_selector(MADE_UP(echoloop_selector, bits), code);
    all_udp(MADE_UP(echoloop_udp, bits), code);
    all_lookup(MADE_UP(echoloop_lookup, bits), code);
    GETS(echoloop_signal_close(MADE_UP(echoloop_signal, bits)), code);
    all_loop(MADE_UP(echoloop, bits), code);
    all_server(MADE_UP(echoloop_server, bits), code);
    all_workers(MADE_UP(echoloop_workers, bits), code);
    GETS(echoloop_free(MADE_UP(echoloop, bits)), code);
    GETS(echoloop_server_free(MADE_UP(echoloop_server, bits)), code);
}

/* One of each kind, and a connection between the loop and itself. */
struct world {
    echoloop *loop;
    echoloop_listener *listener;
    echoloop_conn *client, *accepted;
    echoloop_timer *timer;
    echoloop_remote *remote;
    echoloop_watch *watch; /* Of the server's loop. */
    echoloop_udp *udp;
    echoloop_lookup *lookup; /* Its event is on the way. */
    echoloop_signal *signal;
    echoloop_server *server;
    char addr[ECHOLOOP_ADDR_MAX];
};

static struct world make_world(void)
{
    struct world w = { 0 };
    echoloop_event events[16];
    int i, n, tries;
    CHECK((w.loop = echoloop_new(NULL)) != NULL);
    CHECK((w.server = echoloop_server_new(NULL)) != NULL);
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", NULL, &w.listener), 0);
    CHECK(echoloop_listener_addr(w.listener, w.addr, sizeof w.addr) > 0);
    GETS(echoloop_connect(w.loop, w.addr, NULL, &w.client), 0);
    GETS(echoloop_timer_new(w.loop, ECHOLOOP_SECONDS(3600), 0, &w, &w.timer), 0);
    GETS(echoloop_remote_new(w.loop, &w.remote), 0);
    i = echoloop_fd(echoloop_server_loop(w.server));
    CHECK(i >= 0);
    GETS(echoloop_watch_new(w.loop, i, ECHOLOOP_READABLE, NULL, &w, &w.watch), 0);
    GETS(echoloop_udp_bind(w.loop, "127.0.0.1:0", NULL, &w.udp), 0);
    GETS(echoloop_signal_watch(w.loop, SIGUSR1, &w.signal), 0);
    for (tries = 0; w.accepted == NULL && tries < 100; tries++) {
        n = echoloop_poll_batch(w.loop, events, 16, ECHOLOOP_MS(100));
        CHECK(n >= 0);
        for (i = 0; i < n; i++)
            if (events[i].type == ECHOLOOP_EVENT_OPENED)
                w.accepted = events[i].conn;
    }
    CHECK(w.accepted != NULL);
    GETS(echoloop_resolve(w.loop, "127.0.0.1", 0, NULL, &w.lookup), 0);
    return w;
}

static void end_world(struct world w)
{
    GETS(echoloop_remote_free(w.remote), 0);
    GETS(echoloop_free(w.loop), 0);
    GETS(echoloop_server_free(w.server), 0);
}

static void zero_and_random_handles_are_bad_handles(void)
{
    uint64_t random = 88172645463325252u;
    struct world w = make_world();
    int i;
    everything(0, ECHOLOOP_EBADHANDLE);
    everything(UINT64_MAX, ECHOLOOP_EBADHANDLE);
    everything((uint64_t)(uintptr_t)&w, ECHOLOOP_EBADHANDLE);
    for (i = 0; i < 1000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        everything(random, ECHOLOOP_EBADHANDLE);
    }
    end_world(w);
}

static void handles_with_a_bit_flipped_are_bad_handles(void)
{
    struct world w = make_world();
    int bit;
    for (bit = 0; bit < 64; bit++) {
        uint64_t flip = (uint64_t)1 << bit;
        if (MADE_UP(echoloop_conn, (uintptr_t)w.client ^ flip) != w.accepted)
            all_conn(MADE_UP(echoloop_conn, (uintptr_t)w.client ^ flip), ECHOLOOP_EBADHANDLE);
        all_listener(MADE_UP(echoloop_listener, (uintptr_t)w.listener ^ flip), ECHOLOOP_EBADHANDLE);
        all_timer(MADE_UP(echoloop_timer, (uintptr_t)w.timer ^ flip), ECHOLOOP_EBADHANDLE);
        all_watch(MADE_UP(echoloop_watch, (uintptr_t)w.watch ^ flip), ECHOLOOP_EBADHANDLE);
        all_server(MADE_UP(echoloop_server, (uintptr_t)w.server ^ flip), ECHOLOOP_EBADHANDLE);
        all_udp(MADE_UP(echoloop_udp, (uintptr_t)w.udp ^ flip), ECHOLOOP_EBADHANDLE);
        all_lookup(MADE_UP(echoloop_lookup, (uintptr_t)w.lookup ^ flip), ECHOLOOP_EBADHANDLE);
        GETS(echoloop_signal_close(MADE_UP(echoloop_signal, (uintptr_t)w.signal ^ flip)),
             ECHOLOOP_EBADHANDLE);
        /* The two loops, and the two connections, are one bit apart, and alive. */
        if (MADE_UP(echoloop, (uintptr_t)w.loop ^ flip) == echoloop_server_loop(w.server))
            continue;
        all_loop(MADE_UP(echoloop, (uintptr_t)w.loop ^ flip), ECHOLOOP_EBADHANDLE);
        GETS(echoloop_free(MADE_UP(echoloop, (uintptr_t)w.loop ^ flip)), ECHOLOOP_EBADHANDLE);
    }
    GETS(echoloop_conn_send(w.client, "still here", 10), 0);
    end_world(w);
}

static void handles_of_another_kind_are_bad_handles(void)
{
    struct world w = make_world();
    echoloop_ip ip;
    GETS(echoloop_ip_parse("127.0.0.1", &ip), 0);
    all_listener((echoloop_listener *)w.client, ECHOLOOP_EBADHANDLE);
    all_timer((echoloop_timer *)w.client, ECHOLOOP_EBADHANDLE);
    all_watch((echoloop_watch *)w.timer, ECHOLOOP_EBADHANDLE);
    all_selector((echoloop_selector *)w.remote, ECHOLOOP_EBADHANDLE);
    all_conn((echoloop_conn *)w.timer, ECHOLOOP_EBADHANDLE);
    all_conn((echoloop_conn *)w.loop, ECHOLOOP_EBADHANDLE);
    all_conn((echoloop_conn *)w.udp, ECHOLOOP_EBADHANDLE);
    all_udp((echoloop_udp *)w.signal, ECHOLOOP_EBADHANDLE);
    all_lookup((echoloop_lookup *)w.udp, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_signal_close((echoloop_signal *)w.lookup), ECHOLOOP_EBADHANDLE);
    GETS(echoloop_answer_add((echoloop_answer *)w.udp, &ip), ECHOLOOP_EBADHANDLE);
    all_loop((echoloop *)w.listener, ECHOLOOP_EBADHANDLE);
    all_loop((echoloop *)w.server, ECHOLOOP_EBADHANDLE);
    all_server((echoloop_server *)w.loop, ECHOLOOP_EBADHANDLE);
    all_remote((echoloop_remote *)w.loop, ECHOLOOP_EBADHANDLE);
    all_workers((echoloop_workers *)w.loop, ECHOLOOP_EBADHANDLE);
    all_workers((echoloop_workers *)w.remote, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_free((echoloop *)w.remote), ECHOLOOP_EBADHANDLE);
    end_world(w);
}

static void freed_and_closed_handles_are_bad_handles(void)
{
    struct world w = make_world();
    echoloop_remote *second;
    echoloop *of_server = echoloop_server_loop(w.server);
    CHECK(of_server != NULL);
    GETS(echoloop_free(of_server), ECHOLOOP_EINVAL); /* Only with its server. */
    GETS(echoloop_timer_cancel(w.timer), 0);
    all_timer(w.timer, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_watch_close(w.watch), 0);
    all_watch(w.watch, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_listener_close(w.listener), 0);
    all_listener(w.listener, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_udp_close(w.udp), 0);
    all_udp(w.udp, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_lookup_cancel(w.lookup), 0);
    all_lookup(w.lookup, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_signal_close(w.signal), 0);
    GETS(echoloop_signal_close(w.signal), ECHOLOOP_EBADHANDLE);
    GETS(echoloop_remote_new(w.loop, &second), 0);
    GETS(echoloop_remote_free(second), 0);
    all_remote(second, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_free(w.loop), 0);
    GETS(echoloop_free(w.loop), ECHOLOOP_EBADHANDLE);
    all_loop(w.loop, ECHOLOOP_EBADHANDLE);
    all_conn(w.client, ECHOLOOP_EBADHANDLE);
    all_conn(w.accepted, ECHOLOOP_EBADHANDLE);
    GETS(echoloop_server_free(w.server), 0);
    GETS(echoloop_server_free(w.server), ECHOLOOP_EBADHANDLE);
    all_server(w.server, ECHOLOOP_EBADHANDLE);
    all_loop(of_server, ECHOLOOP_EBADHANDLE);
    /* The number of the loop is used again, and the old handles still reach nothing. */
    {
        struct world next = make_world();
        all_loop(w.loop, ECHOLOOP_EBADHANDLE);
        all_conn(w.client, ECHOLOOP_EBADHANDLE);
        all_timer(w.timer, ECHOLOOP_EBADHANDLE);
        all_watch(w.watch, ECHOLOOP_EBADHANDLE);
        all_udp(w.udp, ECHOLOOP_EBADHANDLE);
        all_lookup(w.lookup, ECHOLOOP_EBADHANDLE);
        end_world(next);
    }
    GETS(echoloop_remote_post(w.remote, NULL), ECHOLOOP_ECLOSED);
    GETS(echoloop_remote_stop(w.remote), ECHOLOOP_ECLOSED);
    GETS(echoloop_remote_wake(w.remote), ECHOLOOP_ECLOSED);
    GETS(echoloop_remote_free(w.remote), 0);
    all_remote(w.remote, ECHOLOOP_EBADHANDLE);
}

static void null_arguments_are_refused_and_nothing_is_written(void)
{
    struct world w = make_world();
    echoloop_listener *listener = NULL;
    echoloop_event event;
    echoloop_counters unset;
    echoloop_listen_options newer[2];
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_udp_options udp = ECHOLOOP_UDP_OPTIONS_INIT;
    echoloop_ip to = { { 0 }, 0, 7, 0, 0 };
    char small[4];
    memset(&unset, 0, sizeof unset);
    GETS(echoloop_listen(w.loop, NULL, NULL, &listener), ECHOLOOP_ENULL);
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_connect(w.loop, NULL, NULL, &w.client), ECHOLOOP_ENULL);
    GETS(echoloop_connect(w.loop, w.addr, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_timer_new(w.loop, 0, 0, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_timer_user(w.timer, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_watch_user(w.watch, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_next_deadline(w.loop, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_selector_new(NULL), ECHOLOOP_ENULL);
    GETS(echoloop_watch_new(w.loop, -1, ECHOLOOP_READABLE, NULL, NULL, &w.watch), -EBADF);
    GETS(echoloop_remote_new(w.loop, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_run(w.loop, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_poll_batch(w.loop, NULL, 1, 0), ECHOLOOP_ENULL);
    GETS(echoloop_poll_batch(w.loop, &event, 0, 0), ECHOLOOP_EINVAL);
    GETS(echoloop_counters_get(w.loop, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_counters_get(w.loop, &unset), ECHOLOOP_EINVAL);
    GETS(echoloop_metrics_get(w.loop, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_dump(w.loop, NULL, 1), ECHOLOOP_ENULL);
    GETS(echoloop_has(NULL), 0);
    GETS(echoloop_set_log(ECHOLOOP_LOG_TRACE + 1, NULL, NULL), ECHOLOOP_EINVAL);
    GETS(echoloop_set_log(-1, NULL, NULL), ECHOLOOP_EINVAL);
    GETS(echoloop_set_log(ECHOLOOP_LOG_TRACE, NULL, NULL), 0);
    GETS(echoloop_has("no such thing"), 0);
    GETS(echoloop_conn_user(w.client, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_conn_peer_addr(w.client, NULL, 64), ECHOLOOP_ENULL);
    GETS(echoloop_conn_peer_addr(w.client, small, sizeof small), ECHOLOOP_EINVAL);
    GETS(echoloop_listener_addr(w.listener, small, 0), ECHOLOOP_EINVAL);
    GETS(echoloop_server_listen(w.server, NULL, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_server_counters_get(w.server, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_server_inherit(w.server, -1), -EBADF);
    GETS(echoloop_server_addr(w.server, 99, w.addr, sizeof w.addr), ECHOLOOP_EINVAL);
    GETS(echoloop_conn_target(w.client, NULL, 64), ECHOLOOP_ENULL);
    GETS(echoloop_conn_attempt(w.client, 0, NULL, 64, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_conn_peer_credentials(w.client, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_give_away(w.client, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_adopt(w.loop, 0, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_adopt(w.loop, -1, NULL, &w.accepted), -EBADF);
    GETS(echoloop_adopt_listener(w.loop, 0, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_adopt_listener(w.loop, -1, NULL, &listener), -EBADF);
    GETS(echoloop_inherited(NULL, 0), 0);
    GETS(echoloop_inherited(NULL, 1), ECHOLOOP_ENULL);
    GETS(echoloop_pipe(w.client, NULL), ECHOLOOP_EBADHANDLE);
    GETS(echoloop_hand_over(w.accepted, NULL), ECHOLOOP_EBADHANDLE);
    GETS(echoloop_conn_send(w.client, NULL, 1), ECHOLOOP_ENULL);
    GETS(echoloop_conn_unread(w.client, NULL, 1), ECHOLOOP_ENULL);
    GETS(echoloop_conn_send(w.client, NULL, 0), 0);
    GETS(echoloop_conn_send(w.client, "x", 0), 0);
    GETS(echoloop_conn_unread(w.client, NULL, 0), 0);
    GETS(echoloop_conn_send(w.client, "x", SIZE_MAX), ECHOLOOP_EINVAL);
    GETS(echoloop_udp_bind(w.loop, NULL, NULL, &w.udp), ECHOLOOP_ENULL);
    GETS(echoloop_udp_bind(w.loop, "127.0.0.1:0", NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_adopt(w.loop, 0, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_adopt(w.loop, -1, NULL, &w.udp), -EBADF);
    udp.size = 0;
    GETS(echoloop_udp_bind(w.loop, "127.0.0.1:0", &udp, &w.udp), ECHOLOOP_EINVAL);
    GETS(echoloop_udp_received(w.udp, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_user(w.udp, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_connect(w.udp, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_connect(w.udp, &to), ECHOLOOP_EINVAL);
    GETS(echoloop_udp_send(w.udp, NULL, 1), ECHOLOOP_ENULL);
    GETS(echoloop_udp_send_to(w.udp, NULL, "x", 1), ECHOLOOP_ENULL);
    GETS(echoloop_udp_send_to(w.udp, &to, "x", 1), ECHOLOOP_EINVAL);
    GETS(echoloop_udp_send_from(w.udp, NULL, &to, "x", 1), ECHOLOOP_ENULL);
    GETS(echoloop_udp_send_segments(w.udp, &to, "x", SIZE_MAX, 1), ECHOLOOP_EINVAL);
    GETS(echoloop_udp_join(w.udp, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_join_source(w.udp, "232.0.0.1", NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_udp_local_addr(w.udp, NULL, 64), ECHOLOOP_ENULL);
    GETS(echoloop_udp_local_addr(w.udp, small, sizeof small), ECHOLOOP_EINVAL);
    GETS(echoloop_resolve(w.loop, NULL, 0, NULL, &w.lookup), ECHOLOOP_ENULL);
    GETS(echoloop_resolve(w.loop, "localhost", 0, NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_lookup_addr(w.lookup, 0, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_answer_add(NULL, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_signal_watch(w.loop, SIGUSR1, NULL), ECHOLOOP_ENULL);
    GETS(echoloop_signal_watch(w.loop, SIGKILL, &w.signal), ECHOLOOP_EINVAL);
    GETS(echoloop_timer_new(w.loop, -1, 0, NULL, &w.timer), ECHOLOOP_EINVAL);
    GETS(echoloop_timer_rearm(w.timer, -1), ECHOLOOP_EINVAL);
    GETS(echoloop_listen(w.loop, "localhost", NULL, &listener), ECHOLOOP_EINVAL);
    CHECK(strstr(echoloop_last_error(), "\"localhost\"") != NULL);
    GETS(echoloop_listen(w.loop, w.addr, NULL, &listener), -EADDRINUSE);
    CHECK(strstr(echoloop_last_error(), "EADDRINUSE") && strstr(echoloop_last_error(), w.addr));
    CHECK(listener == NULL);
    /* A struct of a newer header is fine as long as what is new in it is not used. */
    memset(newer, 0, sizeof newer);
    newer[0].size = sizeof newer;
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", newer, &listener), 0);
    GETS(echoloop_listener_close(listener), 0);
    newer[1].backlog = 1;
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", newer, &listener), ECHOLOOP_EINVAL);
    newer[0].size = sizeof newer[0];
    newer[0].conn = &conn;
    conn.low_mark = 1000;
    conn.high_mark = 5;
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", newer, &listener), ECHOLOOP_EINVAL);
    hooks.size = 0;
    GETS(echoloop_run(w.loop, &hooks, NULL), ECHOLOOP_EINVAL);
    /* Half a pointer would be one to anywhere. */
    newer[0].size = offsetof(echoloop_listen_options, conn) + 4;
    GETS(echoloop_listen(w.loop, "127.0.0.1:0", newer, &listener), ECHOLOOP_EINVAL);
    end_world(w);
}

static void *try_from_another_thread(void *user)
{
    struct world *w = user;
    all_conn(w->client, ECHOLOOP_EWRONGTHREAD);
    all_listener(w->listener, ECHOLOOP_EWRONGTHREAD);
    all_timer(w->timer, ECHOLOOP_EWRONGTHREAD);
    all_watch(w->watch, ECHOLOOP_EWRONGTHREAD);
    all_udp(w->udp, ECHOLOOP_EWRONGTHREAD);
    all_lookup(w->lookup, ECHOLOOP_EWRONGTHREAD);
    GETS(echoloop_signal_close(w->signal), ECHOLOOP_EWRONGTHREAD);
    all_loop(w->loop, ECHOLOOP_EWRONGTHREAD);
    all_server(w->server, ECHOLOOP_EWRONGTHREAD);
    GETS(echoloop_remote_wake(w->remote), 0);
    GETS(echoloop_remote_post(w->remote, w), 0);
    GETS(echoloop_server_free(w->server), 0);
    GETS(echoloop_server_free(w->server), ECHOLOOP_EBADHANDLE);
    return NULL;
}

static void other_threads_get_wrong_thread_save_for_remotes_and_frees(void)
{
    struct world w = make_world();
    pthread_t thread;
    int64_t before = echoloop_live_handles();
    CHECK(pthread_create(&thread, NULL, try_from_another_thread, &w) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(echoloop_live_handles() == before); /* The free is queued for this thread... */
    GETS(echoloop_server_drain(w.server), ECHOLOOP_EBADHANDLE); /* ...whose next call does it. */
    CHECK(echoloop_live_handles() == before - 1);
    GETS(echoloop_conn_send(w.client, "untouched", 9), 0);
    GETS(echoloop_remote_free(w.remote), 0);
    GETS(echoloop_free(w.loop), 0);
}

/* What a callback does, and what it is told. */
struct script {
    echoloop *loop;
    echoloop_listener *listener;
    echoloop_conn *client;
    echoloop_timer *timer;
    int event, act; /* Do `act` in `event`. */
    int done, closes;
};

enum { ON_OPEN, ON_DATA, ON_EOS, ON_CLOSE, ON_TIMER, ON_POST, EVENTS };
enum { CLOSE, ABORT, CANCEL, CLOSE_LISTENER, FREE, RUN, ACTS };

static void act(struct script *s, int event, echoloop_conn *conn)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_event batch;
    if (event != s->event || s->done)
        return;
    s->done = 1;
    switch (s->act) {
    case CLOSE:
        GETS(echoloop_conn_close(conn), 0);
        GETS(echoloop_conn_close(conn), 0);
        GETS(echoloop_conn_send(conn, "x", 1), ECHOLOOP_ECLOSING);
        break;
    case ABORT:
        GETS(echoloop_conn_abort(conn), 0);
        GETS(echoloop_conn_send(conn, "x", 1), ECHOLOOP_ECLOSING);
        break;
    case CANCEL:
        GETS(echoloop_timer_cancel(s->timer), 0);
        GETS(echoloop_timer_cancel(s->timer), ECHOLOOP_EBADHANDLE);
        s->timer = NULL;
        break;
    case CLOSE_LISTENER:
        GETS(echoloop_listener_close(s->listener), 0);
        GETS(echoloop_listener_close(s->listener), ECHOLOOP_EBADHANDLE);
        break;
    case FREE:
        GETS(echoloop_free(s->loop), 0);
        GETS(echoloop_free(s->loop), ECHOLOOP_EBADHANDLE);
        GETS(echoloop_stop(s->loop), ECHOLOOP_EBADHANDLE);
        return;
    case RUN:
        GETS(echoloop_run(s->loop, &hooks, NULL), ECHOLOOP_EREENTRY);
        GETS(echoloop_poll_batch(s->loop, &batch, 1, 0), ECHOLOOP_EREENTRY);
        break;
    }
    GETS(echoloop_stop(s->loop), 0);
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    if (listener != NULL)
        GETS(echoloop_conn_set_user(conn, user), 0);
    act(user, ON_OPEN, conn);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    uint8_t copy[16];
    size_t n = len < sizeof copy ? len : sizeof copy;
    memcpy(copy, data, n);
    act(user, ON_DATA, conn);
    CHECK(memcmp(copy, data, n) == 0); /* Readable whatever the callback did. */
    return len > 1 ? len - 1 : len;
}

static void on_end_of_stream(void *user, echoloop_conn *conn)
{
    act(user, ON_EOS, conn);
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    struct script *s = user;
    void *kept;
    (void)unsent;
    CHECK(strlen(echoloop_close_reason(reason)) > 3);
    GETS(echoloop_conn_user(conn, &kept), 0);
    CHECK(kept == NULL || kept == user);
    s->closes++;
    act(s, ON_CLOSE, conn);
}

static void on_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    struct script *s = user;
    (void)timer;
    CHECK(timer_user == user);
    act(s, ON_TIMER, s->client);
}

static void on_post(void *user, void *word)
{
    CHECK(word == user);
    act(user, ON_POST, ((struct script *)user)->client);
}

static void every_object_may_be_ended_inside_every_callback(void)
{
    int event, what;
    for (event = 0; event < EVENTS; event++)
        for (what = 0; what < ACTS; what++) {
            echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
            struct script s = { 0 };
            echoloop_remote *remote;
            char addr[ECHOLOOP_ADDR_MAX];
            int64_t before = echoloop_live_handles();
            hooks.on_open = on_open;
            hooks.on_data = on_data;
            hooks.on_end_of_stream = on_end_of_stream;
            hooks.on_close = on_close;
            hooks.on_timer = on_timer;
            hooks.on_post = on_post;
            s.event = event;
            s.act = what;
            CHECK((s.loop = echoloop_new(NULL)) != NULL);
            GETS(echoloop_listen(s.loop, "127.0.0.1:0", NULL, &s.listener), 0);
            CHECK(echoloop_listener_addr(s.listener, addr, sizeof addr) > 0);
            GETS(echoloop_connect(s.loop, addr, NULL, &s.client), 0);
            GETS(echoloop_conn_send(s.client, "some data", 9), 0);
            if (event == ON_EOS || event == ON_CLOSE)
                GETS(echoloop_conn_shutdown_write(s.client), 0);
            /* Before the connection is over, save where the timer itself is on trial. */
            GETS(echoloop_timer_new(s.loop, event == ON_TIMER ? 0 : ECHOLOOP_SECONDS(60), 0, &s,
                                    &s.timer), 0);
            GETS(echoloop_remote_new(s.loop, &remote), 0);
            if (event == ON_POST)
                GETS(echoloop_remote_post(remote, &s), 0);
            GETS(echoloop_run(s.loop, &hooks, &s), 0);
            CHECK(s.done);
            if (what == FREE) {
                GETS(echoloop_free(s.loop), ECHOLOOP_EBADHANDLE);
                GETS(echoloop_remote_stop(remote), ECHOLOOP_ECLOSED);
            } else {
                GETS(echoloop_free(s.loop), 0);
            }
            GETS(echoloop_remote_free(remote), 0);
            CHECK(echoloop_live_handles() == before);
        }
}

static void *free_it(void *loop)
{
    GETS(echoloop_free(loop), 0);
    return NULL;
}

static void a_free_from_another_thread_ends_a_run(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop *loop = echoloop_new(NULL);
    pthread_t thread;
    CHECK(loop != NULL);
    CHECK(pthread_create(&thread, NULL, free_it, loop) == 0);
    {
        int status = echoloop_run(loop, &hooks, NULL);
        CHECK(status == 0 || status == ECHOLOOP_EBADHANDLE); /* As the threads happen to run. */
    }
    CHECK(pthread_join(thread, NULL) == 0);
    GETS(echoloop_free(loop), ECHOLOOP_EBADHANDLE);
}

static void a_dead_peer_does_not_kill_a_host_that_left_sigpipe_alone(void)
{
    static char block[300000];
    struct world w = make_world();
    echoloop_event event;
    int fd = socket(AF_INET, SOCK_STREAM, 0), n, closed = 0, tries;
    struct sockaddr_in to;
    struct linger reset = { 1, 0 };
    echoloop_conn *conn = NULL;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(strchr(w.addr, ':') + 1));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    for (tries = 0; conn == NULL && tries < 100; tries++) {
        CHECK((n = echoloop_poll_batch(w.loop, &event, 1, ECHOLOOP_MS(100))) >= 0);
        if (n == 1 && event.type == ECHOLOOP_EVENT_OPENED)
            conn = event.conn;
    }
    CHECK(conn != NULL);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    CHECK(close(fd) == 0);
    /* Small and large sends, before and after the reset is noticed. */
    for (tries = 0; !closed && tries < 200; tries++) {
        echoloop_conn_send(conn, "small", 5);
        echoloop_conn_send(conn, block, sizeof block);
        echoloop_conn_flush(conn);
        CHECK((n = echoloop_poll_batch(w.loop, &event, 1, ECHOLOOP_MS(50))) >= 0);
        if (n == 1 && event.type == ECHOLOOP_EVENT_CLOSED && event.conn == conn) {
            GETS(event.status, ECHOLOOP_CLOSE_RESET);
            closed = 1;
        }
    }
    CHECK(closed);
    end_world(w);
}

struct slow {
    echoloop *loop;
    int calls, callbacks;
};

static void on_slow(void *user, const echoloop_event *event, int64_t took_us)
{
    struct slow *slow = user;
    (void)event;
    (void)took_us;
    slow->calls++;
    GETS(echoloop_free(slow->loop), ECHOLOOP_EREENTRY);
    GETS(echoloop_stop(slow->loop), 0);
}

static void on_slow_timer(void *user, echoloop_timer *timer, void *timer_user)
{
    (void)timer;
    (void)timer_user;
    ((struct slow *)user)->callbacks++;
}

/* Its callback is called between two events: a loop freed there would have called one more. */
static void a_loop_that_looks_for_its_next_event_is_not_freed(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    struct slow slow = { 0 };
    echoloop_timer *timer;
    hooks.on_timer = on_slow_timer;
    CHECK((slow.loop = echoloop_new(NULL)) != NULL);
    GETS(echoloop_timer_new(slow.loop, 0, 0, NULL, &timer), 0);
    GETS(echoloop_timer_new(slow.loop, 0, 0, NULL, &timer), 0);
    GETS(echoloop_set_slow_handler(slow.loop, 0, on_slow, &slow), 0);
    GETS(echoloop_run(slow.loop, &hooks, &slow), 0);
    CHECK(slow.calls >= 1 && slow.callbacks >= 1);
    GETS(echoloop_free(slow.loop), 0);
}

struct freed {
    echoloop *loop;
    int errors, later;
};

static size_t free_and_claim_too_much(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct freed *freed = user;
    (void)conn;
    (void)data;
    GETS(echoloop_free(freed->loop), 0);
    return len + 1;
}

static void free_on_error(void *user, int status, const char *text)
{
    struct freed *freed = user;
    GETS(status, -ECONNREFUSED);
    CHECK(strlen(text) > 3);
    freed->errors++;
    GETS(echoloop_free(freed->loop), 0);
}

static void count_error(void *user, int status, const char *text)
{
    (void)status;
    (void)text;
    ((struct freed *)user)->later++;
}

static void count_event(void *user, const echoloop_event *event)
{
    (void)event;
    ((struct freed *)user)->later++;
}

/* Where one event is told by two callbacks, the first may free the loop. */
static void no_callback_is_called_after_the_free_of_its_loop(void)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_udp_options to_nobody = ECHOLOOP_UDP_OPTIONS_INIT;
    struct freed freed = { 0 };
    echoloop_listener *listener;
    echoloop_conn *client;
    echoloop_udp *udp;
    char addr[ECHOLOOP_ADDR_MAX];
    CHECK((freed.loop = echoloop_new(NULL)) != NULL);
    GETS(echoloop_listen(freed.loop, "127.0.0.1:0", NULL, &listener), 0);
    CHECK(echoloop_listener_addr(listener, addr, sizeof addr) > 0);
    GETS(echoloop_connect(freed.loop, addr, NULL, &client), 0);
    GETS(echoloop_conn_send(client, "x", 1), 0);
    hooks.on_data = free_and_claim_too_much;
    hooks.on_error = count_error;
    hooks.on_event = count_event;
    GETS(echoloop_run(freed.loop, &hooks, &freed), 0);
    GETS(freed.later, 0);

    CHECK((freed.loop = echoloop_new(NULL)) != NULL);
    to_nobody.connect = "127.0.0.1:1";
    GETS(echoloop_udp_bind(freed.loop, "127.0.0.1:0", &to_nobody, &udp), 0);
    GETS(echoloop_udp_send(udp, "x", 1), 0);
    hooks.on_error = free_on_error;
    GETS(echoloop_run(freed.loop, &hooks, &freed), 0);
    GETS(freed.errors, 1);
    GETS(freed.later, 0);
}

static int raising = 1;

static void *raise_signals(void *user)
{
    while (__atomic_load_n(&raising, __ATOMIC_RELAXED))
        raise(SIGUSR1);
    return user;
}

static void a_signal_while_its_loop_is_freed_does_not_kill_the_host(void)
{
    pthread_t thread;
    int i;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    CHECK(pthread_create(&thread, NULL, raise_signals, NULL) == 0);
    for (i = 0; i < 300; i++) {
        echoloop *loop = echoloop_new(NULL);
        echoloop_signal *signal;
        CHECK(loop != NULL);
        GETS(echoloop_signal_watch(loop, SIGUSR1, &signal), 0);
        GETS(echoloop_free(loop), 0);
    }
    __atomic_store_n(&raising, 0, __ATOMIC_RELAXED);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void errors_have_names_and_texts(void)
{
    int own;
    CHECK(strcmp(echoloop_errname(-ECONNREFUSED), "ECONNREFUSED") == 0);
    CHECK(strcmp(echoloop_strerror(-ECONNREFUSED), "Connection refused") == 0);
    CHECK(strcmp(echoloop_close_reason(-ECONNREFUSED), "Connection refused") == 0);
    CHECK(strcmp(echoloop_errname(0), "OK") == 0);
    CHECK(strcmp(echoloop_errname(-20000), "UNKNOWN") == 0);
    CHECK(strcmp(echoloop_errname(INT32_MIN), "UNKNOWN") == 0);
    CHECK(strcmp(echoloop_errname(5), "UNKNOWN") == 0);
    CHECK(strcmp(echoloop_close_reason(99), "unknown reason") == 0);
    for (own = ECHOLOOP_EBADHANDLE; own >= ECHOLOOP_ENULL; own--) {
        CHECK(strncmp(echoloop_errname(own), "ECHOLOOP_E", 10) == 0);
        CHECK(strcmp(echoloop_strerror(own), "unknown status") != 0);
    }
    GETS(echoloop_conn_close(NULL), ECHOLOOP_EBADHANDLE);
    GETS(echoloop_last_status(), ECHOLOOP_EBADHANDLE);
    CHECK(strcmp(echoloop_last_error(),
                 "close: not a living handle of this kind (ECHOLOOP_EBADHANDLE)") == 0);
}

static void workers_are_misused_without_harm(void)
{
    echoloop_server_options options = ECHOLOOP_SERVER_OPTIONS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_workers *workers = NULL;
    uint64_t open = 7;
    int i;
    GETS(echoloop_workers_new(NULL, NULL), ECHOLOOP_ENULL);
    options.size = 3;
    GETS(echoloop_workers_new(&options, &workers), ECHOLOOP_EINVAL);
    CHECK(!workers);
    for (i = 0; i < 4; i++) {
        GETS(echoloop_workers_new(NULL, &workers), 0);
        GETS(echoloop_workers_listen(workers, NULL), ECHOLOOP_ENULL);
        GETS(echoloop_workers_listen(workers, "nowhere"), ECHOLOOP_EINVAL);
        GETS(echoloop_workers_inherit(workers, -1), -EBADF);
        GETS(echoloop_workers_listen(workers, "127.0.0.1:0"), 0);
        GETS(echoloop_workers_stop(workers), ECHOLOOP_EINVAL);
        if (i == 0) {
            GETS(echoloop_workers_free(workers), 0);
            all_workers(workers, ECHOLOOP_EBADHANDLE);
            continue;
        }
        GETS(echoloop_workers_start(workers, 2, i % 2, NULL, NULL, NULL, NULL), 0);
        GETS(echoloop_workers_load(workers, 2, &open, NULL), ECHOLOOP_EINVAL);
        CHECK(open == 7);
        GETS(echoloop_workers_counters_get(workers, NULL), ECHOLOOP_ENULL);
        GETS(echoloop_workers_remote(workers, 0, NULL), ECHOLOOP_ENULL);
        GETS(echoloop_workers_addr(workers, 0, NULL, 9), ECHOLOOP_ENULL);
        if (i == 2) {
            GETS(echoloop_workers_stop(workers), 0);
            report.size = 0;
            GETS(echoloop_workers_join(workers, &report), ECHOLOOP_EINVAL);
            GETS(echoloop_workers_join(workers, NULL), 0);
        }
        GETS(echoloop_workers_free(workers), 0);
        GETS(echoloop_workers_free(workers), ECHOLOOP_EBADHANDLE);
    }
}

int main(void)
{
#define RUN(test) \
    do { \
        test(); \
        CHECK(echoloop_live_handles() == 0); /* Nothing is left behind. */ \
        printf("%s\n", #test); \
    } while (0)
    RUN(zero_and_random_handles_are_bad_handles);
    RUN(handles_with_a_bit_flipped_are_bad_handles);
    RUN(handles_of_another_kind_are_bad_handles);
    RUN(freed_and_closed_handles_are_bad_handles);
    RUN(null_arguments_are_refused_and_nothing_is_written);
    RUN(other_threads_get_wrong_thread_save_for_remotes_and_frees);
    RUN(every_object_may_be_ended_inside_every_callback);
    RUN(a_free_from_another_thread_ends_a_run);
    RUN(a_dead_peer_does_not_kill_a_host_that_left_sigpipe_alone);
    RUN(workers_are_misused_without_harm);
    RUN(a_loop_that_looks_for_its_next_event_is_not_freed);
    RUN(no_callback_is_called_after_the_free_of_its_loop);
    RUN(a_signal_while_its_loop_is_freed_does_not_kill_the_host);
    RUN(errors_have_names_and_texts);
    return 0;
}
