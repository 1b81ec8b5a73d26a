/*
 * An echo server inside a GLib main loop, beside GLib's own timers and signals.
 *
 *     make && build/glib_echo 127.0.0.1:7007
 *     printf hello | nc -N 127.0.0.1 7007
 *
 * glib_echo [ADDR]. Ctrl-C ends it.
 */
#include <echoloop.h>
#include <echoloop/adapters/glib.h>

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct server {
    GMainLoop *main_loop;
    unsigned long long bytes;
    int failed;
};

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct server *server = user;

    if (echoloop_conn_send(conn, data, len) == ECHOLOOP_EQUEUEFULL)
        return 0; /* Not taken: it is offered again when the peer has read. */
    server->bytes += len;
    return len;
}

/* Also when a turn of the loop fails, which ends its source. */
static void on_error(void *user, int status, const char *text)
{
    struct server *server = user;

    fprintf(stderr, "%s: %s\n", text, echoloop_errname(status));
    if (status == ECHOLOOP_EPANIC) {
        server->failed = 1;
        g_main_loop_quit(server->main_loop);
    }
}

/* A timer of GLib's. */
static gboolean on_tick(gpointer user)
{
    struct server *server = user;

    fprintf(stderr, "%llu bytes so far\n", server->bytes);
    return G_SOURCE_CONTINUE;
}

static gboolean on_interrupt(gpointer user)
{
    struct server *server = user;

    g_main_loop_quit(server->main_loop);
    return G_SOURCE_REMOVE;
}

int main(int argc, char **argv)
{
    const char *addr = argc > 1 ? argv[1] : "127.0.0.1:7007";
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    struct server server = { NULL, 0, 0 };
    echoloop *loop = echoloop_new(NULL);
    echoloop_listener *listener;
    char where[ECHOLOOP_ADDR_MAX];
    GSource *source = NULL;

    hooks.on_data = on_data;
    hooks.on_error = on_error;
    if (loop == NULL || echoloop_listen(loop, addr, NULL, &listener) < 0
        || echoloop_listener_addr(listener, where, sizeof where) < 0
        || (source = echoloop_glib_source_new(loop, &hooks, &server)) == NULL) {
        fprintf(stderr, "%s\n", echoloop_last_error());
        echoloop_free(loop);
        return EXIT_FAILURE;
    }
    server.main_loop = g_main_loop_new(NULL, FALSE);
    g_source_attach(source, NULL);
    g_unix_signal_add(SIGINT, on_interrupt, &server);
    g_unix_signal_add(SIGTERM, on_interrupt, &server);
    g_timeout_add_seconds(10, on_tick, &server);
    printf("listening on %s\n", where);
    fflush(stdout);
    g_main_loop_run(server.main_loop);
    g_source_destroy(source);
    g_source_unref(source);
    g_main_loop_unref(server.main_loop);
    echoloop_free(loop);
    return server.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
