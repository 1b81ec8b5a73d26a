/*
 * A client: sends standard input, prints what returns, ends when the peer has finished.
 *
 *     make && printf hello | build/echo_client 127.0.0.1:7007
 *     head -c 70000000 /dev/urandom > sent && build/echo_client 127.0.0.1:7007 < sent | cmp - sent
 *
 * echo_client [ADDR [IDLE-SECONDS]]. There are no partial sends: each is taken whole, and what the peer
 * does not take yet is queued. Standard input is read only as fast as the peer reads.
 */
#include <echoloop.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct client {
    echoloop *loop;
    echoloop_conn *conn;
    echoloop_watch *input;
    int reason; /* Why the connection ended. */
    char chunk[65536];
};

static void on_input(void *user, echoloop_watch *watch, int readiness)
{
    struct client *client = user;
    ssize_t n = read(STDIN_FILENO, client->chunk, sizeof client->chunk);
    (void)readiness; /* An end or an error is readable too: read(2) tells which. */
    if (n > 0) {
        if (echoloop_conn_send(client->conn, client->chunk, (size_t)n) < 0)
            fprintf(stderr, "%s\n", echoloop_last_error()); /* on_close follows. */
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        if (n < 0)
            fprintf(stderr, "standard input: %s\n", strerror(errno));
        echoloop_watch_close(watch);
        echoloop_conn_shutdown_write(client->conn);
    }
}

/* The peer is slow: reads no more input until it has caught up. */
static void on_congested(void *user, echoloop_conn *conn)
{
    (void)conn;
    echoloop_watch_modify(((struct client *)user)->input, 0);
}

static void on_drained(void *user, echoloop_conn *conn)
{
    (void)conn;
    echoloop_watch_modify(((struct client *)user)->input, ECHOLOOP_READABLE);
}

static size_t on_data(void *user, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    (void)user;
    if (fwrite(data, 1, len, stdout) != len || fflush(stdout) != 0)
        echoloop_conn_abort(conn);
    return len;
}

static void on_close(void *user, echoloop_conn *conn, int reason, uint64_t unsent)
{
    struct client *client = user;
    (void)conn;
    client->reason = reason;
    if (reason != ECHOLOOP_CLOSE_PEER_FINISHED || unsent > 0)
        fprintf(stderr, "%s, %llu bytes unsent\n", echoloop_close_reason(reason),
                (unsigned long long)unsent);
    echoloop_stop(client->loop);
}

int main(int argc, char **argv)
{
    static struct client client;
    echoloop_conn_options conn = ECHOLOOP_CONN_OPTIONS_INIT;
    echoloop_connect_options options = ECHOLOOP_CONNECT_OPTIONS_INIT;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    const char *to = argc > 1 ? argv[1] : "127.0.0.1:7007";
    hooks.on_data = on_data;
    hooks.on_congested = on_congested;
    hooks.on_drained = on_drained;
    hooks.on_close = on_close;
    conn.no_auto_pause = 1; /* Both sides send before they read: nobody may pause. */
    conn.idle_timeout_us = argc > 2 ? (int64_t)(atof(argv[2]) * 1e6) : 0;
    options.conn = &conn;
    client.loop = echoloop_new(NULL);
    if (echoloop_connect(client.loop, to, &options, &client.conn) < 0
        || echoloop_watch_new(client.loop, STDIN_FILENO, ECHOLOOP_READABLE, NULL, &client,
                              &client.input) < 0
        || echoloop_watch_set_callback(client.input, on_input) < 0
        || echoloop_run(client.loop, &hooks, &client) < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(client.loop);
    return client.reason == ECHOLOOP_CLOSE_PEER_FINISHED ? EXIT_SUCCESS : EXIT_FAILURE;
}
