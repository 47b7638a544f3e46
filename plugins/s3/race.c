/* race.c - eight writers at once, and how many of them win.
 *
 *     If-None-Match, five rounds: a new key, eight writes that must find none; one may succeed
 *     If-Match, five rounds:      the key as it is, eight writes that must find that; one may succeed
 *     DELETE with If-Match:       the key as it is, eight that name another etag; none may succeed
 *
 * For commits each writer first opens an upload and sends its part, so that the eight commits go out
 * together; the uploads of those who lost are aborted. All keys are new, ".penstock-probe-<random>" in
 * the directory of the key that is about to be written, where its writer may write, and all are removed: in
 * a bucket that keeps versions each version by its id, or, where that is denied, by one more marker.
 *
 * One winner in each round: obeyed. More than one: ignored. The condition refused (400, 501), or nobody
 * ever let through: the store does not take it. 409 is how a store says that two were at it at once: that
 * writer lost. Anything else leaves the question open and is the error of who asked. */
#include "race.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "attr.h"
#include "error.h"
#include "group.h"
#include "ops.h"
#include "text.h"
#include "xml.h"

#define STEM ".penstock-probe-"
#define KEY_BYTES (S3_KEY_MAX + 1)

/* What a write left behind. */
struct trace {
    pst_str key, version; /* version empty: the store gave none */
};

#define TRACES_MAX (S3_RACERS * S3_ROUNDS + 1 + S3_ROUNDS)

/* What one of the eight has, and how it fared. */
struct racer {
    struct race *race;
    pst_str id, part_etag; /* of its upload */
    char body[96];
    pst_iov iov;
    int has_won;
    struct trace swept; /* what it is removing */
    int is_second;      /* try of that */
};

enum phase { SETTING_UP, PREPARING, RACING, ABORTING, REMOVING };

struct race {
    pst_backend *store;
    pst_op *op;
    enum s3_conditional what;
    enum phase phase;
    struct s3_group *group;
    void (*over)(pst_op *, enum s3_conditional, enum s3_obedience, uint32_t, pst_rc);
    struct racer racers[S3_RACERS];
    uint32_t round;
    atomic_uint n_won, n_lost, n_refused;
    atomic_int has_failed;
    uint32_t n_winners_ever, n_won_last;
    enum s3_obedience verdict;
    pst_rc rc; /* of what left the question open */
    pst_error err;
    pst_str etag; /* of the key as it is */
    char random[33];
    char dir_and_stem[KEY_BYTES];
    pst_str key; /* of this round */
    pst_str keys[S3_ROUNDS];
    uint32_t n_keys;
    struct trace traces[TRACES_MAX];
    atomic_uint n_traces, next; /* next: of those to remove */
};

static int is_upload(const struct race *race)
{
    return race->what == S3_COMPLETE_CREATE || race->what == S3_COMPLETE_MATCH;
}

static int is_create(const struct race *race)
{
    return race->what == S3_PUT_CREATE || race->what == S3_COMPLETE_CREATE;
}

static void start(struct race *race, enum phase phase);

static void note_failure(struct race *race, pst_rc rc, const pst_error *err)
{
    if (atomic_exchange(&race->has_failed, 1))
        return;
    race->rc = rc;
    race->err = *err;
}

/* A write that was carried out: of a bucket that keeps versions, which one it made. */
static void keep_trace(struct race *race, const pst_http_reply *reply)
{
    pst_str version = s3_header(reply->headers, reply->n_headers, "x-amz-version-id");
    if (version.len == 0)
        return;
    version = s3_keep(race->op, version);
    uint32_t i = atomic_fetch_add(&race->n_traces, 1);
    if (i < TRACES_MAX)
        race->traces[i] = (struct trace){race->key, version};
}

/* Keys of which no version is known are removed as they are. */
static void trace_keys(struct race *race)
{
    uint32_t n = atomic_load(&race->n_traces);
    n = n < TRACES_MAX ? n : TRACES_MAX;
    for (uint32_t k = 0, n_known = n; k < race->n_keys && n < TRACES_MAX; k++) {
        int is_known = 0;
        for (uint32_t i = 0; i < n_known; i++)
            is_known |= race->traces[i].key.ptr == race->keys[k].ptr;
        if (!is_known)
            race->traces[n++] = (struct trace){race->keys[k], pst_str_of(NULL, 0)};
    }
    atomic_store(&race->n_traces, n);
}

/* ---- steps of a member ------------------------------------------------------------------------ */

static pst_rc send_put(struct s3_member *member, int is_conditional)
{
    struct racer *racer = member->state;
    const struct race *race = racer->race;
    struct s3_request *request = &member->request;
    s3_member_init(member, "PUT", race->key);
    if (is_conditional && is_create(race))
        s3_request_header(request, "if-none-match", PST_STR("*"));
    else if (is_conditional)
        s3_request_header(request, "if-match", race->etag);
    s3_new_object_send(request, NULL); /* policies may demand what the options say */
    request->body = &racer->iov;
    request->n_body = 1;
    request->flags = S3_CHANGES | (is_conditional ? S3_IS_CONDITIONAL : 0);
    return s3_request_send(request);
}

