/*
 * libcurl's transfers on an echoloop: the multi_socket interface of libcurl 7.30 and later.
 *
 *     echoloop_libcurl *curl = echoloop_libcurl_attach(loop, multi, on_done, user);
 *     curl_multi_add_handle(multi, easy);    Any time, any number; on_done tells the end of each.
 *     echoloop_run(loop, &hooks, NULL);
 *     echoloop_libcurl_detach(curl);         Before curl_multi_cleanup() and echoloop_free().
 *
 * Everything is called on the loop's thread, in callbacks too, save libcurl's own (write functions
 * and the like), where detaching is not legal. The adapter owns neither the loop nor the multi
 * handle. It uses the latter's SOCKETFUNCTION, TIMERFUNCTION and their data.
 */
#ifndef ECHOLOOP_ADAPTERS_LIBCURL_H
#define ECHOLOOP_ADAPTERS_LIBCURL_H

#include <curl/curl.h>
#include <echoloop.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Called when a transfer has ended. Here easy may be removed from the multi handle, cleaned up or
 * added once more, other transfers begun, and echoloop_libcurl_detach() called.
 */
typedef void (*echoloop_libcurl_done)(void *user, CURL *easy, CURLcode result);

/* One socket of libcurl's; what curl_multi_assign() keeps with it. */
typedef struct echoloop_libcurl_socket {
    struct echoloop_libcurl *curl;
    echoloop_watch *watch;
    struct echoloop_libcurl_socket *next, **place; /* Where the one before points to this. */
} echoloop_libcurl_socket;

typedef struct echoloop_libcurl {
    echoloop *loop;
    CURLM *multi; /* NULL once detached. */
    echoloop_libcurl_done on_done;
    void *user;
    echoloop_timer *timer; /* A handle that may be stale. */
    echoloop_libcurl_socket *sockets;
    int busy; /* Calls of ours further up the stack. */
} echoloop_libcurl;

/* Lets libcurl act, then tells of the transfers that have ended. */
static inline void echoloop_libcurl_act(echoloop_libcurl *curl, curl_socket_t fd, int what)
{
    int count;
    CURLMsg *message;
    curl->busy++;
    curl_multi_socket_action(curl->multi, fd, what, &count);
    while (curl->multi != NULL && curl->on_done != NULL
           && (message = curl_multi_info_read(curl->multi, &count)) != NULL)
        if (message->msg == CURLMSG_DONE)
            curl->on_done(curl->user, message->easy_handle, message->data.result);
    if (--curl->busy == 0 && curl->multi == NULL)
        free(curl); /* Detached meanwhile. */
}

static inline void echoloop_libcurl_on_ready(void *user, echoloop_watch *watch, int readiness)
{
    echoloop_libcurl_socket *sock = (echoloop_libcurl_socket *)user;
    int what = 0; /* For an error alone: libcurl looks for itself, and finds its right name. */
    if (readiness & ECHOLOOP_READABLE)
        what |= CURL_CSELECT_IN;
    if (readiness & ECHOLOOP_WRITABLE)
        what |= CURL_CSELECT_OUT;
    if (readiness & ECHOLOOP_INVALID)
        what = CURL_CSELECT_ERR; /* Closed by somebody else. */
    echoloop_libcurl_act(sock->curl, echoloop_watch_fd(watch), what);
}

static inline void echoloop_libcurl_on_timer(void *user, echoloop_timer *timer)
{
    (void)timer;
    echoloop_libcurl_act((echoloop_libcurl *)user, CURL_SOCKET_TIMEOUT, 0);
}

static inline void echoloop_libcurl_forget(echoloop_libcurl_socket *sock)
{
    echoloop_watch_close(sock->watch); /* If it is gone already, this does nothing. */
    *sock->place = sock->next;
    if (sock->next != NULL)
        sock->next->place = sock->place;
    free(sock);
}

