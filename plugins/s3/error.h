/* error.h - what a reply that is no success means, in the terms of the host. */
#ifndef PST_S3_ERROR_H
#define PST_S3_ERROR_H

#include <penstock/services.h>

struct s3_request;

/* The fields of an <Error> document, cut to fit; "" where absent. */
struct s3_problem {
    char code[64], message[512], request_id[128], region[64], key[256];
};

/* Parse an error document. 0: `body` is none. */
int s3_problem_parse(pst_str body, struct s3_problem *out);

/* The same of a whole reply: one to HEAD has no body, some stores say it in headers then. */
void s3_problem_read(const pst_http_reply *reply, struct s3_problem *out);

/* Fill request->err from a reply that is no success or from a transport that failed, provider code first
 * (issue of classification: docs/errors.md); returns its code. */
pst_rc s3_error_from_reply(struct s3_request *request, pst_rc transport,
                           const pst_http_reply *reply);

/* The same for an error document that came with status 200. */
pst_rc s3_error_from_document(struct s3_request *request, const struct s3_problem *problem,
                              const pst_http_reply *reply);

struct s3_xml; /* xml.h */

/* Read the document of a reply of success. One that is an error document is that error; one that has not
 * the handler's root, or is not well-formed, is DATA_LOSS and may be asked for again. Fills
 * request->err. */
pst_rc s3_document_read(struct s3_request *request, const pst_http_reply *reply,
                        const struct s3_xml *handler);

/* Fill err->code and message; returns code. */
__attribute__((format(printf, 3, 4))) pst_rc s3_fail(pst_error *err, pst_rc code,
                                                     const char *format, ...);

#endif