static pst_rc set_up(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    struct racer *racer = member->state;
    struct race *race = racer->race;
    uint32_t strength;
    if (racer != &race->racers[0])
        return PST_OK;
    if (rc == PST_OK && !reply) {
        rc = send_put(member, 0);
    } else if (rc == PST_OK) {
        race->etag = s3_keep_etag(race->op, s3_header(reply->headers, reply->n_headers, "etag"),
                                  &strength);
        keep_trace(race, reply);
    }
    if (rc == PST_OK && race->etag.len == 0)
        rc = s3_fail(&member->err, PST_E_DATA_LOSS, "the store gave no etag");
    if (rc != PST_OK && rc != PST_PENDING)
        note_failure(race, rc, &member->err);
    return rc;
}

static int32_t on_id(void *ctx, const char *path, pst_str text)
{
    struct racer *racer = ctx;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0)
        racer->id = s3_keep(racer->race->op, text);
    return PST_OK;
}

static pst_rc prepare(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    struct racer *racer = member->state;
    struct race *race = racer->race;
    struct s3_request *request = &member->request;
    uint32_t strength;
    if (rc == PST_OK && !reply) {
        racer->id = racer->part_etag = pst_str_of(NULL, 0);
        s3_member_init(member, "POST", race->key);
        s3_request_param(request, "uploads", PST_STR(""));
        s3_new_object_send(request, NULL);
        rc = s3_request_send(request);
    } else if (rc == PST_OK && racer->id.len == 0) {
        const struct s3_xml handler = {.end = on_id, .ctx = racer};
        rc = s3_xml_parse(reply->body, &handler);
        if (rc != PST_OK || racer->id.len == 0) {
            rc = s3_fail(&member->err, PST_E_DATA_LOSS, "the store gave no upload id");
        } else {
            s3_member_init(member, "PUT", race->key);
            s3_request_param(request, "partNumber", PST_STR("1"));
            s3_request_param(request, "uploadId", racer->id);
            s3_sse_c_headers(request, 0);
            request->body = &racer->iov;
            request->n_body = 1;
            rc = s3_request_send(request);
        }
    } else if (rc == PST_OK) {
        racer->part_etag = s3_keep_etag(
            race->op, s3_header(reply->headers, reply->n_headers, "etag"), &strength);
    }
    if (rc != PST_OK && rc != PST_PENDING)
        note_failure(race, rc, &member->err);
    return rc;
}

static pst_rc send_complete(struct s3_member *member)
{
    struct racer *racer = member->state;
    const struct race *race = racer->race;
    struct s3_request *request = &member->request;
    char etag[256];
    const size_t room = 600;
    char *text = s3_alloc(race->op, room);
    size_t len = s3_xml_escape(racer->part_etag, etag, sizeof(etag));
    if (!text || len >= sizeof(etag))
        return s3_fail(&member->err, PST_E_NO_MEMORY, "out of memory");
    etag[len] = '\0';
    int n = snprintf(text, room,
                     "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                     "<Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part>"
                     "</CompleteMultipartUpload>",
                     etag);
    racer->iov = (pst_iov){text, n > 0 ? (size_t)n : 0};
    s3_member_init(member, "POST", race->key);
    s3_request_param(request, "uploadId", racer->id);
    s3_request_header(request, "content-type", PST_STR("application/xml"));
    if (is_create(race))
        s3_request_header(request, "if-none-match", PST_STR("*"));
    else
        s3_request_header(request, "if-match", race->etag);
    s3_sse_c_headers(request, 0);
    request->body = &racer->iov;
    request->n_body = 1;
    request->flags = S3_CHANGES | S3_IS_CONDITIONAL;
    return s3_request_send(request);
}

static pst_rc send_delete(struct s3_member *member)
{
    const struct racer *racer = member->state;
    s3_member_init(member, "DELETE", racer->race->key);
    s3_request_header(&member->request, "if-match",
                      PST_STR("\"00000000000000000000000000000000\""));
    member->request.flags = S3_CHANGES | S3_IS_CONDITIONAL;
    return s3_request_send(&member->request);
}

static int32_t on_result(void *ctx, const char *path, pst_str text)
{
    struct racer *racer = ctx;
    uint32_t strength;
    if (strcmp(path, "CompleteMultipartUploadResult/ETag") == 0)
        racer->part_etag = s3_keep_etag(racer->race->op, text, &strength);
    return PST_OK;
}