/* CURLMOPT_SOCKETFUNCTION. -1, for want of memory, makes libcurl give up all transfers. */
static inline int echoloop_libcurl_on_socket(CURL *easy, curl_socket_t fd, int what, void *user,
                                             void *known)
{
    echoloop_libcurl *curl = (echoloop_libcurl *)user;
    echoloop_libcurl_socket *sock = (echoloop_libcurl_socket *)known;
    int interest = (what & CURL_POLL_IN ? ECHOLOOP_READABLE : 0)
                   | (what & CURL_POLL_OUT ? ECHOLOOP_WRITABLE : 0);
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        curl_multi_assign(curl->multi, fd, NULL);
        if (sock != NULL)
            echoloop_libcurl_forget(sock);
        return 0;
    }
    if (sock == NULL) {
        sock = (echoloop_libcurl_socket *)calloc(1, sizeof *sock);
        if (sock == NULL)
            return -1;
        sock->curl = curl;
        sock->next = curl->sockets;
        sock->place = &curl->sockets;
        if (sock->next != NULL)
            sock->next->place = &sock->next;
        curl->sockets = sock;
        curl_multi_assign(curl->multi, fd, sock);
    } else if (echoloop_watch_modify(sock->watch, interest) >= 0) {
        return 0;
    }
    /* New; or closed without a word, and now another socket has its number. */
    echoloop_watch_close(sock->watch);
    if (echoloop_watch_new(curl->loop, fd, interest, NULL, sock, &sock->watch) < 0)
        return -1;
    return echoloop_watch_set_callback(sock->watch, echoloop_libcurl_on_ready) < 0 ? -1 : 0;
}

/* CURLMOPT_TIMERFUNCTION. A time of 0 is a timer too: libcurl must not be called from here. */
static inline int echoloop_libcurl_on_timeout(CURLM *multi, long timeout_ms, void *user)
{
    echoloop_libcurl *curl = (echoloop_libcurl *)user;
    (void)multi;
    if (timeout_ms < 0) {
        echoloop_timer_cancel(curl->timer);
        return 0;
    }
    if (echoloop_timer_rearm(curl->timer, ECHOLOOP_MS(timeout_ms)) >= 0)
        return 0;
    if (echoloop_timer_new(curl->loop, ECHOLOOP_MS(timeout_ms), 0, curl, &curl->timer) < 0)
        return -1;
    return echoloop_timer_set_callback(curl->timer, echoloop_libcurl_on_timer) < 0 ? -1 : 0;
}

/**
 * Drives the transfers of multi on loop, those that were added before and those that will be.
 * on_done may be NULL; then curl_multi_info_read() is left to the program. NULL: out of memory, or
 * one of the handles is bad.
 */
static inline echoloop_libcurl *echoloop_libcurl_attach(echoloop *loop, CURLM *multi,
                                                        echoloop_libcurl_done on_done, void *user)
{
    echoloop_libcurl *curl = (echoloop_libcurl *)calloc(1, sizeof *curl);
    if (curl == NULL)
        return NULL;
    curl->loop = loop;
    curl->multi = multi;
    curl->on_done = on_done;
    curl->user = user;
    if (curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, curl) != CURLM_OK
        || echoloop_libcurl_on_timeout(multi, 0, curl) < 0) {
        free(curl);
        return NULL;
    }
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, curl);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, echoloop_libcurl_on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, echoloop_libcurl_on_timeout);
    return curl;
}

/** Takes the transfers off the loop. Those under way stand still. NULL is fine. */
static inline void echoloop_libcurl_detach(echoloop_libcurl *curl)
{
    if (curl == NULL || curl->multi == NULL)
        return;
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, NULL);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, NULL);
    curl->multi = NULL;
    while (curl->sockets != NULL)
        echoloop_libcurl_forget(curl->sockets);
    echoloop_timer_cancel(curl->timer);
    if (curl->busy == 0)
        free(curl);
}

#ifdef __cplusplus
}
#endif

#endif
