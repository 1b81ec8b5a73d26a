/* Scenarios for echoloop/adapters/glib.h: `glib SCENARIO`. */
#include <echoloop/adapters/glib.h>

#include "check.h"

static GMainLoop *outer;
static GSource *source;
static int turns, ticks;

static void attach(const echoloop_hooks *hooks)
{
    outer = g_main_loop_new(NULL, FALSE);
    source = echoloop_glib_source_new(loop, hooks, &turns);
    CHECK(source != NULL);
    CHECK(g_source_attach(source, NULL) > 0);
}

static void detach(void)
{
    g_source_destroy(source);
    g_source_unref(source);
    g_main_loop_unref(outer);
}

static void quit(void)
{
    g_main_loop_quit(outer);
}

#define FIRINGS 100

static int64_t lateness[FIRINGS];

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Each is due 3 ms and 0.1 ms after the last, when GLib sleeps and knows of nothing else. */
static void on_due(void *user, echoloop_timer *timer)
{
    static int64_t due;
    int64_t now = g_get_monotonic_time();
    (void)user;
    if (due != 0) {
        CHECK(now >= due);
        lateness[ticks++] = now - due;
    }
    if (ticks == FIRINGS) {
        quit();
        return;
    }
    due = g_get_monotonic_time() + 3100;
    CHECK(echoloop_timer_rearm(timer, 3100) == 0);
}

static void timer_wakes_glib(char **arguments)
{
    (void)arguments;
    later(0, on_due, NULL);
    attach(NULL);
    g_main_loop_run(outer);
    detach();
    qsort(lateness, FIRINGS, sizeof *lateness, compare);
    printf("late by %d us at best, %d in the median, %d at worst\n", (int)lateness[0],
           (int)lateness[FIRINGS / 2], (int)lateness[FIRINGS - 1]);
    CHECK(lateness[FIRINGS / 2] < 5000);
}

static void on_word(void *user, void *word)
{
    CHECK(user == &turns);
    turns++;
    CHECK(echoloop_remote_post(word, word) == 0); /* There is always one more. */
}

static gboolean on_tick(gpointer user)
{
    (void)user;
    if (++ticks < 50)
        return G_SOURCE_CONTINUE;
    quit();
    return G_SOURCE_REMOVE;
}

/* A loop that always has something to do does not keep GLib's own timers waiting. */
static void both_go_on(char **arguments)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_remote *remote;
    (void)arguments;
    hooks.on_post = on_word;
    CHECK(echoloop_remote_new(loop, &remote) == 0);
    CHECK(echoloop_remote_post(remote, remote) == 0);
    attach(&hooks);
    g_timeout_add(2, on_tick, NULL);
    g_main_loop_run(outer);
    detach();
    CHECK(echoloop_remote_free(remote) == 0);
    printf("%d turns during %d ticks\n", turns, ticks);
    CHECK(ticks == 50 && turns > 50);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    (void)data;
    turns += (int)len;
    echoloop_conn_close(conn);
    return len;
}

static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    (void)user;
    if (listener == NULL)
        CHECK(echoloop_conn_send(conn, "hello", 5) == 0);
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    (void)user;
    (void)conn;
    (void)reason;
    CHECK(unsent == 0);
    if (++ticks == 2)
        quit();
}

/* Connections of the loop, with all their events, by nothing but GLib's turns. */
static void connections(char **arguments)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_listener *listener;
    echoloop_conn *conn;
    char addr[ECHOLOOP_ADDR_MAX];
    (void)arguments;
    hooks.on_open = on_open;
    hooks.on_data = on_data;
    hooks.on_close = on_close;
    CHECK(echoloop_listen(loop, "127.0.0.1:0", NULL, &listener) == 0);
    CHECK(echoloop_listener_addr(listener, addr, sizeof addr) > 0);
    attach(&hooks);
    CHECK(echoloop_connect(loop, addr, NULL, &conn) == 0);
    g_main_loop_run(outer);
    detach();
    CHECK(turns == 5 && ticks == 2);
    CHECK(echoloop_listener_close(listener) == 0);
}

static void on_next_turn(void *user, echoloop_timer *timer)
{
    (void)user;
    (void)timer;
    turns++;
}

static void on_destroy(void *user, echoloop_timer *timer)
{
    (void)user;
    (void)timer;
    g_source_destroy(source);
    later(0, on_next_turn, NULL);
    turns++;
}

static gboolean on_end(gpointer user)
{
    (void)user;
    quit();
    return G_SOURCE_REMOVE;
}

/* Destroyed in a callback of the loop: no turn follows, though there would be something to do. */
static void destroyed(char **arguments)
{
    (void)arguments;
    attach(NULL);
    later(ECHOLOOP_MS(1), on_destroy, NULL);
    g_timeout_add(100, on_end, NULL);
    g_main_loop_run(outer);
    CHECK(turns == 1);
    CHECK(turn(0) == 1);
    CHECK(turns == 2);
    detach();
}

static void on_free(void *user, echoloop_timer *timer)
{
    (void)user;
    (void)timer;
    CHECK(echoloop_free(loop) == 0);
    loop = NULL;
    turns++;
}

/* The loop is freed in a callback of its own: its source ends with that turn. */
static void freed(char **arguments)
{
    (void)arguments;
    attach(NULL);
    later(ECHOLOOP_MS(1), on_free, NULL);
    while (turns == 0)
        g_main_context_iteration(NULL, TRUE);
    CHECK(g_source_is_destroyed(source));
    CHECK(echoloop_glib_source_new(loop, NULL, NULL) == NULL);
    detach();
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        { "timer-wakes-glib", timer_wakes_glib }, { "both-go-on", both_go_on },
        { "connections", connections },           { "destroyed", destroyed },
        { "freed", freed },
    };
    return play(scenarios, COUNT(scenarios), argc, argv);
}
