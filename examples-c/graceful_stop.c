/*
 * Signals as events, and a stop that cuts off nobody: a server that drains.
 *
 *     make && build/graceful_stop 127.0.0.1:7007
 *     nc 127.0.0.1 7007        (and press Ctrl-C here while it is connected)
 *
 * The first Ctrl-C ends listening; who is connected is served on for ten seconds, then flushed and
 * closed. The second ends the ten seconds, the third cuts. SIGHUP prints what is open.
 */
#include <echoloop.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    return echoloop_conn_send(conn, data, len) == ECHOLOOP_EQUEUEFULL ? 0 : len;
}

/* An ordinary callback, not a signal handler: anything may be called. */
static void on_signal(void *user, echoloop_signal *signal, int number)
{
    echoloop_server *server = user;
    (void)signal;
    if (number == SIGHUP) {
        int len = echoloop_dump(echoloop_server_loop(server), NULL, 0);
        char *text = len < 0 ? NULL : malloc((size_t)len + 1);
        if (text != NULL && echoloop_dump(echoloop_server_loop(server), text, (size_t)len + 1) >= 0)
            fputs(text, stderr);
        free(text);
        return;
    }
    fprintf(stderr, "draining\n");
    echoloop_server_drain(server);
}

int main(int argc, char **argv)
{
    echoloop_server_options options = ECHOLOOP_SERVER_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server *server;
    echoloop *loop;
    echoloop_listener *listener;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    options.drain_grace_us = ECHOLOOP_SECONDS(10);
    hooks.on_data = on_data;
    hooks.on_signal = on_signal;
    server = echoloop_server_new(&options);
    loop = echoloop_server_loop(server);
    if (echoloop_server_listen(server, argc > 1 ? argv[1] : "127.0.0.1:7007", NULL, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_signal_watch(loop, SIGINT, &signal) == 0
        && echoloop_signal_watch(loop, SIGTERM, &signal) == 0
        && echoloop_signal_watch(loop, SIGHUP, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = echoloop_server_run(server, &hooks, server, &report);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    else
        fprintf(stderr, "%llu connections closed, %llu cut, %llu bytes lost\n",
                (unsigned long long)report.closed_clean, (unsigned long long)report.aborted,
                (unsigned long long)report.bytes_lost);
    echoloop_server_free(server);
    return ran < 0;
}
