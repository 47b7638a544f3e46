#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../s3.h"
#include "../url.h"

/* An operation of one request: what every slot does, without its own part. */
static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_call *call = s3_call_of(request->op);

    if (rc == PST_OK && call->result) {
        assert_true(reply->body.len < 256);
        memcpy(call->result, reply->body.ptr, reply->body.len);
    }
    s3_complete(request->op, rc);
}

static struct s3_request *begin(struct fake *fake, struct fake_op *op, const char *method,
                                const char *key)
{
    fake_op_init(fake, op);
    struct s3_request *request = &s3_call_of(&op->op)->request;
    s3_request_init(request, fake->store, &op->op, method, s3_str(key));
    request->done = on_done;
    return request;
}

static pst_rc run(struct fake_op *op)
{
    return fake_run(op, s3_request_send(&s3_call_of(&op->op)->request));
}

static void test_request__goes_out_signed(void **state)
{
    struct fake fake;
    struct fake_op op;
    char body[256] = "";

    (void)state;
    fake_start(&fake, NULL);
    fake_answer(&fake, 200, NULL, "hello");
    struct s3_request *request = begin(&fake, &op, "GET", "a b/c");
    s3_call_of(&op.op)->result = body;
    s3_request_param(request, "versionId", PST_STR("1/2"));
    s3_request_headerf(request, "range", "bytes=%d-%d", 0, 4);
    assert_int_equal(run(&op), PST_OK);
    assert_string_equal(body, "hello");
    const struct fake_sent *sent = fake.sent[0];
    assert_string_equal(sent->method, "GET");
    assert_string_equal(sent->url, "http://127.0.0.1:9000/bucket/a%20b/c?versionId=1%2F2");
    assert_string_equal(fake_header(sent, "range"), "bytes=0-4");
    assert_string_equal(fake_header(sent, "host"), "127.0.0.1:9000");
    assert_non_null(strstr(fake_header(sent, "authorization"),
                           "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "));
    fake_op_fini(&op);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request__goes_out_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
