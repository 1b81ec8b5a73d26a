/*
 * An echo server with callbacks.
 *
 *     make && build/echo_hooks 127.0.0.1:7007
 *     printf hello | nc -N 127.0.0.1 7007
 *
 * echo_hooks [ADDR [IDLE-SECONDS]]. Ctrl-C drains and ends, a second one ends at once.
 */
#include <echoloop.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    if (echoloop_conn_send(conn, data, len) == ECHOLOOP_EQUEUEFULL) {
        echoloop_conn_pause(conn); /* Not taken: have it offered again when the peer has read. */
        return 0;
    }
    return len;
}

static void on_drained(void *user, echoloop_conn *conn)
{
    (void)user;
    echoloop_conn_resume(conn);
}

static void on_error(void *user, int status, const char *text)
{
    (void)user;
    fprintf(stderr, "%s: %s\n", text, echoloop_errname(status));
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
        echoloop_remote_stop(remote); /* The first stop drains, the second cuts. */
    return NULL;
}

int main(int argc, char **argv)
{
    const char *addr = argc > 1 ? argv[1] : "127.0.0.1:7007";
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_report report = ECHOLOOP_REPORT_INIT;
    echoloop_server *server;
    echoloop_listener *listener;
    echoloop_remote *remote = NULL;
    char where[ECHOLOOP_ADDR_MAX];
    sigset_t signals;
    pthread_t thread;
    int status = EXIT_FAILURE;

    hooks.on_data = on_data;
    hooks.on_drained = on_drained;
    hooks.on_error = on_error;
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
        if (echoloop_server_run(server, &hooks, NULL, &report) < 0)
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
