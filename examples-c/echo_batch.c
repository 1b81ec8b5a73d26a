/*
 * An echo server with batches: one call brings many events.
 *
 *     make && build/echo_batch 127.0.0.1:7007
 *     printf hello | nc -N 127.0.0.1 7007
 *
 * echo_batch [ADDR [IDLE-SECONDS]]. Ctrl-C drains and ends.
 */
#include <echoloop.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int handle(echoloop_server *server, const echoloop_event *event)
{
    switch (event->type) {
    case ECHOLOOP_EVENT_DATA:
        if (echoloop_conn_send(event->conn, event->data, event->len) != ECHOLOOP_EQUEUEFULL)
            return 0;
        echoloop_conn_pause(event->conn); /* Have it offered again when the peer has read. */
        return echoloop_conn_unread(event->conn, event->data, event->len);
    case ECHOLOOP_EVENT_DRAINED:
        echoloop_conn_resume(event->conn);
        return 0;
    case ECHOLOOP_EVENT_STOP:
        return echoloop_server_drain(server);
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

/* Signals arrive here, on a thread of their own: nothing may be called in a signal handler. */
static void *wait_for_signals(void *remote)
{
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    while (sigwait(&signals, &number) == 0)
        echoloop_remote_stop(remote);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *addr = argc > 1 ? argv[1] : "127.0.0.1:7007";
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server *server;
    echoloop_listener *listener;
    echoloop_remote *remote = NULL;
    char where[ECHOLOOP_ADDR_MAX];
    sigset_t signals;
    pthread_t thread;
    int status = EXIT_FAILURE;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    conn.idle_timeout_us = argc > 2 ? (int64_t)(atof(argv[2]) * 1e6) : 0;
    listen.conn = &conn;
    server = echoloop_server_new(NULL);
    if (server == NULL || echoloop_server_listen(server, addr, &listen, &listener) < 0
        || echoloop_listener_addr(listener, where, sizeof where) < 0
        || echoloop_remote_new(echoloop_server_loop(server), &remote) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
    } else if (pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0
               && pthread_create(&thread, NULL, wait_for_signals, remote) == 0) {
        printf("listening on %s\n", where);
        fflush(stdout);
        if (serve(server, &report) < 0)
            fprintf(stderr, "%s\n", echoloop_last_error());
        else
            status = EXIT_SUCCESS;
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        fprintf(stderr, "%llu bytes lost\n", (unsigned long long)report.bytes_lost);
    }
    if (remote != NULL)
        echoloop_remote_free(remote);
    if (server != NULL)
        echoloop_server_free(server);
    return status;
}
