/*
 * A client: sends standard input, prints what returns, ends when the peer has finished.
 *
 *     make && printf hello | build/client 127.0.0.1:7007
 *     head -c 70000000 /dev/urandom > sent && build/client 127.0.0.1:7007 < sent | cmp - sent
 *
 * client [ADDR [IDLE-SECONDS]]. Standard input is read only as fast as the peer takes it.
 */
#include <echoloop.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct client {
    echoloop *loop;
    echoloop_conn *conn;
    echoloop_remote *remote;
    sem_t room;    /* Up while the chunk below is the reader's. */
    int congested; /* The peer is slow. */
    int waiting;   /* The reader waits for on_drained. */
    int reason;    /* Why the connection ended. */
    char chunk[65536];
};

/* A read of standard input may block, so it has a thread; the loop gets one chunk at a time. */
static void *read_input(void *user)
{
    struct client *client = user;
    ssize_t n;
    do {
        while (sem_wait(&client->room) < 0)
            ;
        n = read(STDIN_FILENO, client->chunk, sizeof client->chunk);
    } while (echoloop_remote_post(client->remote, (void *)n) == 0 && n > 0);
    return NULL;
}

static void on_post(void *user, void *word)
{
    struct client *client = user;
    ssize_t n = (ssize_t)word;
    int status = n > 0 ? echoloop_conn_send(client->conn, client->chunk, (size_t)n)
                       : echoloop_conn_shutdown_write(client->conn);
    if (status < 0)
        fprintf(stderr, "%s\n", echoloop_last_error()); /* on_close follows. */
    else if (client->congested)
        client->waiting = 1;
    else if (n > 0)
        sem_post(&client->room);
}

static void on_congested(void *user, echoloop_conn *conn)
{
    (void)conn;
    ((struct client *)user)->congested = 1;
}

static void on_drained(void *user, echoloop_conn *conn)
{
    struct client *client = user;
    (void)conn;
    client->congested = 0;
    if (client->waiting)
        sem_post(&client->room);
    client->waiting = 0;
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
    pthread_t reader;

    hooks.on_data = on_data;
    hooks.on_congested = on_congested;
    hooks.on_drained = on_drained;
    hooks.on_close = on_close;
    hooks.on_post = on_post;
    conn.no_auto_pause = 1; /* Both sides send before they read: nobody may pause. */
    conn.idle_timeout_us = argc > 2 ? (int64_t)(atof(argv[2]) * 1e6) : 0;
    options.conn = &conn;
    client.loop = echoloop_new(NULL);
    if (client.loop == NULL
        || echoloop_connect(client.loop, argc > 1 ? argv[1] : "127.0.0.1:7007", &options, &client.conn) < 0
        || echoloop_remote_new(client.loop, &client.remote) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
    } else if (sem_init(&client.room, 0, 1) == 0
               && pthread_create(&reader, NULL, read_input, &client) == 0) {
        if (echoloop_run(client.loop, &hooks, &client) < 0)
            fprintf(stderr, "%s\n", echoloop_last_error());
        pthread_cancel(reader);
        pthread_join(reader, NULL);
        sem_destroy(&client.room);
    }
    if (client.remote != NULL)
        echoloop_remote_free(client.remote);
    if (client.loop != NULL)
        echoloop_free(client.loop);
    return client.reason == ECHOLOOP_CLOSE_PEER_FINISHED ? EXIT_SUCCESS : EXIT_FAILURE;
}