static void take_win(struct s3_member *member, const pst_http_reply *reply)
{
    struct racer *racer = member->state;
    struct race *race = racer->race;
    const struct s3_xml handler = {.end = on_result, .ctx = racer};
    uint32_t strength;
    racer->has_won = 1;
    keep_trace(race, reply);
    if (is_upload(race))
        (void)s3_xml_parse(s3_skip_blanks(reply->body), &handler);
    else
        racer->part_etag = s3_keep_etag(
            race->op, s3_header(reply->headers, reply->n_headers, "etag"), &strength);
    atomic_fetch_add(&race->n_won, 1);
}

/* Does the store say that it takes no such condition? */
static int is_refusal(pst_rc rc, const pst_error *err)
{
    return rc == PST_E_UNIMPLEMENTED ||
           (rc == PST_E_INVALID && (strcmp(err->provider_code, "InvalidArgument") == 0 ||
                                    strcmp(err->provider_code, "InvalidRequest") == 0));
}

static pst_rc run(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    struct racer *racer = member->state;
    struct race *race = racer->race;
    struct s3_problem problem;
    racer->has_won = 0;
    if (rc == PST_OK && !reply) {
        rc = race->what == S3_DELETE_MATCH ? send_delete(member)
             : is_upload(race)             ? send_complete(member)
                                           : send_put(member, 1);
        if (rc == PST_PENDING)
            return rc;
    } else if (rc == PST_OK && is_upload(race) &&
               s3_problem_parse(s3_skip_blanks(reply->body), &problem)) {
        rc = s3_error_from_document(&member->request, &problem, reply);
    }
    if (rc == PST_OK)
        take_win(member, reply);
    else if (rc == PST_E_EXISTS || rc == PST_E_PRECONDITION || member->err.http_status == 409)
        atomic_fetch_add(&race->n_lost, 1);
    else if (is_refusal(rc, &member->err))
        atomic_fetch_add(&race->n_refused, 1);
    else
        note_failure(race, rc, &member->err);
    return rc;
}

static pst_rc give_up(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    const struct racer *racer = member->state;
    if (rc != PST_OK || reply || racer->has_won || racer->id.len == 0)
        return PST_OK;
    s3_member_init(member, "DELETE", racer->race->key);
    s3_request_param(&member->request, "uploadId", racer->id);
    return s3_request_send(&member->request);
}

static pst_rc sweep(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    struct racer *racer = member->state;
    struct race *race = racer->race;
    struct trace *swept = &racer->swept;
    int is_again = swept->key.len > 0 && !racer->is_second &&
                   ((member->err.flags & PST_ERR_RETRYABLE) ||
                    (rc == PST_E_DENIED && swept->version.len > 0));
    (void)reply;
    racer->is_second = is_again;
    if (is_again && rc == PST_E_DENIED) {
        swept->version = pst_str_of(NULL, 0);
    } else if (!is_again) { /* what cannot be removed stays: its name tells what it is */
        uint32_t next = atomic_fetch_add(&race->next, 1);
        if (next >= atomic_load(&race->n_traces))
            return PST_OK;
        *swept = race->traces[next];
    }
    s3_member_init(member, "DELETE", swept->key);
    if (swept->version.len > 0)
        s3_request_param(&member->request, "versionId", swept->version);
    return s3_request_send(&member->request);
}

/* ---- the course ------------------------------------------------------------------------------- */

static int new_key(struct race *race)
{
    size_t stem = strlen(race->dir_and_stem);
    char *text = s3_alloc(race->op, stem + 2);
    if (!text)
        return 0;
    memcpy(text, race->dir_and_stem, stem);
    text[stem] = (char)('0' + (int)race->n_keys);
    race->key = pst_str_of(text, stem + 1);
    race->keys[race->n_keys++] = race->key;
    return 1;
}

static void judge(struct race *race)
{
    uint32_t n_won = atomic_load(&race->n_won);
    uint32_t n_most = race->what == S3_DELETE_MATCH ? 0 : 1;
    race->n_won_last = n_won;
    race->n_winners_ever += n_won;
    race->round++;
    if (n_won > n_most)
        race->verdict = S3_IGNORED;
    else if (atomic_load(&race->has_failed))
        race->verdict = S3_NOT_KNOWN;
    else if (atomic_load(&race->n_refused) > 0)
        race->verdict = S3_REFUSED;
    else if (race->what == S3_DELETE_MATCH)
        race->verdict = S3_OBEYED;
    else if (race->round == S3_ROUNDS)
        race->verdict = race->n_winners_ever > 0 ? S3_OBEYED : S3_REFUSED;
    for (uint32_t i = 0; i < S3_RACERS; i++) {
        if (race->racers[i].has_won && race->racers[i].part_etag.len > 0)
            race->etag = race->racers[i].part_etag;
    }
}

static int is_decided(struct race *race)
{
    return race->verdict != S3_NOT_KNOWN || atomic_load(&race->has_failed);
}

