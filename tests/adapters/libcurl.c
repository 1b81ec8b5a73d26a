/* Scenarios for echoloop/adapters/libcurl.h: `libcurl SCENARIO URL [COUNT]`. */
#include <echoloop/adapters/libcurl.h>

#include <unistd.h>

#include "check.h"

#define MOST 200

/* One transfer: how much has come, and its checksum (FNV-1a). */
struct transfer {
    CURL *easy;
    int number, rounds;
    uint64_t len, sum;
};

static struct transfer transfers[MOST];
static CURLM *multi;
static echoloop_libcurl *curl;
static int running;
static CURLcode expected;
static int any_failure; /* Instead of the expected result. */

static size_t on_bytes(char *data, size_t size, size_t n, void *user)
{
    struct transfer *transfer = user;
    size_t i;
    for (i = 0; i < size * n; i++)
        transfer->sum = (transfer->sum ^ (unsigned char)data[i]) * 1099511628211u;
    transfer->len += size * n;
    return size * n;
}

static void begin(struct transfer *transfer, const char *url)
{
    transfer->easy = curl_easy_init();
    transfer->sum = 14695981039346656037u;
    CHECK(transfer->easy != NULL);
    CHECK(curl_easy_setopt(transfer->easy, CURLOPT_URL, url) == CURLE_OK);
    CHECK(curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK);
    CHECK(curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer) == CURLE_OK);
    CHECK(curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer) == CURLE_OK);
    CHECK(curl_easy_setopt(transfer->easy, CURLOPT_FAILONERROR, 1L) == CURLE_OK);
    CHECK(curl_multi_add_handle(multi, transfer->easy) == CURLM_OK);
    running++;
}

static struct transfer *of(CURL *easy)
{
    char *transfer;
    CHECK(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer) == CURLE_OK);
    return (struct transfer *)(void *)transfer;
}

static void end(struct transfer *transfer)
{
    CHECK(curl_multi_remove_handle(multi, transfer->easy) == CURLM_OK);
    curl_easy_cleanup(transfer->easy);
    transfer->easy = NULL;
    running--;
}

static void detach(void)
{
    echoloop_libcurl_detach(curl);
    curl = NULL;
    CHECK(echoloop_live_handles() == 1); /* The loop. */
}

/* The last one takes everything down, from where it is told. */
static void on_done(void *user, CURL *easy, CURLcode result)
{
    struct transfer *transfer = of(easy);
    (void)user;
    if (result != expected)
        fprintf(stderr, "%d: %s\n", transfer->number, curl_easy_strerror(result));
    CHECK(any_failure ? result != CURLE_OK : result == expected);
    printf("%d %llu %llx\n", transfer->number, (unsigned long long)transfer->len,
           (unsigned long long)transfer->sum);
    if (transfer->rounds-- > 0) {
        CHECK(curl_multi_remove_handle(multi, easy) == CURLM_OK);
        CHECK(curl_multi_add_handle(multi, easy) == CURLM_OK);
        return;
    }
    end(transfer);
    if (running == 0) {
        detach();
        CHECK(curl_multi_cleanup(multi) == CURLM_OK);
        stop();
    }
}

static void prepare(echoloop_libcurl_done done)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    multi = curl_multi_init();
    curl = echoloop_libcurl_attach(loop, multi, done, NULL);
    CHECK(curl != NULL);
}

/* URL0, URL1, ... all at once. */
static void parallel(char **arguments)
{
    int i, count = atoi(arguments[1]);
    char url[256];
    CHECK(count <= MOST);
    prepare(on_done);
    for (i = 0; i < count; i++) {
        transfers[i].number = i;
        snprintf(url, sizeof url, "%s%d", arguments[0], i);
        begin(&transfers[i], url);
    }
    run();
}

/* Each transfer is begun where the one before is told to have ended, on the same connection. */
static void again(char **arguments)
{
    prepare(on_done);
    transfers[0].rounds = 20;
    begin(&transfers[0], arguments[0]);
    run();
}

static void refused(char **arguments)
{
    prepare(on_done);
    expected = CURLE_COULDNT_CONNECT;
    begin(&transfers[0], arguments[0]);
    run();
}

/* A server that says nothing: only a timer can end it. */
static void silent(char **arguments)
{
    prepare(on_done);
    expected = CURLE_OPERATION_TIMEDOUT;
    begin(&transfers[0], arguments[0]);
    CHECK(curl_easy_setopt(transfers[0].easy, CURLOPT_TIMEOUT_MS, 100L) == CURLE_OK);
    run();
}

static void replace(void *user, echoloop_timer *timer)
{
    int ends[2];
    (void)timer;
    CHECK(pipe(ends) == 0);
    CHECK(dup2(ends[0], *(curl_socket_t *)user) >= 0);
    close(ends[0]);
    close(ends[1]);
}

static int note_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
    (void)purpose;
    *(curl_socket_t *)user = fd;
    later(ECHOLOOP_MS(20), replace, user);
    return CURL_SOCKOPT_OK;
}

/* Somebody closes the socket under libcurl, and opens another file of the same number. */
static void closed(char **arguments)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    prepare(on_done);
    any_failure = 1; /* It times out, or libcurl looks by itself and finds nothing to read. */
    begin(&transfers[0], arguments[0]);
    CHECK(curl_easy_setopt(transfers[0].easy, CURLOPT_TIMEOUT_MS, 1000L) == CURLE_OK);
    CHECK(curl_easy_setopt(transfers[0].easy, CURLOPT_SOCKOPTFUNCTION, note_socket) == CURLE_OK);
    CHECK(curl_easy_setopt(transfers[0].easy, CURLOPT_SOCKOPTDATA, &fd) == CURLE_OK);
    run();
}

static void detach_at_first(void *user, CURL *easy, CURLcode result)
{
    (void)user;
    CHECK(result == CURLE_OK);
    CHECK(running > 1);
    detach();
    end(of(easy));
    stop();
}

/* Taken off the loop by the first transfer that ends, and put on it again for the others. */
static void detached(char **arguments)
{
    int i, count = atoi(arguments[1]);
    char url[256];
    CHECK(count <= MOST);
    prepare(detach_at_first);
    for (i = 0; i < count; i++) {
        transfers[i].number = i;
        snprintf(url, sizeof url, "%s%d", arguments[0], i);
        begin(&transfers[i], url);
    }
    run();
    for (i = 0; i < count; i++)
        if (transfers[i].easy != NULL)
            end(&transfers[i]);
    CHECK(echoloop_libcurl_attach(loop, NULL, on_done, NULL) == NULL);
    begin(&transfers[0], url); /* Before there is anybody to drive it. */
    curl = echoloop_libcurl_attach(loop, multi, on_done, NULL);
    CHECK(curl != NULL);
    run();
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        { "parallel", parallel }, { "again", again },   { "refused", refused },
        { "silent", silent },     { "closed", closed }, { "detached", detached },
    };
    int status = play(scenarios, COUNT(scenarios), argc, argv);
    curl_global_cleanup();
    return status;
}
