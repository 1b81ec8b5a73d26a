/*
 * An echo server with batches: one call brings many events.
 *
 *     make && build/echo_batch 127.0.0.1:7007
 *     printf hello | nc -N 127.0.0.1 7007
 *
 * echo_batch [ADDR [IDLE-SECONDS]]. Ctrl-C drains and ends, a second one ends at once.
 */
#include <echoloop.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int handle(echoloop_server *server, const echoloop_event *event)
{
    switch (event->type) {
    case ECHOLOOP_EVENT_DATA:
        if (echoloop_conn_send(event->conn, event->data, event->len) != ECHOLOOP_EQUEUEFULL)
            return 0;
        /* It is offered again when the peer has read. */
        return echoloop_conn_unread(event->conn, event->data, event->len);
    case ECHOLOOP_EVENT_SIGNAL:
        return echoloop_server_drain(server); /* The first drains, the second cuts. */
    case ECHOLOOP_EVENT_ACCEPT_PAUSED:
        fprintf(stderr, "accepting is paused: %s\n", echoloop_strerror(event->status));
        return 0;
    default: /* Connections come and go by themselves. */
        return 0;
    }
}

static int serve(echoloop_server *server, echoloop_report *report)
{
    echoloop *loop = echoloop_server_loop(server);
    echoloop_event events[256];
    int n, i, ended;

    while ((ended = echoloop_server_report(server, report)) == 0) {
        if ((n = echoloop_poll_batch(loop, events, 256, -1)) < 0)
            return n;
        for (i = 0; i < n; i++)
            if (handle(server, &events[i]) < 0)
                fprintf(stderr, "%s\n", echoloop_last_error());
    }
    return ended < 0 ? ended : 0;
}

int main(int argc, char **argv)
{
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server *server = echoloop_server_new(NULL);
    echoloop *loop = echoloop_server_loop(server);
    echoloop_listener *listener;
    echoloop_signal *signal;
    char where[ECHOLOOP_ADDR_MAX];
    int ran = -1;
    conn.idle_timeout_us = argc > 2 ? (int64_t)(atof(argv[2]) * 1e6) : 0;
    listen.conn = &conn;
    if (echoloop_server_listen(server, argc > 1 ? argv[1] : "127.0.0.1:7007", &listen, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_signal_watch(loop, SIGINT, &signal) == 0
        && echoloop_signal_watch(loop, SIGTERM, &signal) == 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        ran = serve(server, &report);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    else
        fprintf(stderr, "%llu bytes lost\n", (unsigned long long)report.bytes_lost);
    echoloop_server_free(server);
    return ran < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
