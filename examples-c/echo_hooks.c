/*
 * An echo server with callbacks.
 *
 *     make && build/echo_hooks 127.0.0.1:7007
 *     printf hello | nc -N 127.0.0.1 7007
 *
 * echo_hooks [ADDR [IDLE-SECONDS]]. Ctrl-C drains and ends, a second one ends at once.
 */
#include <echoloop.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    if (echoloop_conn_send(conn, data, len) == ECHOLOOP_EQUEUEFULL)
        return 0; /* Not taken: it is offered again when the peer has read. */
    return len;
}

static void on_error(void *user, int status, const char *text)
{
    (void)user;
    fprintf(stderr, "%s: %s\n", text, echoloop_errname(status));
}

/* An ordinary callback, not a signal handler: anything may be called. */
static void on_signal(void *server, echoloop_signal *signal, int number)
{
    (void)signal, (void)number;
    echoloop_server_drain(server); /* The first drains, the second cuts. */
}

int main(int argc, char **argv)
{
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server *server = echoloop_server_new(NULL);
    echoloop *loop = echoloop_server_loop(server);
    echoloop_listener *listener;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    hooks.on_data = on_data;
    hooks.on_error = on_error;
    hooks.on_signal = on_signal;
    conn.idle_timeout_us = argc > 2 ? (int64_t)(atof(argv[2]) * 1e6) : 0;
    listen.conn = &conn;
    if (echoloop_server_listen(server, argc > 1 ? argv[1] : "127.0.0.1:7007", &listen, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_signal_watch(loop, SIGINT, &signal) == 0
        && echoloop_signal_watch(loop, SIGTERM, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = echoloop_server_run(server, &hooks, server, &report);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    else
        fprintf(stderr, "%llu bytes lost\n", (unsigned long long)report.bytes_lost);
    echoloop_server_free(server);
    return ran < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
