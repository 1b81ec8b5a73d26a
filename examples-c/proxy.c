/*
 * A TCP proxy: each client gets a connection of its own to the server, and the two are piped.
 *
 *     make && build/proxy 127.0.0.1:7008 localhost:7007
 *     printf hello | nc -N 127.0.0.1 7008
 *
 * proxy [FROM [TO]]. TO may be a name, or a Unix socket. A client whose server can't be reached is
 * reset. Ctrl-C drains and ends, a second one ends at once.
 */
#include <echoloop.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct proxy {
    echoloop *loop;
    const char *to;
    echoloop_connect_options connect;
};

static sigset_t signals;

/* Until they are piped, each of the two has the other as its user pointer. */
static void on_open(void *user, echoloop_conn *conn, echoloop_listener *listener)
{
    struct proxy *proxy = user;
    echoloop_conn *other;
    void *client;
    if (listener != NULL) { /* A client: what it sends waits until the server is reached. */
        if (echoloop_connect(proxy->loop, proxy->to, &proxy->connect, &other) < 0) {
            fprintf(stderr, "%s\n", echoloop_last_error());
            echoloop_conn_abort(conn);
            return;
        }
        echoloop_conn_pause(conn);
        echoloop_conn_set_user(conn, other);
        echoloop_conn_set_user(other, conn);
    } else if (echoloop_conn_user(conn, &client) == 0 && client != NULL) {
        echoloop_conn_set_user(conn, NULL);
        echoloop_conn_set_user(client, NULL);
        if (echoloop_pipe(client, conn) < 0) { /* The client is closing, as in a drain. */
            echoloop_conn_abort(conn);
            echoloop_conn_abort(client);
        }
        echoloop_conn_resume(client);
    }
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    void *other;
    (void)user;
    (void)unsent;
    if (reason < 0)
        fprintf(stderr, "%s\n", echoloop_close_reason(reason));
    if (echoloop_conn_user(conn, &other) == 0 && other != NULL) /* They were never piped. */
        echoloop_conn_abort(other);
}

/* Signals arrive here, on a thread of their own: nothing may be called in a signal handler. */
static void *wait_for_signals(void *remote)
{
    int number;
    while (sigwait(&signals, &number) == 0)
        echoloop_remote_stop(remote); /* The first stop drains, the second cuts. */
    return NULL;
}

int main(int argc, char **argv)
{
    const char *from = argc > 1 ? argv[1] : "127.0.0.1:7008";
    struct proxy proxy = { NULL, argc > 2 ? argv[2] : "127.0.0.1:7007",
                           ECHOLOOP_CONNECT_OPTIONS_INIT };
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_listen_options listen = ECHOLOOP_LISTEN_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    echoloop_server *server = echoloop_server_new(NULL);
    echoloop_listener *listener;
    echoloop_remote *remote = NULL;
    char where[ECHOLOOP_ADDR_MAX];
    pthread_t thread;
    int status = EXIT_FAILURE;

    hooks.on_open = on_open;
    hooks.on_close = on_close;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    /* Nobody may sit on a connection for ever: these deadlines count while it is piped, too. */
    conn.idle_timeout_us = ECHOLOOP_SECONDS(600);
    conn.write_stall_timeout_us = ECHOLOOP_SECONDS(60);
    listen.conn = proxy.connect.conn = &conn;
    proxy.connect.timeout_us = ECHOLOOP_SECONDS(5);
    if (server != NULL && (proxy.loop = echoloop_server_loop(server)) != NULL
        && echoloop_server_listen(server, from, &listen, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && echoloop_remote_new(proxy.loop, &remote) == 0
        && pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0
        && pthread_create(&thread, NULL, wait_for_signals, remote) == 0) {
        printf("listening on %s\n", where);
        fflush(stdout);
        if (echoloop_server_run(server, &hooks, &proxy, NULL) == 0)
            status = EXIT_SUCCESS;
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    if (status != EXIT_SUCCESS)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_remote_free(remote);
    echoloop_server_free(server);
    return status;
}
