/* uv.c: the echo server as a libuv user who cares about speed writes it.
 *
 * One shared read buffer of the size libuv asks for (64 KiB); uv_try_write first, which costs no
 * allocation; only what the kernel does not take is copied into a uv_write request. Above 1 MiB
 * queued the connection is not read until the queue has gone out. No limits, no timers.
 *
 * cc -O2 -o uv uv.c $(pkg-config --cflags --libs libuv) && ./uv [PORT]
 * prints "listening on 127.0.0.1:PORT", ends on SIGTERM
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { READ_SIZE = 64 * 1024, HIGH_MARK = 1024 * 1024 };

struct rest {
    uv_write_t request;
    char bytes[];
};

static char buffer[READ_SIZE];

static void check(int status, const char *what) {
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(status));
        exit(1);
    }
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static void end_connection(uv_stream_t *stream) {
    stream->data = stream; /* says: not to be read any more */
    if (!uv_is_closing((uv_handle_t *)stream)) uv_close((uv_handle_t *)stream, on_closed);
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data);

static void on_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(request); /* first member of struct rest */
    if (status < 0)
        end_connection(stream);
    else if (uv_stream_get_write_queue_size(stream) == 0 && !stream->data)
        uv_read_start(stream, on_buffer, on_read); /* UV_EALREADY when it was not stopped */
}

static void on_shut(uv_shutdown_t *request, int status) {
    (void)status;
    end_connection(request->handle);
    free(request);
}

static void finish(uv_stream_t *stream) {
    if (uv_stream_get_write_queue_size(stream) == 0) {
        end_connection(stream);
        return;
    }
    uv_shutdown_t *request = malloc(sizeof *request);
    if (!request || uv_shutdown(request, stream, on_shut) < 0) {
        free(request);
        end_connection(stream);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data) {
    if (n == UV_EOF) {
        uv_read_stop(stream);
        stream->data = stream;
        finish(stream);
        return;
    }
    if (n < 0) end_connection(stream);
    if (n <= 0) return;

    uv_buf_t out = uv_buf_init(data->base, (unsigned)n);
    int sent = uv_try_write(stream, &out, 1);
    if (sent == n) return;
    if (sent < 0 && sent != UV_EAGAIN) {
        end_connection(stream);
        return;
    }
    size_t done = sent < 0 ? 0 : (size_t)sent, left = (size_t)n - done;
    struct rest *rest = malloc(sizeof *rest + left);
    if (!rest) {
        end_connection(stream);
        return;
    }
    memcpy(rest->bytes, data->base + done, left);
    out = uv_buf_init(rest->bytes, (unsigned)left);
    if (uv_write(&rest->request, stream, &out, 1, on_written) < 0) {
        free(rest);
        end_connection(stream);
        return;
    }
    if (uv_stream_get_write_queue_size(stream) > HIGH_MARK) uv_read_stop(stream);
}

static void on_connection(uv_stream_t *listener, int status) {
    uv_tcp_t *client = status < 0 ? NULL : malloc(sizeof *client);
    if (!client) return;
    uv_tcp_init(listener->loop, client);
    client->data = NULL;
    if (uv_accept(listener, (uv_stream_t *)client) < 0) {
        end_connection((uv_stream_t *)client);
        return;
    }
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t *)client, on_buffer, on_read);
}

static void on_signal(uv_signal_t *handle, int number) {
    (void)number;
    uv_stop(handle->loop);
}

int main(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    uv_signal_t term, interrupt;
    struct sockaddr_in address;
    int size = sizeof address;

    uv_ip4_addr("127.0.0.1", argc > 1 ? atoi(argv[1]) : 0, &address);
    uv_tcp_init(loop, &listener);
    check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "bind");
    check(uv_listen((uv_stream_t *)&listener, 4096, on_connection), "listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size), "getsockname");
    uv_signal_init(loop, &term);
    uv_signal_start(&term, on_signal, SIGTERM);
    uv_signal_init(loop, &interrupt);
    uv_signal_start(&interrupt, on_signal, SIGINT);

    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
