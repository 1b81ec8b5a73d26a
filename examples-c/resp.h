/*
 * Cuts commands of RESP, the protocol of Redis, out of a stream of bytes, and keeps what they set. For
 * resp_server.c.
 *
 * A command is "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n": how many words, then each with its length. Words are
 * left as they are, "$3\r\nGET\r\n", in the bytes they came in; nothing is copied.
 */
#ifndef RESP_H
#define RESP_H

#include <search.h>
#include <stdlib.h>
#include <string.h>

enum { RESP_MORE = -1, RESP_WRONG = -2, RESP_WORDS = 3, RESP_LENGTH = 512 << 10 };

struct text {
    const char *at;
    size_t len;
};

/* Takes a mark, a number and CRLF off the input: the number, RESP_MORE or RESP_WRONG. */
static long resp_number(struct text *in, char mark)
{
    const char *end = in->len > 0 ? memchr(in->at, '\n', in->len) : NULL;
    long n = end != NULL ? strtol(in->at + 1, NULL, 10) : 0;
    if (end == NULL)
        return in->len < 32 ? RESP_MORE : RESP_WRONG;
    if (in->at[0] != mark || n < 0 || n > RESP_LENGTH)
        return RESP_WRONG;
    in->len -= (size_t)(end + 1 - in->at);
    in->at = end + 1;
    return n;
}

/* A command may also be a line, as a person types it: "PING\r\n". It counts as one word. */
static long resp_line(struct text *in, struct text *line)
{
    const char *end = memchr(in->at, '\n', in->len);
    if (end == NULL)
        return in->len < 1024 ? RESP_MORE : RESP_WRONG;
    line->at = in->at;
    line->len = (size_t)(end + 1 - in->at);
    in->at += line->len;
    in->len -= line->len;
    return 1;
}

/* Takes a command off the input: how many words it has, RESP_MORE (not all there yet) or RESP_WRONG. */
static long resp_command(struct text *in, struct text words[RESP_WORDS])
{
    long n, i, len;
    if (in->len > 0 && in->at[0] != '*')
        return resp_line(in, words);
    n = resp_number(in, '*');
    if (n == 0 || n > RESP_WORDS)
        return RESP_WRONG;
    for (i = 0; i < n; i++) {
        words[i].at = in->at;
        len = resp_number(in, '$');
        if (len < 0 || in->len < (size_t)len + 2)
            return len < 0 ? len : RESP_MORE;
        in->at += len + 2;
        in->len -= (size_t)len + 2;
        words[i].len = (size_t)(in->at - words[i].at);
    }
    return n;
}

struct pair {
    struct text key, value;
};
static void *pairs; /* A tree, tsearch(3). Values are kept as they came and are sent: "$1\r\nv\r\n". */

static int by_key(const void *a, const void *b)
{
    const struct text *x = a, *y = b;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : memcmp(x->at, y->at, x->len);
}

/* Keeps a value. The answer to be sent. */
static const char *resp_set(struct text key, struct text value)
{
    struct pair *made = malloc(sizeof *made + key.len + value.len), **kept;
    if (made == NULL)
        return "-ERR out of memory\r\n";
    made->key.at = memcpy(made + 1, key.at, key.len);
    made->value.at = memcpy((char *)(made + 1) + key.len, value.at, value.len);
    made->key.len = key.len;
    made->value.len = value.len;
    if ((kept = tsearch(made, &pairs, by_key)) == NULL) {
        free(made);
        return "-ERR out of memory\r\n";
    }
    if (*kept != made)
        free(*kept); /* The value before. */
    *kept = made;
    return "+OK\r\n";
}

/* The value of a key, or NULL. */
static const struct text *resp_get(struct text key)
{
    struct pair **found = tfind(&key, &pairs, by_key);
    return found != NULL ? &(*found)->value : NULL;
}

#endif