static void begin_round(struct race *race)
{
    atomic_store(&race->n_won, 0);
    atomic_store(&race->n_lost, 0);
    atomic_store(&race->n_refused, 0);
    if (is_create(race) && !new_key(race)) {
        pst_error err = PST_ERROR_INIT;
        note_failure(race, s3_fail(&err, PST_E_NO_MEMORY, "out of memory"), &err);
        start(race, REMOVING);
        return;
    }
    start(race, is_upload(race) ? PREPARING : RACING);
}

static void end(struct race *race)
{
    pst_op *op = race->op;
    pst_rc rc = PST_OK;
    if (race->verdict == S3_NOT_KNOWN) {
        s3_error_copy(op->err, &race->err);
        op->err->flags &= ~PST_ERR_MAYBE_APPLIED; /* nothing of what was asked for was begun */
        rc = race->rc;
    }
    race->over(op, race->what, race->verdict, race->n_won_last, rc);
}

static void on_over(struct s3_group *group)
{
    struct race *race = group->state;
    int has_failed = atomic_load(&race->has_failed);
    switch (race->phase) {
    case SETTING_UP:
        if (has_failed)
            start(race, REMOVING);
        else
            begin_round(race);
        break;
    case PREPARING:
        start(race, has_failed ? ABORTING : RACING);
        break;
    case RACING:
        judge(race);
        if (is_upload(race))
            start(race, ABORTING);
        else if (is_decided(race))
            start(race, REMOVING);
        else
            begin_round(race);
        break;
    case ABORTING:
        if (is_decided(race))
            start(race, REMOVING);
        else
            begin_round(race);
        break;
    case REMOVING:
        end(race);
        break;
    }
}

static void start(struct race *race, enum phase phase)
{
    static pst_rc (*const steps[])(struct s3_member *, pst_rc, const pst_http_reply *) = {
        [SETTING_UP] = set_up, [PREPARING] = prepare, [RACING] = run,
        [ABORTING] = give_up,  [REMOVING] = sweep,
    };
    race->phase = phase;
    if (phase == REMOVING)
        trace_keys(race);
    race->group->step = steps[phase];
    race->group->is_tidying = phase == ABORTING || phase == REMOVING;
    for (uint32_t i = 0; i < S3_RACERS; i++) {
        struct racer *racer = &race->racers[i];
        /* Other bytes in each round: the winner's etag must not be the one that was there. */
        snprintf(racer->body, sizeof(racer->body), "%s phase %d round %" PRIu32 " writer %" PRIu32,
                 race->random, phase == SETTING_UP, race->round, i);
        racer->iov = (pst_iov){racer->body, strlen(racer->body)};
    }
    s3_group_start(race->group);
}

/* ".penstock-probe-" and 128 random bits, behind the directory of `key` if there is room. */
static pst_rc name_keys(struct race *race, pst_str key)
{
    uint8_t random[16];
    char text[2 * sizeof(random) + 1];
    const char *slash = key.len > 0 ? memrchr(key.ptr, '/', key.len) : NULL;
    size_t dir = slash ? (size_t)(slash - key.ptr) + 1 : 0;
    pst_rc rc = race->store->crypto->random(race->store->host, random, sizeof(random));
    if (rc != PST_OK)
        return rc;
    *s3_hex(text, random, sizeof(random)) = '\0';
    memcpy(race->random, text, sizeof(text));
    if (dir + sizeof(STEM) + sizeof(text) + 2 > S3_KEY_MAX)
        dir = 0;
    if (dir > 0)
        memcpy(race->dir_and_stem, key.ptr, dir);
    snprintf(race->dir_and_stem + dir, sizeof(race->dir_and_stem) - dir, STEM "%s-", text);
    return PST_OK;
}

int s3_race(pst_backend *store, pst_op *op, enum s3_conditional what, pst_str key,
            void (*over)(pst_op *, enum s3_conditional, enum s3_obedience, uint32_t, pst_rc))
{
    struct race *race = s3_alloc(op, sizeof(*race));
    struct s3_group *group = s3_group_new(store, op, S3_RACERS);
    if (!race || !group)
        return 0;
    memset(race, 0, sizeof(*race));
    race->store = store;
    race->op = op;
    race->what = what;
    race->over = over;
    race->group = group;
    race->err = (pst_error)PST_ERROR_INIT;
    group->state = race;
    group->over = on_over;
    for (uint32_t i = 0; i < S3_RACERS; i++) {
        race->racers[i].race = race;
        group->members[i].state = &race->racers[i];
    }
    if (name_keys(race, key) != PST_OK)
        return 0;
    if (is_create(race)) {
        begin_round(race);
        return 1;
    }
    if (!new_key(race))
        return 0;
    start(race, SETTING_UP);
    return 1;
}
