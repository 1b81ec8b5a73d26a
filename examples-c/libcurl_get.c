/*
 * Gets many URLs at once by libcurl, on an echoloop.
 *
 *     make && build/libcurl_get https://example.org/ http://127.0.0.1:8000/{1..200}
 *
 * Prints for each how it ended, its size and its time. Exit code 1 if one failed.
 */
#include <echoloop.h>
#include <echoloop/adapters/libcurl.h>

#include <stdio.h>
#include <stdlib.h>

struct batch {
    echoloop *loop;
    CURLM *multi;
    int left, failed;
};

static size_t count_bytes(char *data, size_t size, size_t n, void *total)
{
    (void)data;
    *(size_t *)total += size * n;
    return size * n;
}

/* A transfer has ended. Others may be added here. */
static void on_done(void *user, CURL *easy, CURLcode result)
{
    struct batch *batch = user;
    char *url = NULL, *total = NULL;
    double seconds = 0;

    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &total);
    curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME, &seconds);
    printf("%s: %s, %zu bytes in %.3f s\n", url, curl_easy_strerror(result),
           *(size_t *)(void *)total, seconds);
    if (result != CURLE_OK)
        batch->failed = 1;
    curl_multi_remove_handle(batch->multi, easy);
    curl_easy_cleanup(easy);
    if (--batch->left == 0)
        echoloop_stop(batch->loop);
}

static int get(struct batch *batch, const char *url, size_t *total)
{
    CURL *easy = curl_easy_init();
    if (easy == NULL)
        return -1;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, count_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, total);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, total);
    if (curl_multi_add_handle(batch->multi, easy) == CURLM_OK)
        return 0;
    curl_easy_cleanup(easy);
    return -1;
}

int main(int argc, char **argv)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    struct batch batch = { NULL, NULL, 0, 0 };
    size_t *totals = calloc((size_t)argc, sizeof *totals);
    echoloop_libcurl *curl = NULL;
    int i;

    if (argc < 2 || totals == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        fprintf(stderr, "libcurl_get URL...\n");
        free(totals);
        return EXIT_FAILURE;
    }
    batch.loop = echoloop_new(NULL);
    batch.multi = curl_multi_init();
    if (batch.loop != NULL && batch.multi != NULL)
        curl = echoloop_libcurl_attach(batch.loop, batch.multi, on_done, &batch);
    for (i = 1; curl != NULL && i < argc; i++) {
        if (get(&batch, argv[i], &totals[i]) == 0)
            batch.left++;
        else
            batch.failed = 1;
    }
    if (batch.left == 0 || echoloop_run(batch.loop, &hooks, NULL) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
        batch.failed = 1;
    }
    echoloop_libcurl_detach(curl);
    curl_multi_cleanup(batch.multi);
    curl_global_cleanup();
    echoloop_free(batch.loop);
    free(totals);
    return batch.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
