/*
 * Every function in every place: a walk through all cells of abi/legal.txt.
 *
 * Each call is made in a world of its own and has to get what the table says. calls.h, with a call for each function, and
 * legal.h, with the table, are made by tests/legal.rs.
 */
#include "legal/world.h"
#include "legal/arguments.h"

#include "calls.h"

/* What the table says of one function. */
struct row {
    const char *name;
    int outside, callback, slow, log, thread, fork, freed, theirs; /* YES, or the code. */
};
#define YES 1
#define NOT_THERE 2

#include "legal.h"

static int failures, cells;

/* Functions whose success hangs on more than the place: that they are refused for what they ask is legal enough. */
static int may_be_invalid(void)
{
    return calls("echoloop_lookup_count") || calls("echoloop_lookup_addr") || calls("echoloop_conn_attempt");
}

static void compare(int expected, int64_t got)
{
    int fine = expected == YES ? got >= 0 || (got == ECHOLOOP_EINVAL && may_be_invalid()) : got == expected;
    cells++;
    if (fine)
        return;
    failures++;
    fprintf(stderr, "%s %s: %lld %s, and the table says %s (last error: %s)\n", fn, place, (long long)got,
            got < 0 ? echoloop_errname((int)got) : "", expected == YES ? "yes" : echoloop_errname(expected),
            echoloop_last_error());
}

static const struct row *row;
static const struct function *function;

/* In a world without a server its functions have no good handle, and a loop that is a server's is freed with it. */
static int suits(int served)
{
    if (strncmp(fn, "echoloop_server_", 16) == 0 && !calls("echoloop_server_new"))
        return served;
    return !calls("echoloop_free") || !served;
}

static void outside(void)
{
    prepare();
    compare(row->outside, function->call());
}

static void *on_thread(void *user)
{
    compare(row->thread, function->call());
    return user;
}

static void another_thread(void)
{
    pthread_t thread;
    prepare();
    CHECK(pthread_create(&thread, NULL, on_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* What has no loop is not made good again by echoloop_after_fork(). */
static int has_loop(void)
{
    return strncmp(fn, "echoloop_selector_", 18) != 0 && strncmp(fn, "echoloop_workers_", 17) != 0;
}

static void forked(void)
{
    int status, before = failures;
    pid_t child;
    prepare();
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        compare(row->fork, function->call());
        if (row->fork == ECHOLOOP_EFORKED && has_loop()) {
            place = "after echoloop_after_fork()";
            CHECK(echoloop_after_fork(w->loop) == 0 && echoloop_after_fork(w->elsewhere) == 0);
            compare(row->outside, function->call());
        }
        _exit(failures > before);
    }
    CHECK(waitpid(child, &status, 0) == child);
    failures += status != 0;
}

static void freed(void)
{
    prepare();
    CHECK((w->server != NULL ? echoloop_server_free(w->server) : echoloop_free(w->loop)) == 0);
    CHECK(w->workers == NULL || echoloop_workers_free(w->workers) == 0);
    compare(row->freed, function->call());
}

/* Ends what the function is about, if that can be ended: then it is a bad handle everywhere. */
static int end_object(void)
{
    if (strncmp(fn, "echoloop_listener_", 18) == 0)
        return echoloop_listener_close(w->listener);
    if (strncmp(fn, "echoloop_timer_", 15) == 0 && !calls("echoloop_timer_new"))
        return echoloop_timer_cancel(w->timer);
    if (strncmp(fn, "echoloop_watch_", 15) == 0 && !calls("echoloop_watch_new"))
        return echoloop_watch_close(w->watch);
    if (strncmp(fn, "echoloop_udp_", 13) == 0 && !calls("echoloop_udp_bind") && !calls("echoloop_udp_adopt"))
        return echoloop_udp_close(w->udp);
    if (strncmp(fn, "echoloop_lookup_", 16) == 0)
        return echoloop_lookup_cancel(w->lookup);
    if (calls("echoloop_signal_close"))
        return echoloop_signal_close(w->signal);
    if (strncmp(fn, "echoloop_remote_", 16) == 0 && !calls("echoloop_remote_new"))
        return echoloop_remote_free(w->remote);
    if (strncmp(fn, "echoloop_selector_", 18) == 0 && !calls("echoloop_selector_new"))
        return echoloop_selector_free(w->selector);
    if (strncmp(fn, "echoloop_workers_", 17) == 0 && !calls("echoloop_workers_new"))
        return echoloop_workers_free(w->workers);
    if (strncmp(fn, "echoloop_conn_", 14) == 0 || calls("echoloop_pipe") || calls("echoloop_unpipe")
        || calls("echoloop_give_away") || calls("echoloop_hand_over")) {
        echoloop_event event;
        echoloop_conn *conn = calls("echoloop_conn_peer_credentials") ? w->unix_conn : w->client;
        int n, tries;
        CHECK(echoloop_conn_abort(conn) == 0);
        for (tries = 0; tries < 1000; tries++) {
            CHECK((n = echoloop_poll_batch(w->loop, &event, 1, 1000)) >= 0);
            if (n == 1 && event.type == ECHOLOOP_EVENT_CLOSED && event.conn == conn)
                break;
        }
        CHECK(tries < 1000);
        CHECK(echoloop_poll_batch(w->loop, &event, 1, 0) >= 0);
        return 0;
    }
    return -1;
}

static void ended(void)
{
    if (end_object() == 0)
        compare(ECHOLOOP_EBADHANDLE, function->call());
}

#include "legal/callbacks.h"
#include "legal/provoke.h"

static const struct {
    const char *name;
    void (*act)(void);
} places[] = {
    { "outside", outside },
    { "on another thread", another_thread },
    { "in the child of a fork", forked },
    { "after the free of its loop", freed },
    { "after its own end", ended },
};

int main(void)
{
    size_t i, k, p;
    int served;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    for (i = 0; i < COUNT(functions); i++)
        if (strcmp(functions[i].name, rows[i].name) != 0)
            return 2;
    for (i = 0; i < COUNT(functions); i++) {
        function = &functions[i];
        fn = function->name;
        row = &rows[i];
        for (served = 0; served < 2; served++) {
            if (!suits(served))
                continue;
            for (p = 0; p < COUNT(places); p++) {
                place = places[p].name;
                make_world(served);
                places[p].act();
                end_world();
            }
            for (k = 0; k < COUNT(callbacks); k++) {
                place = callbacks[k].name;
                if (callbacks[k].of_server && !served)
                    continue;
                make_world(served);
                in_callback_of(k);
                end_world();
            }
        }
    }
    fn = "all";
    place = "at the end";
    if (echoloop_live_handles() != 0) {
        fprintf(stderr, "%lld handles are left\n", (long long)echoloop_live_handles());
        failures++;
    }
    printf("%lu functions, %d cells, %d wrong\n", (unsigned long)COUNT(functions), cells, failures);
    return failures > 0;
}
