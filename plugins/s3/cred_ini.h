/* cred_ini.h - the files of AWS's tools, ~/.aws/config and ~/.aws/credentials, read where they lie. */
#ifndef PST_S3_CRED_INI_H
#define PST_S3_CRED_INI_H

#include <penstock/base.h>

/* 0: `text` is well-formed. Else the number of the first line that is not, and *what says why, without
 * a word of the line: it may be a secret. */
uint32_t s3_ini_check(pst_str text, const char **what);

/* Whether a section is there: "[name]" where `kind` is NULL, else "[kind name]". Name is compared byte
 * by byte; both may stand in quotes. */
int s3_ini_has(pst_str text, const char *kind, pst_str name);

/* The value of `key` (lower case; compared without case) in that section, the last one of several; 1.
 * 0: there is none, or it is empty. Lines indented below another setting belong to that one and are
 * never found. */
int s3_ini_get(pst_str text, const char *kind, pst_str name, const char *key, pst_str *value);

#endif
